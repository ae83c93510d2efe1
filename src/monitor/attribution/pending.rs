//! What was testified to of flows that have not been read yet.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::FlowId;
use crate::monitor::{Seen, Testimony};
use crate::netns::NetnsKey;

/// For how many observations a testimony is kept: a flow that isn't read until then was never
/// accounted by the kernel, or its end was lost.
const KEPT: u32 = 3;

#[derive(Debug)]
struct Born {
    generation: u64,
    ends: [Option<Seen>; 2],
    observation: u32,
}

/// Testimonies in the order of birth, for each tuple: one may be used again and again between two
/// observations.
#[derive(Debug, Default)]
pub(super) struct Pending {
    flows: HashMap<FlowId, VecDeque<Born>, RandomState>,
}

impl Pending {
    /// A flow has begun.
    pub(super) fn add(&mut self, id: FlowId, testimony: &Testimony, observation: u32) {
        let generation = testimony.flow.generation.unwrap_or(0);
        let born = Born { generation, ends: testimony.ends, observation };
        self.flows.entry(id).or_default().push_back(born);
    }

    /// Something more is known of a flow that has begun. Returns whether it is among these.
    pub(super) fn complete(&mut self, id: &FlowId, testimony: &Testimony) -> bool {
        let generation = testimony.flow.generation.unwrap_or(0);
        let Some(births) = self.flows.get_mut(id) else { return false };
        // The last one: nobody is asked any more for those before it.
        let Some(born) = births.iter_mut().rev().find(|born| born.generation == generation) else {
            return false;
        };
        for (end, seen) in born.ends.iter_mut().zip(testimony.ends) {
            *end = end.or(seen);
        }
        true
    }

    /// Who was seen at the ends of the next flow of this generation. The kernel may give the same
    /// generation to the flow that follows: the first is meant.
    pub(super) fn take(&mut self, id: &FlowId, generation: u64) -> Option<[Option<Seen>; 2]> {
        let births = self.flows.get_mut(id)?;
        let place = births.iter().position(|born| born.generation == generation)?;
        let born = births.drain(..=place).next_back()?;
        if births.is_empty() {
            self.flows.remove(id);
        }
        Some(born.ends)
    }

    /// Whether a flow has begun that was not read yet.
    pub(super) fn has(&self, id: &FlowId) -> bool {
        self.flows.contains_key(id)
    }

    /// Those of a namespace.
    pub(super) fn of(&self, netns: NetnsKey) -> impl Iterator<Item = &FlowId> {
        self.flows.keys().filter(move |id| id.discriminator >> 16 == u64::from(netns.0))
    }

    /// Forgets what nobody has asked for.
    pub(super) fn expire(&mut self, observation: u32) {
        self.flows.retain(|_, births| {
            births.retain(|born| observation - born.observation < KEPT);
            !births.is_empty()
        });
    }
}
