//! Source `conntrack`: connection tracking counts the IP bytes of every flow.

use std::collections::HashSet;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::flow_reading::{Counted, FlowReading};
use super::{Needs, Round, Source};
use crate::environment::{Lists, WatchError};
use crate::netns::NetnsKey;
use crate::processes::ProcessId;
use crate::recording::Recorder;
use crate::tracker::Opens;

/// Reads connection tracking's tables.
#[derive(Debug)]
pub(super) struct Conntrack {
    flows: FlowReading,
    referenced: Option<HashSet<ProcessId, RandomState>>,
}

impl Conntrack {
    pub(super) fn new(lookback: bool) -> Conntrack {
        Conntrack { flows: FlowReading::new(Counted::ByTables, lookback), referenced: None }
    }
}

impl Source for Conntrack {
    fn record(&mut self, recorder: &Recorder) {
        self.flows.record(recorder);
    }

    fn opens(&self) -> Opens {
        Opens { flows: true, ..Opens::default() }
    }

    fn searches(&self) -> bool {
        true
    }

    /// The sockets before the flows: the entry of a connection that ends in between stays in the table for
    /// seconds, while its socket would be gone.
    fn prepare(&mut self, _: Option<Instant>) -> Needs {
        Needs { lists: Lists::All, ..Needs::default() }
    }

    fn poll(&mut self, round: &mut Round<'_>) -> Result<(), WatchError> {
        self.referenced = self.flows.account(round)?;
        Ok(())
    }

    fn forget(&mut self, netns: NetnsKey) {
        self.flows.forget(netns);
    }

    fn referenced(&self) -> Option<&HashSet<ProcessId, RandomState>> {
        self.referenced.as_ref()
    }
}
