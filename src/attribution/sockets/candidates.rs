//! Chooses the owner of a socket from the processes known at it.

use crate::ebpf::Origin;
use crate::model::owner::{Owner, Reason};
use crate::processes::{Ownership, ProcessId};

/// The processes known at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Its holder; `None` if the socket wasn't listed, or has no descriptor.
    pub holder: Option<Ownership>,
    /// The maker of it, or of its listening socket: a process or an unseen one.
    pub maker: Option<Owner>,
    /// The process that closed it last.
    pub closer: Option<Owner>,
}

/// The process that holds a socket, or has held it last. It takes precedence over maker and closer.
pub(crate) fn holder(
    origin: &Origin,
    now: Option<Ownership>,
    held: Option<ProcessId>,
) -> Option<ProcessId> {
    match now {
        Some(Ownership::Process(holder)) if !origin.released => Some(holder),
        _ => held,
    }
}

/// Chooses the owner. `held` is the process that was found as its holder before.
pub(crate) fn resolve(origin: &Origin, candidates: &Candidates, held: Option<ProcessId>) -> Owner {
    if let Some(holder) = holder(origin, candidates.holder, held) {
        return holder.into();
    }
    let passed_on = origin.accepted || origin.maker.is_none();
    let known = if passed_on { candidates.closer } else { candidates.maker };
    // The process that accepted a connection owns it; before that it has none.
    let accepted = || if origin.accepted && !origin.released { None } else { candidates.maker };
    if let Some(known) = known.or_else(accepted) {
        return known;
    }
    let reason = match candidates.holder {
        Some(Ownership::Denied) => Reason::NoPermission,
        Some(Ownership::Hidden) => Reason::OtherNamespace,
        Some(Ownership::Unread) if !origin.released => Reason::Unread,
        // A socket that was never closed is the kernel's, or not accepted yet.
        _ if !origin.released => Reason::Kernel,
        _ => Reason::Exited,
    };
    reason.into()
}
