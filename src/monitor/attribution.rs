//! What is remembered of a flow from look to look, and whom its new bytes are accounted to.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use indexmap::map::Entry;

use super::Reason;
use super::join::{Found, Side, Surroundings, whose};
use crate::flow::{CountedAt, Counters, Flow, Tuple};
use crate::processes::ProcessId;
use crate::traffic::Traffic;

/// For how many observations a flow that has no process is looked up again although it carries
/// nothing: its connection may be accepted, or its socket listed, a moment later.
const YOUNG: u32 = 3;

/// How many complete observations a flow may be missing from before it is taken to be gone. A dump
/// of a table that changes meanwhile can miss an entry, and one that came back would count anew.
const GRACE: u32 = 3;

/// After how many incomplete observations in a row one is taken to be complete.
const INCOMPLETE: u32 = 10;

/// Bytes that stand on somebody's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose they are: a process, or the reason why nobody's.
    pub to: Result<ProcessId, Reason>,
    /// Bytes that are now accounted to `to`, whenever they were counted.
    pub traffic: Traffic,
    /// Those among them that were counted since the last observation: what a rate is made of.
    pub recent: Traffic,
    /// The reason under which the others stood until now, and no longer do.
    pub from: Option<Reason>,
    /// Whether the flow never left this host.
    pub local: bool,
}

/// What one observation of all flows came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Flows that were there.
    pub flows: u64,
    /// Processes to which a flow that is still there belongs. Others get no more bytes.
    /// `None` where they were not gathered this time.
    pub referenced: Option<HashSet<ProcessId, RandomState>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowId {
    tuple: Tuple,
    /// The zone of a tracked flow; the cookie of a socket, for one may end and the next have its
    /// tuple between two looks, and the end of the first be told after the second was seen.
    discriminator: u64,
}

impl FlowId {
    fn of(flow: &Flow) -> FlowId {
        let discriminator = match flow.counted_at {
            CountedAt::Path => u64::from(flow.zone),
            CountedAt::Socket => flow.generation.unwrap_or(0),
        };
        FlowId { tuple: flow.original, discriminator }
    }
}

/// Whose one end of a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// No socket of this host can be there.
    Elsewhere,
    /// Nobody can be named. The counters say from where on the bytes wait for a name.
    Nobody(Reason, Counters),
    /// This process.
    Of(ProcessId),
}

#[derive(Clone, Copy, Debug)]
struct FlowState {
    /// 0 where the source doesn't tell generations apart.
    generation: u64,
    last: Counters,
    /// The first observation of this generation.
    born: u32,
    /// How many observations had been complete when it was seen last.
    seen: u32,
    local: bool,
    /// The observation in which its end was announced; 0 before that.
    ended: u32,
    /// The originator's end and the responder's.
    ends: [End; 2],
}

/// Joins flows with sockets and processes, and remembers what it takes to subtract.
#[derive(Debug)]
pub struct Attribution {
    lookback: bool,
    observation: u32,
    /// How many observations were complete, or are taken for it.
    complete: u32,
    /// How many were not since the last one that was.
    incomplete: u32,
    /// In the order in which they were first seen, which is nearly that of every later dump.
    flows: IndexMap<FlowId, FlowState, RandomState>,
    /// Where the next flow probably is: behind the one before.
    next: usize,
    current: Observation,
}

impl Attribution {
    /// With `lookback` the first observation's counters are accounted in full, else what they
    /// show is where counting begins.
    pub fn new(lookback: bool) -> Attribution {
        Attribution {
            lookback,
            observation: 0,
            complete: 0,
            incomplete: 0,
            flows: IndexMap::default(),
            next: 0,
            current: Observation::default(),
        }
    }

    /// Begins an observation of all flows.
    pub fn begin(&mut self) {
        self.observation += 1;
        self.next = 0;
        self.current = Observation::default();
    }

    /// Makes room for the `flows` that are about to come, as far as there is any.
    pub fn expect(&mut self, flows: usize) {
        let _ = self.flows.try_reserve(flows.saturating_sub(self.flows.len()));
    }

    /// Takes one flow and hands the shares of its new bytes to `each`. A flow may come twice in an
    /// observation: only what it carried meanwhile counts the second time.
    pub fn flow(
        &mut self,
        flow: &Flow,
        around: &mut Surroundings<'_>,
        mut each: impl FnMut(Share),
    ) {
        let (observation, complete) = (self.observation, self.complete);
        let first = observation == 1;
        self.current.flows += 1;
        let Some(mut now) = flow.counters else {
            self.current.uncounted += 1;
            return;
        };
        let generation = flow.generation.unwrap_or(0);
        let fresh = FlowState {
            generation,
            last: if first && !self.lookback { now } else { Counters::default() },
            born: observation,
            seen: complete,
            local: false,
            ended: 0,
            ends: [End::Elsewhere; 2],
        };
        let (state, mut known) = self.remember(FlowId::of(flow), fresh);
        if flow.counted_at == CountedAt::Socket {
            // A socket is what it is by its cookie and never counts anew. Only its announced end
            // can show a byte less than a look at it did: see there.
            now.original = now.original.max(state.last.original);
            now.reply = now.reply.max(state.last.reply);
        }
        let backwards = now.original < state.last.original || now.reply < state.last.reply;
        // An entry that follows another of the same tuple may even get its id, which the kernel
        // makes from the tuple and the place in memory. If it is the same entry and somebody has
        // set its counters to zero, its ends are found again.
        let same = known && state.generation == generation;
        let no_more = now.original <= state.last.original && now.reply <= state.last.reply;
        if same && state.ended == observation && no_more && !flow.ended {
            // A dump is handed over in parts: this one was made before the end was announced. If
            // it is the next flow after all, it is still there at the next observation, or its end
            // is announced in its turn.
            return;
        }
        if known && (!same || backwards || state.ended != 0) {
            *state = FlowState { last: Counters::default(), ..fresh };
            known = false;
        }
        state.seen = complete;
        state.ended = if flow.ended { observation } else { 0 };

        let delta = now - state.last;
        if known && delta == Counters::default() {
            let young = observation - state.born < YOUNG;
            if !young || !state.ends.iter().any(|end| matches!(end, End::Nobody(..))) {
                return;
            }
        }
        if !known {
            state.local = around.addresses.sends_from(&flow.original.source.address)
                && around.addresses.sends_from(&flow.reply.source.address);
        }
        let owners = reconciled(whose(flow, around), &mut state.ends);
        for (side, owner) in [Side::Originator, Side::Responder].into_iter().zip(owners) {
            let end = &mut state.ends[side as usize];
            let Some(settled) = settle(*end, owner, state.last, now) else { continue };
            *end = settled.end;
            each(Share {
                to: settled.to,
                traffic: side.view(settled.bytes),
                // What was counted before the first observation is no rate.
                recent: if first && !known { Traffic::ZERO } else { side.view(delta) },
                from: settled.from,
                local: state.local,
            });
        }
        state.last = now;
    }

    /// The state of a flow and whether it was known before; else it is `fresh`.
    fn remember(&mut self, id: FlowId, fresh: FlowState) -> (&mut FlowState, bool) {
        // A dump of a large table walks through memory instead of jumping about in it.
        let expected = self.flows.get_index(self.next).is_some_and(|(known, _)| *known == id);
        let (index, known) = if expected {
            (self.next, true)
        } else {
            match self.flows.entry(id) {
                Entry::Occupied(entry) => (entry.index(), true),
                Entry::Vacant(entry) => (entry.insert_entry(fresh).index(), false),
            }
        };
        self.next = index + 1;
        (&mut self.flows[index], known)
    }

    /// Ends the observation. `complete` says whether every flow was there: one that is missing from
    /// several complete observations is forgotten.
    pub fn end(&mut self, complete: bool) -> Observation {
        let mut observation = std::mem::take(&mut self.current);
        // Where the table never stands still, what is remembered has to stay bounded all the same.
        let complete = complete || self.incomplete == INCOMPLETE;
        self.incomplete = if complete { 0 } else { self.incomplete + 1 };
        self.complete += u32::from(complete);
        if complete && self.complete.is_multiple_of(GRACE) {
            let oldest = self.complete - GRACE;
            let mut referenced = HashSet::default();
            self.flows.retain(|_, state| {
                let kept = state.seen >= oldest;
                if kept {
                    for end in state.ends {
                        if let End::Of(process) = end {
                            referenced.insert(process);
                        }
                    }
                }
                kept
            });
            observation.referenced = Some(referenced);
        }
        observation
    }

    /// How many flows are remembered.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is remembered.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

/// What an end becomes, and which of the flow's bytes that accounts to whom.
struct Settled {
    end: End,
    to: Result<ProcessId, Reason>,
    bytes: Counters,
    /// Under which reason those before `last` stood.
    from: Option<Reason>,
}

/// Settles one end of a flow whose counters went from `last` to `now`. `None` for an end that isn't
/// here.
fn settle(end: End, found: Found, last: Counters, now: Counters) -> Option<Settled> {
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
fn reconciled(mut found: [Found; 2], ends: &mut [End; 2]) -> [Found; 2] {
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

#[cfg(test)]
mod tests;
