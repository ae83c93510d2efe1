//! Source `sockets`: TCP sockets count their payload bytes, and sock_diag shows them.

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

/// Reads the counters of TCP sockets, and the last ones as their ends are announced.
#[derive(Debug)]
pub(super) struct SockDiag {
    flows: FlowReading,
    referenced: Option<HashSet<ProcessId, RandomState>>,
}

impl SockDiag {
    pub(super) fn new(lookback: bool) -> SockDiag {
        SockDiag { flows: FlowReading::new(Counted::BySockets, lookback), referenced: None }
    }
}

impl Source for SockDiag {
    fn record(&mut self, recorder: &Recorder) {
        self.flows.record(recorder);
    }

    fn opens(&self) -> Opens {
        Opens { ends: true, ..Opens::default() }
    }

    fn searches(&self) -> bool {
        true
    }

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
