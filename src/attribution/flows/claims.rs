//! Ends in another namespace than the table with their flow, and the table that counts their bytes.

use super::super::settle::Standing;
use super::FlowAttribution;
use super::state::{FlowChange, FlowId, FlowState};
use crate::environment::FlowResolution;
use crate::model::flow::{Flow, Tuple};
use crate::netns::NetnsKey;
use crate::tracker::Seen;

impl FlowAttribution {
    /// Whether another table than that of this flow counts the end in this namespace that sends along this
    /// tuple.
    pub(crate) fn is_counted_elsewhere(
        &self,
        of: &FlowChange,
        netns: NetnsKey,
        tuple: &Tuple,
    ) -> bool {
        self.is_counted(&of.id, netns, tuple)
    }

    /// Gives the ends of a new flow the processes that were seen when it started.
    pub(super) fn begin_with(
        &self,
        state: &mut FlowState,
        id: &FlowId,
        flow: &Flow,
        seen: [Option<Seen>; 2],
    ) {
        let seen = self.not_counted(id, flow, state.netns, seen);
        for (side, seen) in seen.into_iter().enumerate() {
            if let Some(seen) = seen {
                state.other_netns[side] = (seen.netns != state.netns).then_some(seen.netns);
                state.ends[side] = Standing::Process(seen.process);
            }
        }
    }

    /// The processes of ends that no other table counts.
    pub(super) fn not_counted(
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

    /// Whether another table than that of the flow `id` counts the end in this namespace that sends
    /// along this tuple. The first table in which the end was seen counts it, or else its own.
    pub(super) fn is_counted(&self, id: &FlowId, netns: NetnsKey, tuple: &Tuple) -> bool {
        match self.claims.get(&(netns, *tuple)) {
            Some(by) => by != id,
            None => self.has(netns, tuple),
        }
    }

    /// Whether a namespace's own table has the flow that sends along this tuple there.
    pub(super) fn has(&self, netns: NetnsKey, tuple: &Tuple) -> bool {
        [*tuple, tuple.reversed()].into_iter().any(|tuple| {
            let id = FlowId::in_default_zone(tuple, netns);
            self.flows.contains_key(&id) || self.pending.has(&id)
        })
    }

    /// Drops ends whose bytes are counted in another namespace that forwards them.
    pub(super) fn respect_claims(
        &self,
        flow: &Flow,
        netns: NetnsKey,
        resolution: &mut FlowResolution,
    ) {
        if self.claims.is_empty() {
            return;
        }
        for (end, tuple) in [flow.original, flow.reply].into_iter().enumerate() {
            if self.claims.contains_key(&(netns, tuple)) {
                resolution.found[end] = None;
            }
        }
    }
}
