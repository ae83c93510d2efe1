//! `--check`: what each source can count here, and how to fix what it can't.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use rustix::io::Errno;

use super::FAILURE;
use super::source::{MEND_UNREAD_KERNEL, UNREAD_KERNEL};
use crate::conntrack;
use crate::conntrack::ctnetlink::NewFlows;
use crate::conntrack::sysctls::Sysctls;
use crate::ebpf;
use crate::model::SourceKind;
use crate::monitor::{MEND_ACCOUNTING, MEND_MODULE, impediment};
use crate::netns::{self, NetnsId};
use crate::processes::Owners;
use crate::sockets::{self, SocketTable};

/// Gives a user other than root everything that the sources need.
const MEND_PRIVILEGES: &str = "run it as root, or allow it once: sudo setcap \
    cap_bpf,cap_perfmon,cap_net_admin,cap_sys_ptrace,cap_dac_read_search+ep \"$(command -v runmonitor)\"";

/// Gives access to every namespace.
const MEND_NAMESPACES: &str = "run it as root (CAP_SYS_ADMIN)";

/// The finding about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    subject: &'static str,
    works: bool,
    what: String,
    mend: Option<String>,
}

impl Finding {
    fn new(subject: &'static str, works: bool, what: String, mend: Option<&str>) -> Finding {
        Finding { subject, works, what, mend: mend.map(str::to_owned) }
    }
}

/// Takes one look at everything and writes the findings to `out`. The status is success if any
/// source works.
///
/// # Errors
/// Those of writing.
pub fn run(proc: &Path, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let sysctls = conntrack::sysctls::read(proc);
    let mut table = SocketTable::default();
    let conntrack = check_conntrack(proc, sysctls);
    let sockets = check_sockets(proc, &mut table);
    let processes = check_processes(proc, &table);
    let ebpf = check_ebpf(proc);
    let works = ebpf.works || conntrack.works || sockets.works;
    let auto = match (ebpf.works, conntrack.works) {
        (true, _) => SourceKind::Ebpf,
        (false, true) => SourceKind::Conntrack,
        (false, false) => SourceKind::Sockets,
    };
    for finding in
        [ebpf, conntrack, check_beginnings(sysctls), sockets, processes, check_namespaces(proc)]
    {
        write(&finding, out)?;
    }
    writeln!(out, "auto:       takes {auto}")?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

fn write(finding: &Finding, out: &mut impl Write) -> std::io::Result<()> {
    let works = if finding.works { "works" } else { "does not work" };
    let label = format!("{}:", finding.subject);
    writeln!(out, "{label:<11} {works}: {}", finding.what)?;
    if let Some(mend) = &finding.mend {
        writeln!(out, "{:<11} to mend it: {mend}", "")?;
    }
    Ok(())
}

fn check_ebpf(proc: &Path) -> Finding {
    match ebpf::Reader::open(proc, false) {
        Ok(reader) => ebpf_works(reader.capacity(), reader.reads_kernel()),
        Err(error) => Finding::new("ebpf", false, error.why().to_owned(), error.mend()),
    }
}

/// What eBPF counts, with `room` for so many sockets.
fn ebpf_works(room: usize, reads_kernel: bool) -> Finding {
    let all = format!("every socket's bytes are counted, of {room} at once");
    match reads_kernel {
        true => Finding::new("ebpf", true, all, None),
        false => {
            let what = format!("{all}; {UNREAD_KERNEL}");
            Finding::new("ebpf", true, what, Some(MEND_UNREAD_KERNEL))
        }
    }
}

fn check_conntrack(proc: &Path, sysctls: Sysctls) -> Finding {
    let finding = |works, what, mend| Finding::new("conntrack", works, what, mend);
    if let Some((why, mend)) = impediment(sysctls) {
        return finding(false, why.to_owned(), Some(mend));
    }
    let mut reader = conntrack::Reader::open(proc);
    let mut uncounted = 0u64;
    match reader.read(|flow| uncounted += u64::from(flow.counters.is_none())) {
        Err(error) => {
            let mend = if error.is_permission() { MEND_PRIVILEGES } else { MEND_MODULE };
            finding(false, error.to_string(), Some(mend))
        }
        Ok(table) => {
            let via = reader.via();
            let flows = table.flows;
            let malformed = match table.first_error {
                Some(error) => format!("; {} can't be read, first: {error}", table.malformed),
                None => String::new(),
            };
            if uncounted > 0 {
                let what = format!(
                    "{flows} flows through {via}, {uncounted} without counters: they began before \
                     accounting was on{malformed}"
                );
                let keep = format!("{MEND_ACCOUNTING} (at boot, before the network is up)");
                return finding(true, what, Some(&keep));
            }
            finding(true, format!("{flows} flows through {via}, with counters{malformed}"), None)
        }
    }
}

/// Whether the start of flows is announced: otherwise the process of a short flow may stay unknown.
fn check_beginnings(sysctls: Sysctls) -> Finding {
    let finding =
        |works, what: &str, mend| Finding::new("beginnings", works, what.to_owned(), mend);
    if sysctls.announced == Some(false) {
        let mend = "sudo sysctl -w net.netfilter.nf_conntrack_events=2";
        return finding(false, "new flows are not announced (nf_conntrack_events=0)", Some(mend));
    }
    match NewFlows::listen() {
        Ok(_) => finding(true, "new flows are announced, so that short ones have a name", None),
        Err(error) => finding(
            false,
            &format!("new flows can't be listened to: {error}; short ones have no name"),
            Some(MEND_PRIVILEGES),
        ),
    }
}

/// Whether processes in other network namespaces can be watched.
fn check_namespaces(proc: &Path) -> Finding {
    let finding = |works, what, mend| Finding::new("namespaces", works, what, mend);
    let own = netns::of(proc, "self").ok();
    let mut others: HashMap<NetnsId, u32> = HashMap::new();
    if let Ok(mut owners) = Owners::open(proc)
        && owners.list().is_ok()
    {
        others.extend(owners.namespaces().filter(|(id, _)| Some(*id) != own));
    }
    let count = match others.len() {
        0 => return finding(true, "every process is in this network namespace".to_owned(), None),
        1 => "1 other network namespace".to_owned(),
        many => format!("{many} other network namespaces"),
    };
    let refused = others.values().find_map(|pid| {
        let outcome = netns::inside(proc, &pid.to_string(), || ());
        outcome.err().filter(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    match refused {
        None => finding(true, format!("{count} can be watched, too (--netns)"), None),
        Some(error) => {
            finding(false, format!("{count} can't be gone into: {error}"), Some(MEND_NAMESPACES))
        }
    }
}

fn check_sockets(proc: &Path, table: &mut SocketTable) -> Finding {
    let finding = |works, what, mend| Finding::new("sockets", works, what, mend);
    match sockets::Reader::open(proc).read(true, table) {
        Err(error) => finding(false, error.to_string(), None),
        Ok(listing) if listing.tcp_from_proc => finding(
            false,
            "sock_diag is refused, so TCP sockets have no counters".to_owned(),
            Some("sudo modprobe tcp_diag"),
        ),
        Ok(_) => {
            let connected = table.iter().filter(|s| s.counters.is_some() && s.is_connected());
            let what = format!("{} connected TCP sockets with counters", connected.count());
            finding(true, what, None)
        }
    }
}

fn check_processes(proc: &Path, table: &SocketTable) -> Finding {
    let finding = |works, what, mend| Finding::new("processes", works, what, mend);
    let looked = Owners::open(proc).and_then(|mut owners| owners.look(table.inodes()));
    match looked {
        Err(errno) => finding(
            false,
            format!("{}: {errno}", proc.display()),
            match errno {
                Errno::NOENT | Errno::NOTDIR => Some("sudo mount -t proc proc /proc"),
                Errno::MFILE => Some("ulimit -n 1024"),
                _ => None,
            },
        ),
        Ok(look) if look.denied > 0 => finding(
            true,
            format!(
                "the descriptors of {} of {} processes can't be read: what these send and receive \
                 has no name",
                look.denied, look.processes
            ),
            Some(MEND_PRIVILEGES),
        ),
        Ok(look) if !look.whole => finding(
            true,
            format!("{} processes, those of this PID namespace", look.processes),
            Some("run it in the host's PID namespace (for a container: --pid=host)"),
        ),
        Ok(look) => {
            finding(true, format!("the descriptors of all {} are read", look.processes), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(proc: &Path) -> (String, ExitCode) {
        let mut out = Vec::new();
        let code = run(proc, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn where_there_is_no_proc_the_kernel_still_counts_at_sockets() {
        let (text, code) = report(Path::new("/nonexistent"));
        assert!(text.contains("conntrack:  does not work: this kernel has no"), "{text}");
        assert!(text.contains("to mend it: sudo modprobe nf_conntrack"), "{text}");
        assert!(text.contains("sockets:    works: "), "{text}");
        assert!(text.contains("processes:  does not work: /nonexistent: "), "{text}");
        assert!(text.contains("auto:       takes sockets"), "{text}");
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }

    #[test]
    fn what_ebpf_does_not_count_is_said_where_it_can_not_read_the_kernel() {
        let whole = ebpf_works(131_072, true);
        let expected = "every socket's bytes are counted, of 131072 at once";
        assert_eq!(whole, Finding::new("ebpf", true, expected.to_owned(), None));
        let less = ebpf_works(131_072, false);
        assert!(less.works);
        assert!(
            less.what.starts_with(&format!("{expected}; what packet sockets send and packets "))
        );
        assert_eq!(less.mend.as_deref(), Some(MEND_UNREAD_KERNEL));
    }

    #[test]
    fn a_finding_is_a_line_and_its_mend_another() {
        let finding = Finding {
            subject: "sockets",
            works: false,
            what: "refused".to_owned(),
            mend: Some("sudo modprobe tcp_diag".to_owned()),
        };
        let mut out = Vec::new();
        write(&finding, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "sockets:    does not work: refused\n            to mend it: sudo modprobe tcp_diag\n"
        );
    }
}
