//! What is remembered of a flow.

use std::hash::{Hash, Hasher};

use super::super::settle::Standing;
use crate::attribution::Share;
use crate::environment::{FlowResolution, Side};
use crate::model::flow::{CountedAt, Counters, Flow, Tuple};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::netns::NetnsKey;
use crate::tracker::NewFlowRecord;

/// Which flow it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowId {
    /// One of a table of connection tracking.
    InTable {
        tuple: Tuple,
        /// The network namespace that has the table.
        netns: NetnsKey,
        /// The zone of the original direction.
        zone: u16,
    },
    /// What a socket has counted, by its cookie: one may end and the next have its tuple between two looks, and
    /// the end of the first be announced after the second was seen. A cookie is of all namespaces.
    OfSocket { tuple: Tuple, cookie: u64 },
}

impl Hash for FlowId {
    // One word beside the tuple: two that differ in nothing but their kind hardly ever have the same.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tuple().hash(state);
        state.write_u64(match *self {
            FlowId::InTable { netns, zone, .. } => u64::from(netns.0) << 16 | u64::from(zone),
            FlowId::OfSocket { cookie, .. } => cookie,
        });
    }
}

impl FlowId {
    pub(super) fn of(flow: &Flow, netns: NetnsKey) -> FlowId {
        let tuple = flow.original;
        match flow.counted_at {
            CountedAt::Path => FlowId::InTable { tuple, netns, zone: flow.zone },
            CountedAt::Socket => FlowId::OfSocket { tuple, cookie: flow.generation.unwrap_or(0) },
        }
    }

    /// Of a flow in the default zone.
    pub(super) fn in_default_zone(tuple: Tuple, netns: NetnsKey) -> FlowId {
        FlowId::InTable { tuple, netns, zone: 0 }
    }

    /// The tuple out of its originator.
    pub(super) fn tuple(&self) -> Tuple {
        match *self {
            FlowId::InTable { tuple, .. } | FlowId::OfSocket { tuple, .. } => tuple,
        }
    }

    /// Whether its tuple alone doesn't say which flow of its table it is.
    pub(super) fn is_zoned(&self) -> bool {
        matches!(self, FlowId::InTable { zone: 1.., .. })
    }

    /// Whether it is in the table of this namespace.
    pub(super) fn is_of(&self, key: NetnsKey) -> bool {
        matches!(self, FlowId::InTable { netns, .. } if *netns == key)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FlowState {
    /// 0 where the source doesn't tell generations apart.
    pub(super) generation: u64,
    pub(super) last: Counters,
    /// From where on it is accounted.
    pub(super) base: Counters,
    /// The first observation of this generation.
    pub(super) born: u32,
    /// How many readings of its namespace had been complete when it was seen last.
    pub(super) seen: u32,
    pub(super) local: bool,
    /// The observation in which its end was announced; 0 before that.
    pub(super) ended: u32,
    /// Whether nothing but its end is to be expected, which is announced.
    pub(super) closed: bool,
    /// Whether its beginning was announced.
    pub(super) announced: bool,
    pub(super) netns: NetnsKey,
    /// The originator's end and the responder's.
    pub(super) ends: [Standing<Counters>; 2],
    /// The other namespace in which an end is.
    pub(super) other_netns: [Option<NetnsKey>; 2],
    /// Whether nothing of it was accounted, because its ends may be in namespaces that were not opened yet.
    pub(super) postponed: bool,
}

impl FlowState {
    /// Its ends in other namespaces.
    pub(super) fn claims(
        &self,
        id: &FlowId,
        flow: &Flow,
    ) -> impl Iterator<Item = ((NetnsKey, Tuple), FlowId)> + use<> {
        let (id, tuples) = (*id, [flow.original, flow.reply]);
        let ends = self.other_netns.into_iter().zip(tuples);
        ends.filter_map(move |(netns, tuple)| Some(((netns?, tuple), id)))
    }

    /// Learns who was at its ends after it was read: bytes that have waited for a name are theirs.
    pub(super) fn learn(&mut self, record: &NewFlowRecord, mut each: impl FnMut(&Flow, Share)) {
        for (side, seen) in [Side::Originator, Side::Responder].into_iter().zip(record.ends) {
            let Some(seen) = seen else { continue };
            let other_netns = (seen.netns != self.netns).then_some(seen.netns);
            let forwarded = matches!(self.ends[0], Standing::Waiting(Reason::Forwarded, _));
            let (bytes, from) = match self.ends[side as usize] {
                Standing::Process(_) | Standing::Unseen { .. } => continue,
                Standing::Waiting(reason, waiting) => (waiting, Some(reason)),
                Standing::Elsewhere if other_netns.is_none() => continue,
                // What was taken to be forwarded so far stays that.
                Standing::Elsewhere if forwarded => {
                    self.ends[0] = Standing::Elsewhere;
                    (Counters::default(), None)
                }
                Standing::Elsewhere => (self.last, None),
            };
            self.ends[side as usize] = Standing::Process(seen.process);
            self.other_netns[side as usize] = other_netns;
            let share = Share {
                to: Owner::Process(seen.process),
                traffic: side.view(bytes),
                recent: Traffic::ZERO,
                from,
                local: self.local,
            };
            each(&record.flow, share);
        }
    }
}

/// A flow that has changed, or of whose ends more may be known by now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowChange {
    pub(super) id: FlowId,
    pub(super) index: usize,
    pub(super) state: FlowState,
    /// Whether it was read before.
    pub(super) known: bool,
    /// Whether its namespace is read for the first time.
    pub(super) first: bool,
    pub(super) now: Counters,
    pub(super) delta: Counters,
}

impl FlowChange {
    /// Whether a process is known at either end.
    pub(crate) fn settled(&self) -> [bool; 2] {
        self.state.ends.map(|end| end.is_somebodys())
    }
}

/// Brings what was found at both ends together with what they were: a flow is forwarded or has its
/// ends here, not both.
pub(super) fn reconciled(
    resolution: &FlowResolution,
    ends: &mut [Standing<Counters>; 2],
) -> [Option<Owner>; 2] {
    let mut found = resolution.found;
    let was_here = |end: &Standing<Counters>| {
        !matches!(end, Standing::Elsewhere | Standing::Waiting(Reason::Forwarded, _))
    };
    match (found, *ends) {
        // An end was here that isn't found any more: a transparent proxy's socket that is closed
        // now, or an address that was taken away.
        ([Some(Owner::Nobody(Reason::Forwarded)), None], ends) if ends.iter().any(was_here) => {
            found[0] = None;
        }
        // Such a socket has turned up. What was taken to be forwarded so far stays that.
        ([None, Some(_)], [Standing::Waiting(Reason::Forwarded, _), Standing::Elsewhere]) => {
            ends[0] = Standing::Elsewhere;
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be hundreds of thousands of flows.
    #[test]
    fn an_id_takes_little_memory() {
        assert_eq!(size_of::<FlowId>(), 48);
    }
}
