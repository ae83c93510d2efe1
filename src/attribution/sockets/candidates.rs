//! Whose a socket is, by all that is known of the processes at it.

use crate::ebpf::Origin;
use crate::model::owner::{Owner, Reason};
use crate::processes::{Ownership, ProcessId};

/// What there is to know of the processes at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Who holds it; `None` if the socket wasn't listed, or no descriptor can refer to it.
    pub holder: Option<Ownership>,
    /// Who made it, or its listening socket: a process or an unseen one.
    pub maker: Option<Owner>,
    /// Who let go of it last.
    pub closer: Option<Owner>,
}

/// The process that holds a socket, or has held it last: neither its maker nor its closer matters then.
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

/// Whose a socket is. `held` is who was found to hold it before.
pub(crate) fn resolve(origin: &Origin, candidates: &Candidates, held: Option<ProcessId>) -> Owner {
    if let Some(holder) = holder(origin, candidates.holder, held) {
        return holder.into();
    }
    let passed_on = origin.accepted || origin.maker.is_none();
    let known = if passed_on { candidates.closer } else { candidates.maker };
    // Whoever accepted a connection has it, or else nobody has yet.
    let accepted = || if origin.accepted && !origin.released { None } else { candidates.maker };
    if let Some(known) = known.or_else(accepted) {
        return known;
    }
    let reason = match candidates.holder {
        Some(Ownership::Denied) => Reason::NoPermission,
        Some(Ownership::Hidden) => Reason::OtherNamespace,
        Some(Ownership::Unread) if !origin.released => Reason::Unread,
        // A socket that nobody lets go of is the kernel's, or not accepted yet.
        _ if !origin.released => Reason::Kernel,
        _ => Reason::Exited,
    };
    reason.into()
}
