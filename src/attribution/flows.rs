//! What is remembered of a flow from look to look, and whom its new bytes are accounted to.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use indexmap::map::Entry;

use super::Reason;
use super::join::{NamespaceView, Side, Whose, whose};
use crate::flow::{CountedAt, Counters, Flow, Protocol, Tuple};
use crate::netns::NetnsKey;
use crate::processes::ProcessId;
use crate::tracker::{NewFlowRecord, Seen};
use crate::traffic::Traffic;

mod pending;
mod settle;

use pending::Pending;
use settle::{End, Settled, reconciled, settle};

/// For how many observations a flow that has no process is looked up again although it carries
/// nothing: its connection may be accepted, or its socket listed, a moment later.
const YOUNG: u32 = 3;

/// How many complete observations a flow may be missing from before it is taken to be gone. A dump
/// of a table that changes meanwhile can miss an entry, and one that came back would count anew.
const GRACE: u32 = 3;

/// How many observations later something may still be announced to of a flow that has ended.
const LATE: u32 = 2;

/// How many observations after its beginning the end of a flow may come that was replaced before.
const REPLACED: u32 = 8;

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

/// Which of a namespace's flows were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All that there were.
    Whole,
    /// All, but the table changed meanwhile: some may be missing.
    Interrupted,
    /// Those that were asked for.
    Chosen,
}

/// What one observation of all flows came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Flows that were read.
    pub flows: u64,
    /// Processes to which a flow that is still there belongs. Others get no more bytes.
    /// `None` where they were not gathered this time.
    pub referenced: Option<HashSet<ProcessId, RandomState>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowId {
    tuple: Tuple,
    /// The namespace and the zone of a tracked flow; the cookie of a socket, for one may end and the
    /// next have its tuple between two looks, and the end of the first be told after the second was
    /// seen. A cookie is of all namespaces.
    discriminator: u64,
}

impl FlowId {
    fn of(flow: &Flow, netns: NetnsKey) -> FlowId {
        let discriminator = match flow.counted_at {
            CountedAt::Path => u64::from(netns.0) << 16 | u64::from(flow.zone),
            CountedAt::Socket => flow.generation.unwrap_or(0),
        };
        FlowId { tuple: flow.original, discriminator }
    }

    /// Of a flow in the default zone.
    fn in_default_zone(tuple: Tuple, netns: NetnsKey) -> FlowId {
        FlowId { tuple, discriminator: u64::from(netns.0) << 16 }
    }
}

#[derive(Clone, Copy, Debug)]
struct FlowState {
    /// 0 where the source doesn't tell generations apart.
    generation: u64,
    last: Counters,
    /// From where on it is accounted.
    base: Counters,
    /// The first observation of this generation.
    born: u32,
    /// How many readings of its namespace had been complete when it was seen last.
    seen: u32,
    local: bool,
    /// The observation in which its end was announced; 0 before that.
    ended: u32,
    /// Whether nothing but its end is to be expected, which is announced.
    closed: bool,
    /// Whether its beginning was announced to.
    announced: bool,
    netns: NetnsKey,
    /// The originator's end and the responder's.
    ends: [End; 2],
    /// The other namespace in which an end is.
    other_netns: [Option<NetnsKey>; 2],
    /// Whether nothing of it was accounted, because its ends may be in namespaces that were not opened yet.
    postponed: bool,
}

impl FlowState {
    /// Its ends in other namespaces.
    fn claims(
        &self,
        id: &FlowId,
        flow: &Flow,
    ) -> impl Iterator<Item = ((NetnsKey, Tuple), FlowId)> + use<> {
        let (id, tuples) = (*id, [flow.original, flow.reply]);
        let ends = self.other_netns.into_iter().zip(tuples);
        ends.filter_map(move |(netns, tuple)| Some(((netns?, tuple), id)))
    }

    /// Learns who was at its ends after it was read: bytes that have waited for a name are theirs.
    fn learn(&mut self, record: &NewFlowRecord, mut each: impl FnMut(&Flow, Share)) {
        for (side, seen) in [Side::Originator, Side::Responder].into_iter().zip(record.ends) {
            let Some(seen) = seen else { continue };
            let other_netns = (seen.netns != self.netns).then_some(seen.netns);
            let forwarded = matches!(self.ends[0], End::Nobody(Reason::Forwarded, _));
            let (bytes, from) = match self.ends[side as usize] {
                End::Of(_) => continue,
                End::Nobody(reason, since) => (self.last - since, Some(reason)),
                End::Elsewhere if other_netns.is_none() => continue,
                // What was taken to be forwarded so far stays that.
                End::Elsewhere if forwarded => {
                    self.ends[0] = End::Elsewhere;
                    (Counters::default(), None)
                }
                End::Elsewhere => (self.last, None),
            };
            self.ends[side as usize] = End::Of(seen.process);
            self.other_netns[side as usize] = other_netns;
            let share = Share {
                to: Ok(seen.process),
                traffic: side.view(bytes),
                recent: Traffic::ZERO,
                from,
                local: self.local,
            };
            each(&record.flow, share);
        }
    }
}

/// How far the reading of a namespace has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// How many readings were complete, or are taken for it.
    complete: u32,
    /// How many were not since the last one that was.
    incomplete: u32,
    /// Whether there was any.
    begun: bool,
    /// Flows that a complete reading has found without their beginning having been announced to.
    unannounced: u32,
}

/// Joins flows with sockets and processes, and remembers what it takes to subtract.
#[derive(Debug)]
pub struct FlowAttribution {
    lookback: bool,
    observation: u32,
    progress: HashMap<NetnsKey, Progress, RandomState>,
    /// In the order in which they were first seen, which is nearly that of every later dump.
    flows: IndexMap<FlowId, FlowState, RandomState>,
    /// Where the next flow probably is: behind the one before.
    next: usize,
    /// Flows whose tuple is another one's by now, although their end was not told yet.
    replaced: HashMap<FlowId, FlowState, RandomState>,
    /// What was announced to of flows that were not read yet.
    pending: Pending,
    /// The ends in other namespaces whose bytes are counted where they pass through.
    claims: HashMap<(NetnsKey, Tuple), FlowId, RandomState>,
    current: Observation,
    /// Flows of the reading that is under way which were new and not announced to.
    unannounced: u32,
    opening: Opening,
}

/// Whether the other_namespaces of a namespace are known, in which ends of its flows may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// As far as they can be.
    #[default]
    Done,
    /// Some of those that were there at the start are not opened yet.
    UnderWay,
    /// The last one was opened since the observation before.
    JustDone,
}

impl FlowAttribution {
    /// With `lookback` the first observation's counters are accounted in full, else what they
    /// show is where counting begins.
    pub fn new(lookback: bool) -> FlowAttribution {
        FlowAttribution {
            lookback,
            observation: 0,
            progress: HashMap::default(),
            flows: IndexMap::default(),
            next: 0,
            replaced: HashMap::default(),
            pending: Pending::default(),
            claims: HashMap::default(),
            current: Observation::default(),
            unannounced: 0,
            opening: Opening::Done,
        }
    }

    /// How far the opening of the namespaces has come, for the observations from now on. Until it is done, flows
    /// that seem to pass through are left for later, and what is found next door was there all the time.
    pub fn set_opening(&mut self, opening: Opening) {
        self.opening = opening;
    }

    /// The network namespaces in which the originator and the responder of a flow are accounted that was
    /// taken before, and to whom; `None` for an end that is not accounted, and for both ends of a forwarded flow.
    pub fn accounted(
        &self,
        flow: &Flow,
        netns: NetnsKey,
    ) -> [Option<(NetnsKey, Result<ProcessId, Reason>)>; 2] {
        let Some(state) = self.flows.get(&FlowId::of(flow, netns)) else { return [None; 2] };
        let end = |end: usize| {
            let at = state.other_netns[end].unwrap_or(state.netns);
            match state.ends[end] {
                End::Elsewhere | End::Nobody(Reason::Forwarded, _) => None,
                End::Of(process) => Some((at, Ok(process))),
                End::Nobody(reason, _) => Some((at, Err(reason))),
            }
        };
        [end(0), end(1)]
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

    /// Takes what was seen of flows when they began, and hands on the shares of those that had been
    /// read before they were announced to.
    pub fn take_records(
        &mut self,
        records: impl IntoIterator<Item = NewFlowRecord>,
        mut each: impl FnMut(&Flow, Share),
    ) {
        for record in records {
            let id = FlowId::of(&record.flow, record.netns);
            let generation = record.flow.generation.unwrap_or(0);
            let ends = self.not_counted(&id, &record.flow, record.netns, record.ends);
            let record = NewFlowRecord { ends, ..record };
            let state = self.flows.get_mut(&id).filter(|state| state.generation == generation);
            match (state, record.is_new) {
                // It was read before it was told.
                (Some(state), true) if !state.announced => {
                    state.announced = true;
                    if let Some(progress) = self.progress.get_mut(&record.netns) {
                        progress.unannounced = progress.unannounced.saturating_sub(1);
                    }
                    state.learn(&record, &mut each);
                    self.claims.extend(state.claims(&id, &record.flow));
                }
                (_, true) => self.pending.add(id, &record, self.observation),
                (Some(state), false) => {
                    if !self.pending.complete(&id, &record) {
                        state.learn(&record, &mut each);
                        self.claims.extend(state.claims(&id, &record.flow));
                    }
                }
                (None, false) => drop(self.pending.complete(&id, &record)),
            }
        }
    }

    /// The flows of a namespace that can have changed: those that are not closed, and those that have
    /// begun. `None` if some can't be told by their tuples alone.
    pub fn open_flows(&self, netns: NetnsKey) -> Option<Vec<Tuple>> {
        let zoned = |id: &FlowId| id.discriminator & 0xffff != 0;
        let mut open: Vec<Tuple> = Vec::new();
        for (id, state) in &self.flows {
            if state.netns == netns && !state.closed && state.ended == 0 {
                if zoned(id) {
                    return None;
                }
                open.push(id.tuple);
            }
        }
        for id in self.pending.of(netns) {
            if zoned(id) {
                return None;
            }
            let known = self.flows.get(id);
            if known.is_none_or(|state| state.closed || state.ended != 0) {
                open.push(id.tuple);
            }
        }
        Some(open)
    }

    /// Whether flows have begun in a namespace that were never announced to, though there was time to:
    /// others may have, too. To be asked once the records of this observation were taken.
    pub fn missed_beginnings(&mut self, netns: NetnsKey) -> bool {
        let progress = self.progress.get_mut(&netns);
        progress.is_some_and(|progress| std::mem::take(&mut progress.unannounced) > 0)
    }

    /// Takes one flow and hands the shares of its new bytes to `each`. A flow may come twice in an
    /// observation: only what it carried meanwhile counts the second time.
    pub fn flow(
        &mut self,
        flow: &Flow,
        around: &mut NamespaceView<'_>,
        mut each: impl FnMut(Share),
    ) {
        let observation = self.observation;
        let Progress { complete, begun, .. } = *self.progress.entry(around.netns).or_default();
        let mut first = !begun;
        self.current.flows += 1;
        let Some(mut now) = flow.counters else {
            self.current.uncounted += 1;
            return;
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
            netns: around.netns,
            ends: [End::Elsewhere; 2],
            other_netns: [None; 2],
            postponed: false,
        };
        let id = FlowId::of(flow, around.netns);
        let (index, mut known) = self.remember(id, fresh);
        let state = &mut self.flows[index];
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
        if known && !same && state.ended == 0 {
            if flow.ended
                && let Some(earlier) = self.replaced.remove(&id)
                && earlier.generation == generation
            {
                // The next flow of the tuple was read before the end of this one was told.
                let ends = match earlier.postponed {
                    true => [End::Nobody(Reason::Forwarded, earlier.base), End::Elsewhere],
                    false => earlier.ends,
                };
                for (side, end) in [Side::Originator, Side::Responder].into_iter().zip(ends) {
                    let Some(settled) = settle(end, None, earlier.last, now) else { continue };
                    let recent = side.view(now - earlier.last);
                    let Settled { to, bytes, from, .. } = settled;
                    let traffic = side.view(bytes);
                    each(Share { to, traffic, recent, from, local: earlier.local });
                }
                return;
            }
            self.replaced.insert(id, *state);
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
            // A connection may be accepted at any time, and say nothing more.
            let may_be_accepted = flow.original.protocol == Protocol::TCP;
            let reconsidered = self.opening == Opening::JustDone;
            let may_change = |end: &End| match end {
                _ if reconsidered => true,
                End::Nobody(Reason::Unread, _) => true,
                End::Nobody(Reason::Kernel, _) => young || may_be_accepted,
                End::Nobody(..) => young,
                End::Of(_) | End::Elsewhere => false,
            };
            if !state.ends.iter().any(may_change) {
                return;
            }
        }
        let mut state = *state;
        let mut delta = delta;
        if !known {
            state.local = around.addresses.sends_from(&flow.original.source.address)
                && around.addresses.sends_from(&flow.reply.source.address);
            match self.pending.take(&id, generation) {
                Some(seen) => {
                    // It began when somebody was looking already.
                    first = false;
                    (state.last, state.base) = Default::default();
                    delta = now;
                    state.announced = true;
                    self.begin_with(&mut state, &id, flow, seen);
                }
                None => self.unannounced += 1,
            }
        }
        let settled = state.ends.map(|end| matches!(end, End::Of(_)));
        let mut whose = whose(flow, around, settled, |key, tuple| self.is_counted(&id, key, tuple));
        self.respect_claims(flow, around.netns, &mut whose);
        for (side, netns) in whose.netns.into_iter().enumerate() {
            if netns.is_some() {
                state.other_netns[side] = netns;
            }
        }
        if self.opening == Opening::UnderWay
            && whose.found == [Some(Err(Reason::Forwarded)), None]
            && state.ends == [End::Elsewhere; 2]
            && (!known || state.postponed)
            && !flow.ended
        {
            self.flows[index] = FlowState { postponed: true, ..state };
            return;
        }
        // Its bytes are of before, for all that is known of when they came.
        let first = first && !known || std::mem::take(&mut state.postponed);
        let owners = reconciled(whose.found, &mut state.ends);
        for (side, owner) in [Side::Originator, Side::Responder].into_iter().zip(owners) {
            let end = &mut state.ends[side as usize];
            // The namespace of that end was there before it was opened.
            let was_there = self.opening != Opening::Done && *end == End::Elsewhere;
            let last = if was_there { state.base } else { state.last };
            let Some(settled) = settle(*end, owner, last, now) else { continue };
            *end = settled.end;
            if self.opening == Opening::JustDone && settled.bytes == Counters::default() {
                continue; // nothing has changed: it was only looked at again
            }
            each(Share {
                to: settled.to,
                traffic: side.view(settled.bytes),
                // What was counted before the first observation is no rate.
                recent: if first { Traffic::ZERO } else { side.view(delta) },
                from: settled.from,
                local: state.local,
            });
        }
        self.claims.extend(state.claims(&id, flow));
        state.last = now;
        self.flows[index] = state;
    }

    /// Who was at a flow's ends when it began is where they begin.
    fn begin_with(&self, state: &mut FlowState, id: &FlowId, flow: &Flow, seen: [Option<Seen>; 2]) {
        let seen = self.not_counted(id, flow, state.netns, seen);
        for (side, seen) in seen.into_iter().enumerate() {
            if let Some(seen) = seen {
                state.other_netns[side] = (seen.netns != state.netns).then_some(seen.netns);
                state.ends[side] = End::Of(seen.process);
            }
        }
    }

    /// Those ends that are not in another namespace where they are counted by another table.
    fn not_counted(
        &self,
        id: &FlowId,
        flow: &Flow,
        netns: NetnsKey,
        mut seen: [Option<Seen>; 2],
    ) -> [Option<Seen>; 2] {
        for (seen, tuple) in seen.iter_mut().zip([flow.original, flow.reply]) {
            *seen =
                seen.filter(|seen| seen.netns == netns || !self.is_counted(id, seen.netns, &tuple));
        }
        seen
    }

    /// Whether the end in a namespace that sends along a tuple there is counted by another table than
    /// that of the flow `id`: the one through which it was seen to pass first, else its own.
    fn is_counted(&self, id: &FlowId, netns: NetnsKey, tuple: &Tuple) -> bool {
        match self.claims.get(&(netns, *tuple)) {
            Some(by) => by != id,
            None => self.has(netns, tuple),
        }
    }

    /// Whether a namespace's own table has the flow that sends along a tuple there.
    fn has(&self, netns: NetnsKey, tuple: &Tuple) -> bool {
        [*tuple, tuple.reversed()].into_iter().any(|tuple| {
            let id = FlowId::in_default_zone(tuple, netns);
            self.flows.contains_key(&id) || self.pending.has(&id)
        })
    }

    /// Ends whose bytes are counted in another namespace, through which they pass, aren't counted
    /// here as well.
    fn respect_claims(&self, flow: &Flow, netns: NetnsKey, whose: &mut Whose) {
        if self.claims.is_empty() {
            return;
        }
        for (end, tuple) in [flow.original, flow.reply].into_iter().enumerate() {
            if self.claims.contains_key(&(netns, tuple)) {
                whose.found[end] = None;
            }
        }
    }

    /// The place of a flow's state and whether it was known before; else it is `fresh`.
    fn remember(&mut self, id: FlowId, fresh: FlowState) -> (usize, bool) {
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
        (index, known)
    }

    /// Ends the reading of a namespace's flows.
    pub fn leave(&mut self, netns: NetnsKey, coverage: Coverage) {
        let unannounced = std::mem::take(&mut self.unannounced);
        let progress = self.progress.entry(netns).or_default();
        if progress.begun && coverage != Coverage::Chosen {
            progress.unannounced = unannounced;
        }
        progress.begun = true;
        match coverage {
            Coverage::Chosen => {}
            // Where the table never stands still, what is remembered has to stay bounded all the same.
            Coverage::Interrupted if progress.incomplete < INCOMPLETE => progress.incomplete += 1,
            Coverage::Whole | Coverage::Interrupted => {
                progress.incomplete = 0;
                progress.complete += 1;
            }
        }
    }

    /// A namespace is not read any more: its flows are forgotten.
    pub fn forget(&mut self, netns: NetnsKey) {
        self.progress.remove(&netns);
    }

    /// Ends the observation. A flow that has ended, or is missing from several complete readings, is
    /// forgotten.
    pub fn end(&mut self) -> Observation {
        let mut observation = std::mem::take(&mut self.current);
        let now = self.observation;
        self.pending.expire(now);
        self.replaced.retain(|_, state| now - state.born < REPLACED);
        if now.is_multiple_of(GRACE) {
            let mut referenced = HashSet::default();
            let FlowAttribution { flows, progress, claims, .. } = self;
            flows.retain(|_, state| {
                let read = progress.get(&state.netns);
                let there = read.is_some_and(|read| state.seen + GRACE >= read.complete);
                // For as long as somebody may still take_records to its beginning.
                let kept = there && (state.ended == 0 || now - state.ended < LATE);
                if kept {
                    for end in state.ends {
                        if let End::Of(process) = end {
                            referenced.insert(process);
                        }
                    }
                }
                kept
            });
            claims.retain(|_, id| flows.contains_key(id));
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

#[cfg(test)]
mod tests;
