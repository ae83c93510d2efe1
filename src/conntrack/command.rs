//! Conntrack's table from the program `conntrack`, for hosts where neither the kernel's text nor
//! netlink can be read.

use std::ffi::OsStr;
use std::io::{self, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use thiserror::Error;

use super::text::{self, Table};
use crate::model::flow::Flow;

/// Bytes of the program's standard error that are kept.
const STDERR_MAX: u64 = 4096;

/// Why the program `conntrack` gave no table.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    /// The program is not installed.
    #[error("{program}: program not found (on Debian: apt-get install conntrack)")]
    NotFound {
        /// The program's name or path, escaped.
        program: String,
    },
    /// The program failed; usually it lacks `CAP_NET_ADMIN`.
    #[error("{program}: {status}: {message}")]
    Failed {
        /// The program's name or path, escaped.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// The first line of its standard error, escaped; may be empty.
        message: String,
    },
    /// Starting the program, reading its output or waiting for it failed.
    #[error("{program}: cannot {doing}")]
    Io {
        /// The program's name or path, escaped.
        program: String,
        /// The step that failed.
        doing: &'static str,
        /// The error.
        source: io::Error,
    },
}

/// Runs `conntrack -L -o extended,id` for both families and hands every flow to `each`.
///
/// The sums are over both families. The line number of the first error counts within the listing of
/// its family.
///
/// # Errors
///
/// The program is not installed, fails, or can't be read. Flows that were listed before have been
/// handed on, and are only a part of the table.
pub(super) fn read(each: impl FnMut(&Flow)) -> Result<Table, CommandError> {
    read_with(|family| listing("conntrack".as_ref(), family), each)
}

/// The command that lists `family`.
///
/// Both families are always named: without a family, conntrack 1.4.7 lists both, older versions and
/// the manual pages list IPv4 alone, and listing both twice would count IPv6 twice.
fn listing(program: &OsStr, family: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-L", "-f", family, "-o", "extended,id"]);
    command
}

fn read_with(
    command: impl Fn(&str) -> Command,
    mut each: impl FnMut(&Flow),
) -> Result<Table, CommandError> {
    let mut sum = run(command("ipv4"), &mut each)?;
    let ipv6 = run(command("ipv6"), &mut each)?;
    sum.flows += ipv6.flows;
    sum.malformed += ipv6.malformed;
    sum.first_error = sum.first_error.or(ipv6.first_error);
    Ok(sum)
}

fn run(mut command: Command, each: impl FnMut(&Flow)) -> Result<Table, CommandError> {
    let program = command.get_program().as_encoded_bytes().escape_ascii().to_string();
    let failed = |doing| {
        let program = program.clone();
        move |source| CommandError::Io { program, doing, source }
    };
    // The C locale: ctime and messages of the system are parsed or shown unchanged.
    command.env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CommandError::NotFound { program });
        }
        Err(error) => return Err(failed("start it")(error)),
    });

    // In another thread, because a program that fills one pipe while the other one is read would
    // block for ever.
    let stderr = child.0.stderr.take();
    let said = thread::Builder::new()
        .name("conntrack-stderr".to_owned())
        .spawn(move || stderr.map_or_else(|| Ok(Vec::new()), first_bytes))
        .map_err(failed("read its errors"))?;
    let table = match child.0.stdout.take() {
        Some(stdout) => text::read_table(BufReader::new(stdout), each),
        None => Ok(Table::default()),
    }
    .map_err(failed("read its output"))?;
    let status = child.0.wait().map_err(failed("wait for it"))?;
    if status.success() {
        // After a successful listing it writes a count to its standard error, which is not needed.
        return Ok(table);
    }
    // The message explains the failure; an error of reading it must not hide the failure.
    let said = said.join().ok().and_then(Result::ok).unwrap_or_default();
    let line = said.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|l| !l.is_empty());
    let message = line.unwrap_or_default().escape_ascii().to_string();
    Err(CommandError::Failed { program, status, message })
}

/// The first bytes of `stderr`. The rest is read too: a closed pipe could end the program.
fn first_bytes(mut stderr: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stderr.by_ref().take(STDERR_MAX).read_to_end(&mut bytes)?;
    io::copy(&mut stderr, &mut io::sink())?;
    Ok(bytes)
}

/// A child that is killed and reaped when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // After a successful wait both do nothing: the standard library remembers the status.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: &str = "ipv4 2 udp 17 28 src=10.9.0.1 dst=10.9.0.2 sport=1 dport=2 bytes=5 \
                        src=10.9.0.2 dst=10.9.0.1 sport=2 dport=1 bytes=6 use=1 id=7";
    const IPV6: &str = "ipv6 10 udp 17 28 src=fd00::1 dst=fd00::2 sport=1 dport=2 [UNREPLIED] \
                        src=fd00::2 dst=fd00::1 sport=2 dport=1 use=1 id=8";

    /// A shell that runs `script` with the family in `$1`, in the place of conntrack.
    fn shell(script: &str) -> impl Fn(&str) -> Command {
        move |family| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", family]);
            command
        }
    }

    #[test]
    fn each_family_is_asked_for_by_name() {
        let command = listing("conntrack".as_ref(), "ipv6");
        assert_eq!(command.get_program(), "conntrack");
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["-L", "-f", "ipv6", "-o", "extended,id"]);
    }

    #[test]
    fn both_listings_are_read_and_summed() {
        let script = format!(
            "echo entries shown >&2; case $1 in ipv4) echo '{IPV4}';; \
             ipv6) echo oops; echo '{IPV6}';; esac"
        );
        let mut generations = Vec::new();
        let table =
            read_with(shell(&script), |flow| generations.push(flow.generation)).expect("a table");
        assert_eq!(generations, [Some(7), Some(8)]);
        assert_eq!((table.flows, table.malformed), (2, 1));
        assert_eq!(table.first_error.map(|(line, _)| line), Some(1));
    }

    #[test]
    fn the_program_has_the_c_locale_and_an_empty_stdin() {
        let script = format!("[ \"$LC_ALL\" = C ] && ! read x && echo '{IPV4}'");
        assert_eq!(read_with(shell(&script), |_| ()).expect("a table").flows, 2);
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = read_with(|family| listing("/nowhere/con\ntrack".as_ref(), family), |_| ())
            .expect_err("no program");
        assert!(matches!(error, CommandError::NotFound { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("/nowhere/con\\ntrack"), "{text}");
        assert!(text.contains("apt-get install conntrack"), "{text}");
    }

    #[test]
    fn a_failure_is_told_with_the_first_line_of_stderr_escaped() {
        let script = "printf '\\n\\033[31mOperation failed\\nmore\\n' >&2; exit 3";
        let error = read_with(shell(script), |_| ()).expect_err("a failure");
        assert_eq!(error.to_string(), "sh: exit status: 3: \\x1b[31mOperation failed");
    }

    #[test]
    fn a_failure_of_the_second_family_is_one() {
        let script = format!("[ $1 = ipv4 ] && echo '{IPV4}'");
        let mut flows = 0;
        let error = read_with(shell(&script), |_| flows += 1).expect_err("a failure");
        assert!(matches!(error, CommandError::Failed { ref message, .. } if message.is_empty()));
        assert_eq!(flows, 1);
    }

    // Bug it guards against: a program blocked on a full stderr pipe never closes its stdout.
    #[test]
    fn much_stderr_neither_blocks_nor_is_kept() {
        let script = format!("head -c 300000 /dev/zero | tr '\\0' e >&2; echo '{IPV4}'; exit 1");
        match read_with(shell(&script), |_| ()).expect_err("a failure") {
            CommandError::Failed { message, .. } => assert_eq!(message.len() as u64, STDERR_MAX),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_that_is_killed_is_a_failure() {
        let error = read_with(shell("kill -9 $$"), |_| ()).expect_err("a failure");
        assert!(error.to_string().contains("signal: 9"), "{error}");
    }
}
