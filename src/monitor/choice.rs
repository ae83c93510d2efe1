//! Which source is taken: what was asked for, and what this kernel and user allow.

use std::fmt;
use std::path::Path;

use crate::conntrack::state::{self, State};
use crate::environment::WatchError;
use crate::model::{SourceChoice, SourceKind};

/// Switches counting on.
pub(crate) const MEND_ACCOUNTING: &str = "sudo sysctl -w net.netfilter.nf_conntrack_acct=1";
/// Makes the kernel have connection tracking.
pub(crate) const MEND_MODULE: &str = "sudo modprobe nf_conntrack";
/// Makes the kernel track: any rule that asks for a connection's state does.
pub(crate) const MEND_HOOKS: &str = "sudo nft 'add table inet bwmon { chain track { \
    type filter hook input priority 0; ct state new; }; }'";
/// Lets it ask the kernel.
const MEND_PERMISSION: &str = "run it as root (CAP_NET_ADMIN)";

/// What there is to be said of the choice of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This is what was taken, and the best there is.
    Taken(SourceKind),
    /// There is no eBPF, for this reason.
    NoEbpf(String),
    /// Sockets are watched, for want of anything better.
    Instead {
        /// Why connection tracking was not taken.
        why: String,
        /// What would mend it, if that is known.
        mend: Option<&'static str>,
    },
    /// Connection tracking was asked for, and doesn't count everything.
    Impeded {
        /// Why.
        why: &'static str,
        /// What would mend it.
        mend: &'static str,
    },
    /// A user without privileges sees the TCP payload of his own processes.
    Unprivileged {
        /// Processes whose descriptors he may not read.
        denied: usize,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Taken(SourceKind::Ebpf) => {
                f.write_str("source ebpf: the kernel counts the bytes of every socket from now on")
            }
            Notice::Taken(SourceKind::Conntrack) => {
                f.write_str("source conntrack: it is on and counts the bytes of all flows")
            }
            Notice::Taken(SourceKind::Sockets) => {
                f.write_str("source sockets: payload bytes of TCP only")
            }
            Notice::NoEbpf(why) => write!(f, "no source ebpf: {why}"),
            Notice::Instead { why, mend } => {
                write!(f, "source sockets (payload bytes of TCP only): {why}")?;
                mend.map_or(Ok(()), |mend| write!(f, "; to mend it: {mend}"))
            }
            Notice::Impeded { why, mend } => write!(f, "{why}; to mend it: {mend}"),
            Notice::Unprivileged { denied } => write!(
                f,
                "not root: it sees the TCP payload of your own processes, and not what {denied} others \
                 send and receive (source sockets)"
            ),
        }
    }
}

/// Why no source could be had.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct OpenError {
    /// Why those before were not taken.
    pub refused: Vec<Notice>,
    /// Why the last one that was tried can't be.
    pub error: WatchError,
}

impl From<OpenError> for WatchError {
    fn from(error: OpenError) -> WatchError {
        error.error
    }
}

/// Why connection tracking doesn't count here, with what mends it; `None` if it does.
pub(crate) fn impediment(state: State) -> Option<(&'static str, &'static str)> {
    match state {
        State { accounting: None, .. } => {
            Some(("this kernel has no connection tracking loaded", MEND_MODULE))
        }
        State { accounting: Some(false), .. } => Some((
            "conntrack's accounting is off (net.netfilter.nf_conntrack_acct=0)",
            MEND_ACCOUNTING,
        )),
        State { entries: Some(0), .. } => Some((
            "conntrack's table is empty: no rule makes the kernel track in this network \
             namespace, or nothing was sent yet",
            MEND_HOOKS,
        )),
        _ => None,
    }
}

/// The source to try first, and the others in their order, of which the last has to do.
pub(super) fn candidates(choice: SourceChoice) -> (SourceKind, &'static [SourceKind]) {
    match choice {
        SourceChoice::Ebpf => (SourceKind::Ebpf, &[]),
        SourceChoice::Conntrack => (SourceKind::Conntrack, &[]),
        SourceChoice::Sockets => (SourceKind::Sockets, &[]),
        SourceChoice::Auto => (SourceKind::Ebpf, &[SourceKind::Conntrack, SourceKind::Sockets]),
    }
}

/// What `auto` says of a source that it doesn't take because this happened.
pub(super) fn refused(source: SourceKind, error: &WatchError) -> Notice {
    match (source, error) {
        (SourceKind::Ebpf, WatchError::Ebpf(error)) => Notice::NoEbpf(error.to_string()),
        (SourceKind::Ebpf, error) => Notice::NoEbpf(error.to_string()),
        (_, WatchError::Conntrack(error)) => {
            let mend = if error.is_permission() { MEND_PERMISSION } else { MEND_MODULE };
            Notice::Instead { why: error.to_string(), mend: Some(mend) }
        }
        (_, error) => Notice::Instead { why: error.to_string(), mend: None },
    }
}

/// Why connection tracking is of no use through the procfs at `proc`.
pub(super) fn impeded(proc: &Path) -> Option<(&'static str, &'static str)> {
    impediment(state::read(proc))
}

/// What a choice comes to, if that is among those that are `open` already.
pub(crate) fn known(
    choice: SourceChoice,
    mut open: impl Iterator<Item = SourceKind>,
) -> Option<SourceKind> {
    // Of several only trying tells which is allowed; the first one that is open was.
    let (first, _) = candidates(choice);
    open.find(|open| *open == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntrack_counts_where_it_is_on_and_has_flows() {
        let alive = State { accounting: Some(true), entries: Some(1), ..State::default() };
        assert_eq!(impediment(alive), None);
        assert_eq!(impediment(State { entries: None, ..alive }), None);
        let mend = |state| impediment(state).map(|(_, mend)| mend);
        assert_eq!(mend(State::default()), Some(MEND_MODULE));
        assert_eq!(mend(State { accounting: Some(false), ..alive }), Some(MEND_ACCOUNTING));
        assert_eq!(mend(State { entries: Some(0), ..alive }), Some(MEND_HOOKS));
    }

    #[test]
    fn a_source_that_is_open_is_taken_where_it_is_the_first_choice() {
        let open = || [SourceKind::Sockets, SourceKind::Ebpf].into_iter();
        assert_eq!(known(SourceChoice::Auto, open()), Some(SourceKind::Ebpf));
        assert_eq!(known(SourceChoice::Sockets, open()), Some(SourceKind::Sockets));
        assert_eq!(known(SourceChoice::Conntrack, open()), None);
        assert_eq!(known(SourceChoice::Auto, [SourceKind::Conntrack].into_iter()), None);
    }
}
