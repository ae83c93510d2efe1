//! The policy by which bytes are assigned to owners, for flows and for sockets.
//!
//! Bytes without a process wait under a reason. When a process or a better reason is found, they move.
//! Bytes from before a socket was passed on stay with its earlier process. Bytes after the end of a
//! socket belong to its last process.

use std::ops::Add;

use crate::model::owner::{Comm, Owner, Reason};
use crate::processes::ProcessId;

/// The owner of one end of a flow, or of a socket, so far. `B` are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing<B> {
    /// Nothing was accounted: no socket of this host is known there.
    Elsewhere,
    /// No process is known, for this reason. So many bytes wait for one.
    Waiting(Reason, B),
    /// This process.
    Process(ProcessId),
    /// See [`Owner::Unseen`].
    Unseen { pid: u32, comm: Comm },
}

impl<B> Standing<B> {
    /// The process or the reason; `None` if nothing was accounted.
    pub(super) fn owner(&self) -> Option<Owner> {
        match *self {
            Standing::Elsewhere => None,
            Standing::Waiting(reason, _) => Some(Owner::Nobody(reason)),
            Standing::Process(process) => Some(Owner::Process(process)),
            Standing::Unseen { pid, comm } => Some(Owner::Unseen { pid, comm }),
        }
    }

    /// Whether it has a process.
    pub(super) const fn is_somebodys(&self) -> bool {
        matches!(self, Standing::Process(_) | Standing::Unseen { .. })
    }
}

/// The new state of an end, and the bytes to account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled<B> {
    pub(super) standing: Standing<B>,
    pub(super) to: Owner,
    /// The new bytes, and those that have waited if they move.
    pub(super) bytes: B,
    /// The reason that the moved bytes leave.
    pub(super) from: Option<Reason>,
}

/// Settles `new` bytes. `found` is the owner that was found now: `None` if the end is not here. Returns
/// `None` if nothing is to be accounted.
pub(super) fn settle<B: Copy + Add<Output = B>>(
    standing: Standing<B>,
    found: Option<Owner>,
    new: B,
) -> Option<Settled<B>> {
    let waits = |reason, waiting, bytes, from| {
        let standing = Standing::Waiting(reason, waiting);
        Some(Settled { standing, to: Owner::Nobody(reason), bytes, from })
    };
    let (somebody, found) = match found {
        Some(Owner::Process(process)) => (Some(Standing::Process(process)), None),
        Some(Owner::Unseen { pid, comm }) => (Some(Standing::Unseen { pid, comm }), None),
        Some(Owner::Nobody(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    if let Some(now) = somebody {
        // Its bytes have waited for a process. The owner of the ambiguous ones stays unknown when
        // only one of the candidates is left.
        let (bytes, from) = match standing {
            Standing::Waiting(reason, waiting) if reason != Reason::Ambiguous => {
                (waiting + new, Some(reason))
            }
            _ => (new, None),
        };
        return now.owner().map(|to| Settled { standing: now, to, bytes, from });
    }
    match (found, standing) {
        (None, Standing::Elsewhere) => None,
        // Several processes have the socket's address now.
        (Some(Reason::Ambiguous), Standing::Process(_) | Standing::Unseen { .. }) => {
            waits(Reason::Ambiguous, new, new, None)
        }
        // The socket has no holder any more: its last process owned it to the end.
        (_, Standing::Process(_) | Standing::Unseen { .. }) => {
            standing.owner().map(|to| Settled { standing, to, bytes: new, from: None })
        }
        (Some(reason), Standing::Elsewhere) => waits(reason, new, new, None),
        (None, Standing::Waiting(reason, waiting)) => waits(reason, waiting + new, new, None),
        (Some(reason), Standing::Waiting(before, waiting)) => {
            // Its holder was hidden, and stays so when the socket is closed.
            let stays = reason == before || reason == Reason::Exited && before.is_lasting();
            match stays {
                true => waits(before, waiting + new, new, None),
                false => waits(reason, waiting + new, waiting + new, Some(before)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::Counters;

    const FIRST: Owner = Owner::Process(ProcessId { start_time: 1, pid: 1 });
    const SECOND: Owner = Owner::Process(ProcessId { start_time: 2, pid: 2 });

    fn nobody(reason: Reason) -> Option<Owner> {
        Some(Owner::Nobody(reason))
    }

    /// Settles one after the other; returns to whom how many bytes go, and from which reason.
    fn settled(found: &[(Option<Owner>, u64)]) -> Vec<Option<(Owner, u64, Option<Reason>)>> {
        let mut standing = Standing::Elsewhere;
        let each = found.iter().map(|(found, new)| {
            let settled = settle(standing, *found, *new)?;
            standing = settled.standing;
            Some((settled.to, settled.bytes, settled.from))
        });
        each.collect()
    }

    /// There are two of them for each flow.
    #[test]
    fn it_takes_as_little_memory_as_an_owner() {
        assert_eq!(size_of::<Standing<Counters>>(), 24);
    }

    #[test]
    fn what_waits_moves_to_a_process_or_to_a_better_reason() {
        let (unread, kernel) = (nobody(Reason::Unread), nobody(Reason::Kernel));
        let taken = settled(&[(unread, 10), (unread, 5), (kernel, 1), (Some(FIRST), 2)]);
        let [unread, kernel] = [Reason::Unread, Reason::Kernel];
        assert_eq!(
            taken,
            [
                Some((unread.into(), 10, None)),
                Some((unread.into(), 5, None)),
                Some((kernel.into(), 16, Some(unread))),
                Some((FIRST, 18, Some(kernel))),
            ]
        );
    }

    #[test]
    fn a_hand_over_moves_nothing_and_the_end_changes_nothing() {
        let exited = nobody(Reason::Exited);
        assert_eq!(
            settled(&[(None, 9), (Some(FIRST), 10), (Some(SECOND), 5), (exited, 2), (None, 1)]),
            [
                None,
                Some((FIRST, 10, None)),
                Some((SECOND, 5, None)),
                Some((SECOND, 2, None)),
                Some((SECOND, 1, None)),
            ]
        );
    }

    #[test]
    fn what_was_hidden_or_ambiguous_stays_that() {
        let (denied, exited) = (nobody(Reason::NoPermission), nobody(Reason::Exited));
        let taken = settled(&[(denied, 10), (exited, 5)]);
        assert_eq!(taken[1], Some((Reason::NoPermission.into(), 5, None)));
        let ambiguous = nobody(Reason::Ambiguous);
        let taken = settled(&[(ambiguous, 10), (Some(FIRST), 5), (ambiguous, 1)]);
        assert_eq!(taken[1], Some((FIRST, 5, None)));
        assert_eq!(taken[2], Some((Reason::Ambiguous.into(), 1, None)));
    }
}
