//! The processes and bytes that several monitors select of one source.

use crate::filter::Filter;
use crate::model::traffic::Name;
use crate::model::{Attributes, ProcessId};

/// The selected bytes of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Bytes to or from other hosts.
    pub remote: bool,
    /// Bytes that never left this host.
    pub local: bool,
}

impl Selected {
    /// All of them.
    pub const ALL: Selected = Selected { remote: true, local: true };

    /// Whether any are.
    pub const fn any(self) -> bool {
        self.remote || self.local
    }
}

/// Processes by their pids and users. Others are left out, whatever monitors select.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// Pids of processes; empty for all.
    pub pids: Vec<u32>,
    /// Names of users, or the numbers of those without a name; empty for all.
    pub users: Vec<Name>,
}

impl Only {
    /// Whether all processes are selected.
    pub fn is_all(&self) -> bool {
        self.pids.is_empty() && self.users.is_empty()
    }

    /// Whether a process is selected. Its user is one of its attributes.
    pub fn selects(&self, process: ProcessId, attributes: Option<&Attributes>) -> bool {
        let user = || attributes.and_then(|of| of.user.as_ref());
        (self.pids.is_empty() || self.pids.contains(&process.pid))
            && (self.users.is_empty() || user().is_some_and(|user| self.users.contains(user)))
    }
}

/// The selection of one monitor.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The processes, by their command lines.
    pub filter: Filter,
    /// Whether bytes that never left this host are left out.
    pub ignore_local: bool,
    /// Whether the monitor reads the source in question. What a monitor of another source selects
    /// is counted there, and not here.
    pub here: bool,
}

/// The selection of all monitors at one source.
///
/// Bytes that several monitors select are counted once, by the first of them.
#[derive(Clone, Debug)]
pub struct Selection {
    selectors: Vec<Selector>,
}

impl Selection {
    /// The selection of these monitors, in their order.
    pub fn new(selectors: Vec<Selector>) -> Selection {
        Selection { selectors }
    }

    /// The selected bytes of processes with a command line, which is neither cut nor escaped.
    pub fn of(&self, command_line: &[u8]) -> Selected {
        let mut selecting =
            self.selectors.iter().filter(|selector| selector.filter.selects(command_line));
        let Some(first) = selecting.next() else { return Selected::default() };
        let local = if first.ignore_local {
            selecting.find(|selector| !selector.ignore_local).is_some_and(|selector| selector.here)
        } else {
            first.here
        };
        Selected { remote: first.here, local }
    }

    /// The selected bytes without a process, which no monitor's filter can leave out.
    pub fn of_unattributed(&self) -> Selected {
        Selected {
            remote: self.selectors.first().is_some_and(|first| first.here),
            local: self.selectors.iter().find(|s| !s.ignore_local).is_some_and(|s| s.here),
        }
    }
}

impl Default for Selection {
    /// Everything.
    fn default() -> Selection {
        let filter = Filter::default();
        Selection { selectors: vec![Selector { filter, ignore_local: false, here: true }] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(include: &str, ignore_local: bool, here: bool) -> Selector {
        let filter = Filter::new(&[include.to_owned()], &[]).unwrap();
        Selector { filter, ignore_local, here }
    }

    const REMOTE: Selected = Selected { remote: true, local: false };
    const LOCAL: Selected = Selected { remote: false, local: true };
    const NONE: Selected = Selected { remote: false, local: false };

    #[test]
    fn everything_is_the_default() {
        assert_eq!(Selection::default().of(b"any"), Selected::ALL);
        assert_eq!(Selection::default().of_unattributed(), Selected::ALL);
    }

    #[test]
    fn what_any_monitor_selects_is_counted() {
        let selection = Selection::new(vec![
            selector("ssh", true, true),
            selector("wget|sshd", false, true),
            selector("curl", true, true),
        ]);
        for (command_line, expected) in [
            ("ssh", REMOTE),
            ("sshd", Selected::ALL),
            ("wget", Selected::ALL),
            ("curl", REMOTE),
            ("mutt", NONE),
        ] {
            assert_eq!(selection.of(command_line.as_bytes()), expected, "{command_line}");
        }
        assert_eq!(selection.of_unattributed(), Selected::ALL);
    }

    /// Each byte is counted at one source: the one of the first monitor that selects it.
    #[test]
    fn the_first_monitor_decides_on_the_source() {
        let monitors = |here: [bool; 2]| {
            Selection::new(vec![
                selector("ssh", true, here[0]),
                selector("ssh|wget", false, here[1]),
            ])
        };
        let (one, other) = (monitors([true, false]), monitors([false, true]));
        assert_eq!((one.of(b"ssh"), other.of(b"ssh")), (REMOTE, LOCAL));
        assert_eq!((one.of(b"wget"), other.of(b"wget")), (NONE, Selected::ALL));
        assert_eq!((one.of_unattributed(), other.of_unattributed()), (REMOTE, LOCAL));
    }

    #[test]
    fn no_monitor_selects_nothing() {
        assert!(!Selection::new(Vec::new()).of(b"ssh").any());
        assert!(!Selection::new(Vec::new()).of_unattributed().any());
    }
}
