//! The command line: flags, messages, signals and exit statuses. Each program's `main` only calls
//! its `run` and maps the result to an exit status.

pub mod check;
mod forwarding;
mod messages;
mod notices;
pub mod output;
mod pipe_words;
mod run;
pub mod runaggregator;
pub mod runmonitor;
pub mod runpipe;
mod schedule;
mod signals;
mod source;
mod terminal;
mod top;
pub mod view;

pub use schedule::Refreshes;
pub use top::Top;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::escape::visible;
use terminal::Escaping;

/// Exit status for wrong usage or configuration.
pub const USAGE: u8 = 2;
/// Exit status for a failure at run time.
pub const FAILURE: u8 = 1;

/// Writes one line to standard error: the program's name, a colon, the message. The message is made
/// safe to print. A standard error that is closed is no error.
pub fn say(program: &str, message: &str) {
    let _ = writeln!(Escaping::on(io::stderr()), "{}", line(program, message));
}

/// A message as a line without its newline: the program's name, a colon, and the message, made safe
/// to print.
fn line(program: &str, message: &str) -> String {
    format!("{program}: {}", visible(message.as_bytes()))
}

/// Whether the next refresh of standard output wipes messages off the screen. Each refresh clears
/// it if it `is_screen`.
fn is_wiped(is_screen: bool) -> bool {
    is_screen && io::stderr().is_terminal()
}

/// Ends a program whose arguments clap has not accepted. Help and version go to standard output; an
/// error is one line.
///
/// # Errors
/// Those of writing the help.
fn usage(program: &str, error: &clap::Error) -> anyhow::Result<ExitCode> {
    if !error.use_stderr() {
        Escaping::on(io::stdout()).write_all(error.render().to_string().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    say(program, &one_line(&error.render().to_string()));
    Ok(ExitCode::from(USAGE))
}

/// clap's message in one line: the error and its tips, without the usage.
fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join(" ");
    format!("{} (try --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// The exit status of a result: a broken pipe is a normal end, an error prints one line.
pub fn finish(program: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(program, &format!("{error:#}"));
            ExitCode::from(FAILURE)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_one_line() {
        let message = "error: unexpected argument '--bandwith' found\n\n  tip: a similar argument \
                       exists: '--bandwidth'\n\nUsage: runmonitor [OPTIONS]\n\nFor more \
                       information, try '--help'.\n";
        assert_eq!(
            one_line(message),
            "unexpected argument '--bandwith' found tip: a similar argument exists: '--bandwidth' \
             (try --help)"
        );
    }
}
