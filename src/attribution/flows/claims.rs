//! Ends that are in another namespace than the table that has their flow: where their bytes are counted.

use super::super::settle::Standing;
use super::FlowAttribution;
use super::state::{FlowChange, FlowId, FlowState};
use crate::environment::FlowResolution;
use crate::model::flow::{Flow, Tuple};
use crate::netns::NetnsKey;
use crate::tracker::Seen;

impl FlowAttribution {
    /// Whether the end in a namespace that sends along a tuple there is counted by another table than that
    /// of this flow.
    pub(crate) fn is_counted_elsewhere(
        &self,
        of: &FlowChange,
        netns: NetnsKey,
        tuple: &Tuple,
    ) -> bool {
        self.is_counted(&of.id, netns, tuple)
    }

    /// Who was at a flow's ends when it began is where they begin.
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

    /// Those ends that are not in another namespace where they are counted by another table.
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

    /// Whether the end in a namespace that sends along a tuple there is counted by another table than
    /// that of the flow `id`: the one through which it was seen to pass first, else its own.
    pub(super) fn is_counted(&self, id: &FlowId, netns: NetnsKey, tuple: &Tuple) -> bool {
        match self.claims.get(&(netns, *tuple)) {
            Some(by) => by != id,
            None => self.has(netns, tuple),
        }
    }

    /// Whether a namespace's own table has the flow that sends along a tuple there.
    pub(super) fn has(&self, netns: NetnsKey, tuple: &Tuple) -> bool {
        [*tuple, tuple.reversed()].into_iter().any(|tuple| {
            let id = FlowId::in_default_zone(tuple, netns);
            self.flows.contains_key(&id) || self.pending.has(&id)
        })
    }

    /// Ends whose bytes are counted in another namespace, through which they pass, aren't counted
    /// here as well.
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
