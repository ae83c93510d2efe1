//! The memory of flows from look to look, and the owners of their new bytes.

mod claims;
mod pending;
mod state;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use indexmap::map::Entry;

use super::Share;
use super::settle::{Settled, Standing, settle};
use crate::environment::{FlowResolution, Opening, Side};
use crate::model::Remote;
use crate::model::flow::{CountedAt, Counters, Flow, Protocol, Tuple};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::netns::NetnsKey;
use crate::processes::ProcessId;
use crate::tracker::NewFlowRecord;
use pending::Pending;
use state::{FlowId, FlowState, reconciled, remote_end};

pub(super) use state::FlowChange;

/// Number of observations for which a flow without a process is looked up again although it carries
/// nothing: its connection may be accepted, or its socket listed, a moment later.
const YOUNG: u32 = 3;

/// Number of complete observations that a flow may be missing from before it is forgotten. A dump
/// of a table that changes meanwhile can miss an entry, and all bytes of one that comes back would
/// be counted again.
const GRACE: u32 = 3;

/// Number of observations after the end of a flow in which its start may still be announced.
const LATE: u32 = 2;

/// Number of observations after its start in which the end of a flow may come that was replaced
/// before.
const REPLACED: u32 = 8;

/// Number of incomplete observations in a row after which one is taken as complete.
const INCOMPLETE: u32 = 10;

/// The part of a namespace's flows that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// All flows.
    Whole,
    /// All flows, but the table changed meanwhile: some may be missing.
    Interrupted,
    /// The flows that were queried.
    Chosen,
}

/// The result of one observation of all flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Number of flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Number of flows that were read.
    pub flows: u64,
    /// Processes that own a flow which still exists; others get no more bytes. `None` if they were
    /// not collected this time.
    pub referenced: Option<HashSet<ProcessId, RandomState>>,
}

/// Progress of reading a namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Number of readings that were complete, or are taken as complete.
    complete: u32,
    /// Number of incomplete readings since the last complete one.
    incomplete: u32,
    /// Whether there was any reading.
    begun: bool,
    /// Number of flows that a complete reading found although their start was not announced.
    unannounced: u32,
}

/// Joins flows with sockets and processes, and remembers the counters to subtract.
#[derive(Debug)]
pub(crate) struct FlowAttribution {
    lookback: bool,
    observation: u32,
    progress: HashMap<NetnsKey, Progress, RandomState>,
    /// In the order in which they were first seen, which is nearly that of every later dump.
    flows: IndexMap<FlowId, FlowState, RandomState>,
    /// The likely index of the next flow: the one after the last.
    next: usize,
    /// Flows, by their generation, whose tuple belongs to another flow by now, although their end was not
    /// announced yet.
    replaced: HashMap<(FlowId, u64), FlowState, RandomState>,
    /// The greatest counters of flows, by their generation, that ended in this observation before another one of
    /// the same tuple was read.
    ended: HashMap<(FlowId, u64), Counters, RandomState>,
    /// Announcements of flows that were not read yet.
    pending: Pending,
    /// Ends in other namespaces whose bytes are counted where they are forwarded.
    claims: HashMap<(NetnsKey, Tuple), FlowId, RandomState>,
    current: Observation,
    /// Number of flows in the current reading that were new and not announced.
    unannounced: u32,
    opening: Opening,
    /// Whether shares have remote ends.
    has_details: bool,
}

impl FlowAttribution {
    /// With `lookback` the counters of the first observation are accounted in full; without,
    /// counting starts at them.
    pub(crate) fn new(lookback: bool) -> FlowAttribution {
        FlowAttribution {
            lookback,
            observation: 0,
            progress: HashMap::default(),
            flows: IndexMap::default(),
            next: 0,
            replaced: HashMap::default(),
            ended: HashMap::default(),
            pending: Pending::default(),
            claims: HashMap::default(),
            current: Observation::default(),
            unannounced: 0,
            opening: Opening::Done,
            has_details: false,
        }
    }

    /// Lets shares have remote ends from now on.
    pub(crate) fn add_details(&mut self) {
        self.has_details = true;
    }

    /// The remote end that a socket at this side of a flow has, if shares have remote ends.
    pub(crate) fn remote_end(&self, flow: &Flow, side: Side, local: bool) -> Option<Remote> {
        self.has_details.then(|| remote_end(flow, side, local))
    }

    /// Sets the progress of opening the namespaces, for later observations. Until it is done, flows that seem
    /// forwarded are postponed, and what is found in another namespace is taken to have existed all the time.
    pub(crate) fn set_opening(&mut self, opening: Opening) {
        self.opening = opening;
    }

    /// For a flow that was read before: the network namespace in which each end is accounted, and its owner;
    /// originator first. `None` for an end that is not accounted, and for both ends of a forwarded flow.
    pub(crate) fn accounted(&self, flow: &Flow, netns: NetnsKey) -> [Option<(NetnsKey, Owner)>; 2] {
        let Some(state) = self.flows.get(&FlowId::of(flow, netns)) else { return [None; 2] };
        let end = |end: usize| {
            let at = state.other_netns[end].unwrap_or(state.netns);
            let owner = state.ends[end].owner();
            let owner = owner.filter(|owner| *owner != Owner::Nobody(Reason::Forwarded));
            owner.map(|owner| (at, owner))
        };
        [end(0), end(1)]
    }

    /// Starts an observation of all flows.
    pub(crate) fn begin(&mut self) {
        self.observation += 1;
        self.next = 0;
        self.current = Observation::default();
        self.ended.clear();
    }

    /// Reserves memory for the next `flows`.
    pub(crate) fn expect(&mut self, flows: usize) {
        let _ = self.flows.try_reserve(flows.saturating_sub(self.flows.len()));
    }

    /// Takes records of new flows, and hands on shares of those that were read before they were
    /// announced.
    pub(crate) fn take_records(
        &mut self,
        records: impl IntoIterator<Item = NewFlowRecord>,
        mut each: impl FnMut(&Flow, Share),
    ) {
        let has_details = self.has_details;
        for record in records {
            let id = FlowId::of(&record.flow, record.netns);
            let generation = record.flow.generation.unwrap_or(0);
            let ends = self.not_counted(&id, &record.flow, record.netns, record.ends);
            let record = NewFlowRecord { ends, ..record };
            let state = self.flows.get_mut(&id).filter(|state| state.generation == generation);
            match (state, record.is_new) {
                // The flow was read before it was announced.
                (Some(state), true) if !state.announced => {
                    state.announced = true;
                    if let Some(progress) = self.progress.get_mut(&record.netns) {
                        progress.unannounced = progress.unannounced.saturating_sub(1);
                    }
                    state.learn(&record, has_details, &mut each);
                    self.claims.extend(state.claims(&id, &record.flow));
                }
                (_, true) => self.pending.add(id, &record, self.observation),
                (Some(state), false) => {
                    if !self.pending.complete(&id, &record) {
                        state.learn(&record, has_details, &mut each);
                        self.claims.extend(state.claims(&id, &record.flow));
                    }
                }
                (None, false) => drop(self.pending.complete(&id, &record)),
            }
        }
    }

    /// The flows of a namespace that can have changed: those that are not closed, and those that have
    /// started. `None` if the tuples alone don't identify some of them.
    pub(crate) fn open_flows(&self, netns: NetnsKey) -> Option<Vec<Tuple>> {
        let mut open: Vec<Tuple> = Vec::new();
        for (id, state) in &self.flows {
            if state.netns == netns && !state.closed && state.ended == 0 {
                if id.is_zoned() {
                    return None;
                }
                open.push(id.tuple());
            }
        }
        for id in self.pending.of(netns) {
            if id.is_zoned() {
                return None;
            }
            let known = self.flows.get(id);
            if known.is_none_or(|state| state.closed || state.ended != 0) {
                open.push(id.tuple());
            }
        }
        Some(open)
    }

    /// Whether flows have started in a namespace without an announcement, although there was time
    /// for it: then others may have, too. Call it after the records of this observation were taken.
    pub(crate) fn missed_beginnings(&mut self, netns: NetnsKey) -> bool {
        let progress = self.progress.get_mut(&netns);
        progress.is_some_and(|progress| std::mem::take(&mut progress.unannounced) > 0)
    }

    /// Takes one flow of this namespace. Returns `None` if nothing has changed, or can have. If a flow comes
    /// twice in an observation, the second time only its bytes since the first are new. `each` receives the
    /// last bytes of a flow whose tuple belongs to another flow by now.
    pub(crate) fn read(
        &mut self,
        flow: &Flow,
        netns: NetnsKey,
        mut each: impl FnMut(Share),
    ) -> Option<FlowChange> {
        let observation = self.observation;
        let Progress { complete, begun, .. } = *self.progress.entry(netns).or_default();
        let mut first = !begun;
        self.current.flows += 1;
        let Some(mut now) = flow.counters else {
            self.current.uncounted += 1;
            return None;
        };
        let generation = flow.generation.unwrap_or(0);
        let base = if first && !self.lookback { now } else { Counters::default() };
        let fresh = FlowState {
            generation,
            last: base,
            base,
            born: observation,
            seen: complete,
            local: false,
            ended: 0,
            closed: flow.closed,
            announced: false,
            netns,
            ends: [Standing::Elsewhere; 2],
            other_netns: [None; 2],
            postponed: false,
        };
        let id = FlowId::of(flow, netns);
        let (index, mut known) = self.remember(id, fresh);
        let state = &mut self.flows[index];
        if flow.counted_at == CountedAt::Socket {
            // A cookie identifies a socket, and its counters never restart. Only its announced end
            // can show a byte less than a look did: see there.
            now = now.max(state.last);
        }
        let backwards = !state.last.is_within(now);
        // An entry that follows another of the same tuple may even get its id, which the kernel
        // makes from the tuple and the address in memory. If it is the same entry and its counters
        // were reset, its ends are found again.
        let same = known && state.generation == generation;
        if !flow.ended && known {
            // A dump comes in parts: this one may have been made before the end was announced, and even before
            // the ends of flows that followed. If it is the next flow after all, it still exists at the next
            // observation, or its own end is announced.
            let of_last = same && state.ended == observation && now.is_within(state.last);
            let earlier = self.ended.get(&(id, generation));
            if of_last || earlier.is_some_and(|last| now.is_within(*last)) {
                return None;
            }
        }
        if known && !same {
            if flow.ended
                && let Some(earlier) = self.replaced.remove(&(id, generation))
            {
                // The next flow of the tuple was read before the end of this one was announced.
                let ends = match earlier.postponed {
                    true => [
                        Standing::Waiting(Reason::Forwarded, Counters::default()),
                        Standing::Elsewhere,
                    ],
                    false => earlier.ends,
                };
                for (side, end) in [Side::Originator, Side::Responder].into_iter().zip(ends) {
                    let Some(settled) = settle(end, None, now - earlier.last) else { continue };
                    let recent = side.view(now - earlier.last);
                    let Settled { to, bytes, from, .. } = settled;
                    let traffic = side.view(bytes);
                    let local = earlier.local;
                    let remote = self.has_details.then(|| remote_end(flow, side, local));
                    each(Share { to, traffic, recent, from, local, remote });
                }
                return None;
            }
            if state.ended == 0 {
                self.replaced.insert((id, state.generation), *state);
            }
        }
        if known && state.ended == observation {
            let last = self.ended.entry((id, state.generation)).or_default();
            *last = last.max(state.last);
        }
        if known && (!same || backwards || state.ended != 0) {
            let (last, base) = <(Counters, Counters)>::default();
            *state = FlowState { last, base, ..fresh };
            known = false;
        }
        state.seen = complete;
        state.ended = if flow.ended { observation } else { 0 };
        state.closed = flow.closed;

        let delta = now - state.last;
        if known && delta == Counters::default() {
            let young = observation - state.born < YOUNG;
            // A connection may be accepted at any time, without any more bytes.
            let may_be_accepted = flow.original.protocol == Protocol::TCP;
            let reconsidered = self.opening == Opening::JustDone;
            let may_change = |end: &Standing<Counters>| match end {
                _ if reconsidered => true,
                Standing::Waiting(Reason::Unread, _) => true,
                Standing::Waiting(Reason::Kernel, _) => young || may_be_accepted,
                Standing::Waiting(..) => young,
                Standing::Process(_) | Standing::Unseen { .. } | Standing::Elsewhere => false,
            };
            if !state.ends.iter().any(may_change) {
                return None;
            }
        }
        let mut state = *state;
        let mut delta = delta;
        if !known {
            match self.pending.take(&id, generation) {
                Some(seen) => {
                    // It started after the first observation.
                    first = false;
                    (state.last, state.base) = Default::default();
                    delta = now;
                    state.announced = true;
                    self.begin_with(&mut state, &id, flow, seen);
                }
                None => self.unannounced += 1,
            }
        }
        Some(FlowChange { id, index, state, known, first, now, delta })
    }

    /// Accounts a change after its ends were resolved: hands the shares of new bytes, and of those that have
    /// waited, to `each`.
    pub(crate) fn account(
        &mut self,
        flow: &Flow,
        change: FlowChange,
        mut resolution: FlowResolution,
        mut each: impl FnMut(Share),
    ) {
        let FlowChange { id, index, mut state, known, first, now, delta } = change;
        if !known {
            state.local = resolution.local;
        }
        self.respect_claims(flow, state.netns, &mut resolution);
        for (side, netns) in resolution.netns.into_iter().enumerate() {
            if netns.is_some() {
                state.other_netns[side] = netns;
            }
        }
        if self.opening == Opening::UnderWay
            && resolution.found == [Some(Owner::Nobody(Reason::Forwarded)), None]
            && state.ends == [Standing::Elsewhere; 2]
            && (!known || state.postponed)
            && !flow.ended
        {
            self.flows[index] = FlowState { postponed: true, ..state };
            return;
        }
        // Its bytes are from before: their time is unknown.
        let first = first && !known || std::mem::take(&mut state.postponed);
        let owners = reconciled(&resolution, &mut state.ends);
        for (side, owner) in [Side::Originator, Side::Responder].into_iter().zip(owners) {
            let end = &mut state.ends[side as usize];
            // The namespace of that end existed before it was opened.
            let was_there = self.opening != Opening::Done && *end == Standing::Elsewhere;
            let last = if was_there { state.base } else { state.last };
            let Some(settled) = settle(*end, owner, now - last) else { continue };
            *end = settled.standing;
            if self.opening == Opening::JustDone && settled.bytes == Counters::default() {
                continue; // nothing has changed: it was only looked at again
            }
            each(Share {
                to: settled.to,
                traffic: side.view(settled.bytes),
                // Bytes counted before the first observation have no rate.
                recent: if first { Traffic::ZERO } else { side.view(delta) },
                from: settled.from,
                local: state.local,
                remote: self.remote_end(flow, side, state.local),
            });
        }
        self.claims.extend(state.claims(&id, flow));
        state.last = now;
        self.flows[index] = state;
    }

    /// The index of a flow's state, and whether it existed; if not, it is `fresh`.
    fn remember(&mut self, id: FlowId, fresh: FlowState) -> (usize, bool) {
        // A dump of a large table then walks through memory in order.
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
        (index, known)
    }

    /// Ends the reading of a namespace's flows.
    pub(crate) fn leave(&mut self, netns: NetnsKey, coverage: Coverage) {
        let unannounced = std::mem::take(&mut self.unannounced);
        let progress = self.progress.entry(netns).or_default();
        if progress.begun && coverage != Coverage::Chosen {
            progress.unannounced = unannounced;
        }
        progress.begun = true;
        match coverage {
            Coverage::Chosen => {}
            // If the table always changes during readings, memory has to stay bounded all the same.
            Coverage::Interrupted if progress.incomplete < INCOMPLETE => progress.incomplete += 1,
            Coverage::Whole | Coverage::Interrupted => {
                progress.incomplete = 0;
                progress.complete += 1;
            }
        }
    }

    /// Forgets the flows of a namespace that is no longer read.
    pub(crate) fn forget(&mut self, netns: NetnsKey) {
        self.progress.remove(&netns);
    }

    /// Ends the observation. Flows that have ended, or are missing from several complete readings,
    /// are forgotten. `each` receives those bytes of them whose process was not read in time.
    pub(crate) fn end(&mut self, mut each: impl FnMut(Share)) -> Observation {
        let mut observation = std::mem::take(&mut self.current);
        let now = self.observation;
        self.pending.expire(now);
        self.replaced.retain(|_, state| {
            let kept = now - state.born < REPLACED;
            if !kept {
                state.never_read().for_each(&mut each);
            }
            kept
        });
        if now.is_multiple_of(GRACE) {
            let mut referenced = HashSet::default();
            let FlowAttribution { flows, progress, claims, .. } = self;
            flows.retain(|_, state| {
                let read = progress.get(&state.netns);
                let there = read.is_some_and(|read| state.seen + GRACE >= read.complete);
                // As long as its start may still be announced.
                let kept = there && (state.ended == 0 || now - state.ended < LATE);
                if kept {
                    for end in state.ends {
                        referenced.extend(end.owner().and_then(Owner::process));
                    }
                } else {
                    state.never_read().for_each(&mut each);
                }
                kept
            });
            claims.retain(|_, id| flows.contains_key(id));
            observation.referenced = Some(referenced);
        }
        observation
    }

    /// Number of flows that are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is remembered.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

#[cfg(test)]
mod tests;
