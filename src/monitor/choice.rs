//! Choosing the source: the one asked for, or the best that this kernel and user allow.

use std::fmt;
use std::path::Path;

use crate::conntrack::sysctls::{self, Sysctls};
use crate::environment::WatchError;
use crate::model::{SourceChoice, SourceKind};

/// Switches accounting on.
pub(crate) const MEND_ACCOUNTING: &str = "sudo sysctl -w net.netfilter.nf_conntrack_acct=1";
/// Loads connection tracking.
pub(crate) const MEND_MODULE: &str = "sudo modprobe nf_conntrack";
/// Makes the kernel track: any rule that uses a connection's state does.
pub(crate) const MEND_HOOKS: &str = "sudo nft 'add table inet bwmon { chain track { \
    type filter hook input priority 0; ct state new; }; }'";
/// Gives the privilege to use netlink and eBPF.
const MEND_PERMISSION: &str = "run it as root (CAP_NET_ADMIN)";

/// A message about the choice of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This source is in use, and is the best one.
    Taken(SourceKind),
    /// eBPF can't be used, for this reason.
    NoEbpf(String),
    /// The sockets' counters are in use because nothing better works.
    Instead {
        /// Why connection tracking is not in use.
        why: String,
        /// The fix, if one is known.
        mend: Option<&'static str>,
    },
    /// Connection tracking was asked for, and doesn't count everything.
    Impeded {
        /// The reason.
        why: &'static str,
        /// The fix.
        mend: &'static str,
    },
    /// Without privileges, a user sees only the TCP payload of their own processes.
    Unprivileged {
        /// Number of processes whose descriptors the user may not read; `None` if it is not known yet.
        denied: Option<usize>,
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
            Notice::Unprivileged { denied } => {
                let denied = denied.map_or_else(String::new, |denied| format!("{denied} "));
                write!(
                    f,
                    "not root: it sees the TCP payload of your own processes, and not what {denied}others \
                     send and receive (source sockets)"
                )
            }
        }
    }
}

/// Why no source could be opened.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct OpenError {
    /// Why each earlier candidate was not used.
    pub refused: Vec<Notice>,
    /// The error of the last candidate.
    pub error: WatchError,
}

impl From<OpenError> for WatchError {
    fn from(error: OpenError) -> WatchError {
        error.error
    }
}

/// Why connection tracking doesn't count here, and the fix; `None` if it counts.
pub(crate) fn impediment(sysctls: Sysctls) -> Option<(&'static str, &'static str)> {
    match sysctls {
        Sysctls { accounting: None, .. } => {
            Some(("this kernel has no connection tracking loaded", MEND_MODULE))
        }
        Sysctls { accounting: Some(false), .. } => Some((
            "conntrack's accounting is off (net.netfilter.nf_conntrack_acct=0)",
            MEND_ACCOUNTING,
        )),
        Sysctls { entries: Some(0), .. } => Some((
            "conntrack's table is empty: no rule makes the kernel track in this network \
             namespace, or nothing was sent yet",
            MEND_HOOKS,
        )),
        _ => None,
    }
}

/// The sources to try, in order. The error of the last one is final.
pub(super) fn candidates(choice: SourceChoice) -> (SourceKind, &'static [SourceKind]) {
    match choice {
        SourceChoice::Ebpf => (SourceKind::Ebpf, &[]),
        SourceChoice::Conntrack => (SourceKind::Conntrack, &[]),
        SourceChoice::Sockets => (SourceKind::Sockets, &[]),
        SourceChoice::Auto => (SourceKind::Ebpf, &[SourceKind::Conntrack, SourceKind::Sockets]),
    }
}

/// The notice of `auto` about a source that failed with this error.
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

/// Why connection tracking doesn't count through the procfs at `proc`, and the fix.
pub(super) fn impeded(proc: &Path) -> Option<(&'static str, &'static str)> {
    impediment(sysctls::read(proc))
}

/// The source of a choice, if it is among those that are `open` already.
pub(crate) fn known(
    choice: SourceChoice,
    mut open: impl Iterator<Item = SourceKind>,
) -> Option<SourceKind> {
    // Of several candidates only opening shows which one is allowed; the one that is open was.
    let (first, _) = candidates(choice);
    open.find(|open| *open == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntrack_counts_where_it_is_on_and_has_flows() {
        let alive = Sysctls { accounting: Some(true), entries: Some(1), ..Sysctls::default() };
        assert_eq!(impediment(alive), None);
        assert_eq!(impediment(Sysctls { entries: None, ..alive }), None);
        let mend = |sysctls| impediment(sysctls).map(|(_, mend)| mend);
        assert_eq!(mend(Sysctls::default()), Some(MEND_MODULE));
        assert_eq!(mend(Sysctls { accounting: Some(false), ..alive }), Some(MEND_ACCOUNTING));
        assert_eq!(mend(Sysctls { entries: Some(0), ..alive }), Some(MEND_HOOKS));
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
