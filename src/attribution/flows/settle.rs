//! What the ends of a flow are, and what they become.

use crate::attribution::Reason;
use crate::attribution::join::Found;
use crate::flow::Counters;
use crate::processes::ProcessId;

/// Whose one end of a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No socket of this host can be there.
    Elsewhere,
    /// Nobody can be named. The counters say from where on the bytes wait for a name.
    Nobody(Reason, Counters),
    /// This process.
    Of(ProcessId),
}

/// What an end becomes, and which of the flow's bytes that accounts to whom.
pub(super) struct Settled {
    pub(super) end: End,
    pub(super) to: Result<ProcessId, Reason>,
    pub(super) bytes: Counters,
    /// Under which reason those before `last` stood.
    pub(super) from: Option<Reason>,
}

/// Settles one end of a flow whose counters went from `last` to `now`. `None` for an end that isn't
/// here.
pub(super) fn settle(end: End, found: Found, last: Counters, now: Counters) -> Option<Settled> {
    let of = |process, bytes, from| {
        Some(Settled { end: End::Of(process), to: Ok(process), bytes, from })
    };
    let nobody = |reason, since, bytes, from| {
        Some(Settled { end: End::Nobody(reason, since), to: Err(reason), bytes, from })
    };
    match (found, end) {
        (None, End::Elsewhere) => None,
        // Its bytes have waited for a name. Whose the ambiguous ones were is not known any better
        // when all but one of the candidates are gone.
        (Some(Ok(process)), End::Nobody(reason, since)) if reason != Reason::Ambiguous => {
            of(process, now - since, Some(reason))
        }
        (Some(Ok(process)), _) => of(process, now - last, None),
        // Several have the socket's address now.
        (Some(Err(Reason::Ambiguous)), End::Of(_)) => {
            nobody(Reason::Ambiguous, last, now - last, None)
        }
        // Nobody has the socket any more: it was this process's to the end.
        (Some(Err(_)) | None, End::Of(process)) => of(process, now - last, None),
        (Some(Err(reason)), End::Elsewhere) => nobody(reason, last, now - last, None),
        (None, End::Nobody(reason, since)) => nobody(reason, since, now - last, None),
        (Some(Err(reason)), End::Nobody(before, since)) => {
            // Who had it was hidden, and stays so when the socket is closed.
            let stays = reason == before || reason == Reason::Exited && before.is_lasting();
            match stays {
                true => nobody(before, since, now - last, None),
                false => nobody(reason, since, now - since, Some(before)),
            }
        }
    }
}

/// Brings what was found at both ends together with what they were: a flow is forwarded or has its
/// ends here, not both.
pub(super) fn reconciled(mut found: [Found; 2], ends: &mut [End; 2]) -> [Found; 2] {
    let was_here = |end: &End| !matches!(end, End::Elsewhere | End::Nobody(Reason::Forwarded, _));
    match (found, *ends) {
        // An end was here that isn't found any more: a transparent proxy's socket that is closed
        // now, or an address that was taken away.
        ([Some(Err(Reason::Forwarded)), None], ends) if ends.iter().any(was_here) => {
            found[0] = None;
        }
        // Such a socket has turned up. What was taken to be forwarded so far stays that.
        ([None, Some(_)], [End::Nobody(Reason::Forwarded, _), End::Elsewhere]) => {
            ends[0] = End::Elsewhere;
        }
        _ => {}
    }
    found
}
