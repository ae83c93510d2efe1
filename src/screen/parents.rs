//! The ancestors of a process, from `/proc`.

use std::fs;
use std::path::Path;

use crate::escape::visible_without;
use crate::model::ProcessId;
use crate::model::traffic::Name;

/// Ancestors of a process, at most.
const MOST: usize = 16;

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat<'a> {
    comm: &'a [u8],
    parent: u32,
    start: u64,
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)); `None` if it is not complete.
fn parse(stat: &[u8]) -> Option<Stat<'_>> {
    // The name is the process's choice, and may have parentheses.
    let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = stat.get(begin..end)?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat { comm, parent, start })
}

/// The pids and short names of the ancestors, the nearest first; none if the process is gone.
pub(super) fn of(proc: &Path, process: ProcessId) -> Vec<(u32, Name)> {
    let read = |pid: u32| fs::read(proc.join(pid.to_string()).join("stat")).ok();
    let mut found = Vec::new();
    let Some(stat) = read(process.pid) else { return found };
    let Some(first) = parse(&stat).filter(|stat| stat.start == process.start_time) else {
        return found;
    };
    let mut next = first.parent;
    while next != 0 && found.len() < MOST {
        let Some(stat) = read(next) else { break };
        let Some(of) = parse(&stat) else { break };
        found.push((next, Name::from(of.comm)));
        next = of.parent;
    }
    found
}

/// A short name as it stands in the list of ancestors, `sshd (42) ← systemd (1)`. The process chooses it, so that what
/// could separate two ancestors is escaped: signs beyond ASCII, `<`, and the first digit of a number in parentheses.
pub(super) fn shown(comm: &[u8]) -> String {
    let mut before = ' ';
    visible_without(comm, |c| {
        let is_number = c.is_numeric() && before == '(';
        before = c;
        is_number || c == '<' || !c.is_ascii() && !c.is_alphanumeric()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_fields() {
        let stat = b"42 (a) S 1 (b) S 7 42 42 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 99 0 0";
        let expected = Stat { comm: b"a) S 1 (b", parent: 7, start: 99 };
        assert_eq!(parse(stat), Some(expected));
        for cut in [&b""[..], b"42 (a", b"42 (a)", b")(", b"42 (a) S 1 2"] {
            assert_eq!(parse(cut), None);
        }
    }

    #[test]
    fn one_ancestor_is_never_read_as_two() {
        for (comm, expected) in [
            ("sshd", "sshd"),
            ("(sd-pam)", "(sd-pam)"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("a (9) \u{2190} sshd", r"a (\x39) \u{2190} sshd"),
            ("a (9) < sshd", r"a (\x39) \x3c sshd"),
            ("a \u{27f5} b", r"a \u{27f5} b"),
            ("a \u{ffe9} b", r"a \u{ffe9} b"),
            ("a\x1b[2J", r"a\x1b[2J"),
        ] {
            assert_eq!(shown(comm.as_bytes()), expected);
        }
    }

    #[test]
    fn this_process_has_ancestors_and_one_that_is_gone_has_none() {
        let proc = Path::new("/proc");
        let stat = fs::read("/proc/self/stat").unwrap();
        let start_time = parse(&stat).unwrap().start;
        let pid = std::process::id();
        let parents = of(proc, ProcessId { start_time, pid });
        assert!(!parents.is_empty());
        assert_eq!(of(proc, ProcessId { start_time: start_time + 1, pid }), []);
    }
}
