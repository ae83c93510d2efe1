//! What is remembered of a flow.

use std::hash::{Hash, Hasher};

use super::super::settle::Standing;
use crate::attribution::Share;
use crate::environment::{FlowResolution, Side};
use crate::model::flow::{CountedAt, Counters, Endpoint, Flow, Tuple};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::model::{Interface, Remote};
use crate::netns::NetnsKey;
use crate::tracker::NewFlowRecord;

/// The identity of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowId {
    /// A flow in a table of connection tracking.
    InTable {
        tuple: Tuple,
        /// The network namespace that has the table.
        netns: NetnsKey,
        /// The zone of the original direction.
        zone: u16,
    },
    /// A flow counted by a socket, with its cookie, which is unique over all namespaces. The next socket may
    /// have the same tuple, and the end of the first may be announced after the second was seen.
    OfSocket { tuple: Tuple, cookie: u64 },
}

impl Hash for FlowId {
    // One word beside the tuple: flows of different kinds hardly ever have the same one.
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

    /// Whether its tuple alone doesn't identify it in its table.
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
    /// 0 if the source doesn't distinguish generations.
    pub(super) generation: u64,
    pub(super) last: Counters,
    /// The counters from which on it is accounted.
    pub(super) base: Counters,
    /// The first observation of this generation.
    pub(super) born: u32,
    /// The number of complete readings of its namespace when it was last seen.
    pub(super) seen: u32,
    pub(super) local: bool,
    /// The observation in which its end was announced; 0 before that.
    pub(super) ended: u32,
    /// Whether only its end is to be expected, which is announced.
    pub(super) closed: bool,
    /// Whether its start was announced.
    pub(super) announced: bool,
    pub(super) netns: NetnsKey,
    /// The originator's end and the responder's.
    pub(super) ends: [Standing<Counters>; 2],
    /// The other namespace of an end.
    pub(super) other_netns: [Option<NetnsKey>; 2],
    /// Whether nothing of it was accounted, because its ends may be in namespaces that are not open
    /// yet.
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

    /// The bytes for which a process could not be read before the flow ended: there is none any more.
    pub(super) fn never_read(&self) -> impl Iterator<Item = Share> + use<> {
        let local = self.local;
        let ends = [Side::Originator, Side::Responder].into_iter().zip(self.ends);
        ends.filter_map(move |(side, end)| match end {
            Standing::Waiting(reason @ Reason::Unread, waiting) => Some(Share {
                to: Owner::Nobody(Reason::Exited),
                traffic: side.view(waiting),
                recent: Traffic::ZERO,
                from: Some(reason),
                local,
                remote: None,
            }),
            _ => None,
        })
    }

    /// Adds the processes at its ends after it was read: bytes that have waited become theirs.
    pub(super) fn learn(
        &mut self,
        record: &NewFlowRecord,
        has_details: bool,
        mut each: impl FnMut(&Flow, Share),
    ) {
        for (side, seen) in [Side::Originator, Side::Responder].into_iter().zip(record.ends) {
            let Some(seen) = seen else { continue };
            let other_netns = (seen.netns != self.netns).then_some(seen.netns);
            let forwarded = matches!(self.ends[0], Standing::Waiting(Reason::Forwarded, _));
            let (bytes, from) = match self.ends[side as usize] {
                Standing::Process(_) | Standing::Unseen { .. } => continue,
                Standing::Waiting(reason, waiting) => (waiting, Some(reason)),
                Standing::Elsewhere if other_netns.is_none() => continue,
                // Bytes that were taken as forwarded so far stay there.
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
                remote: has_details.then(|| remote_end(&record.flow, side, self.local)),
            };
            each(&record.flow, share);
        }
    }
}

/// A flow that has changed, or whose owners may be found by now.
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
    /// For each end, whether its process is known.
    pub(crate) fn settled(&self) -> [bool; 2] {
        self.state.ends.map(|end| end.is_somebodys())
    }
}

/// The remote end that a socket at this side of a flow has. Connection tracking does not know interfaces, apart from the
/// loopback device.
pub(super) fn remote_end(flow: &Flow, side: Side, local: bool) -> Remote {
    let tuple = match side {
        Side::Originator => flow.original,
        Side::Responder => flow.reply,
    };
    let has_ports = !tuple.protocol.is_icmp();
    let port = |port: u16| if has_ports { port } else { 0 };
    Remote {
        protocol: tuple.protocol,
        local_port: port(tuple.source.port),
        remote: Endpoint::new(tuple.destination.address, port(tuple.destination.port)),
        interface: if local { Interface::LOOPBACK } else { Interface::UNKNOWN },
    }
}

/// Joins the owners found at both ends with the earlier ones: a flow is forwarded or has its ends
/// here, not both.
pub(super) fn reconciled(
    resolution: &FlowResolution,
    ends: &mut [Standing<Counters>; 2],
) -> [Option<Owner>; 2] {
    let mut found = resolution.found;
    let was_here = |end: &Standing<Counters>| {
        !matches!(end, Standing::Elsewhere | Standing::Waiting(Reason::Forwarded, _))
    };
    match (found, *ends) {
        // The end isn't found any more: a transparent proxy's socket that is closed now, or an
        // address that was removed.
        ([Some(Owner::Nobody(Reason::Forwarded)), None], ends) if ends.iter().any(was_here) => {
            found[0] = None;
        }
        // Such a socket has appeared. Bytes that were taken as forwarded so far stay there.
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
