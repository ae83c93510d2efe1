//! Announcements of flows that were not read yet.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::state::FlowId;
use crate::netns::NetnsKey;
use crate::tracker::{NewFlowRecord, Seen};

/// Number of observations for which a record is kept: the kernel did not count a flow that isn't
/// read until then, or its end was lost.
const KEPT: u32 = 3;

#[derive(Debug)]
struct NewFlow {
    generation: u64,
    ends: [Option<Seen>; 2],
    observation: u32,
}

/// Records in the order in which the flows started, for each tuple: it may be used many times between two
/// observations.
#[derive(Debug, Default)]
pub(super) struct Pending {
    flows: HashMap<FlowId, VecDeque<NewFlow>, RandomState>,
}

impl Pending {
    /// Adds a flow that has started.
    pub(super) fn add(&mut self, id: FlowId, record: &NewFlowRecord, observation: u32) {
        let generation = record.flow.generation.unwrap_or(0);
        let new_flow = NewFlow { generation, ends: record.ends, observation };
        self.flows.entry(id).or_default().push_back(new_flow);
    }

    /// Adds knowledge to the record of a flow. Returns whether it has one.
    pub(super) fn complete(&mut self, id: &FlowId, record: &NewFlowRecord) -> bool {
        let generation = record.flow.generation.unwrap_or(0);
        let Some(records) = self.flows.get_mut(id) else { return false };
        // The last one: earlier ones get no more answers.
        let Some(new_flow) =
            records.iter_mut().rev().find(|new_flow| new_flow.generation == generation)
        else {
            return false;
        };
        for (end, seen) in new_flow.ends.iter_mut().zip(record.ends) {
            *end = end.or(seen);
        }
        true
    }

    /// The processes seen at the ends of the next flow of this generation. The kernel may reuse a
    /// generation for the flow that follows: the first one is taken.
    pub(super) fn take(&mut self, id: &FlowId, generation: u64) -> Option<[Option<Seen>; 2]> {
        let records = self.flows.get_mut(id)?;
        let place = records.iter().position(|new_flow| new_flow.generation == generation)?;
        let new_flow = records.drain(..=place).next_back()?;
        if records.is_empty() {
            self.flows.remove(id);
        }
        Some(new_flow.ends)
    }

    /// Whether a flow has started that was not read yet.
    pub(super) fn has(&self, id: &FlowId) -> bool {
        self.flows.contains_key(id)
    }

    /// Those of a namespace.
    pub(super) fn of(&self, netns: NetnsKey) -> impl Iterator<Item = &FlowId> {
        self.flows.keys().filter(move |id| id.is_of(netns))
    }

    /// Forgets records that were kept for long enough.
    pub(super) fn expire(&mut self, observation: u32) {
        self.flows.retain(|_, records| {
            records.retain(|new_flow| observation - new_flow.observation < KEPT);
            !records.is_empty()
        });
    }
}
