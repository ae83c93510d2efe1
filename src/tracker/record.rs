//! What was seen of a flow when it started.

use crate::model::flow::Flow;
use crate::netns::NetnsKey;
use crate::processes::ProcessId;

/// The process at one end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The process that held the socket.
    pub process: ProcessId,
    /// The network namespace of the socket.
    pub netns: NetnsKey,
}

/// What was seen of a flow when it started, or a moment later: its socket and process may be gone
/// before the next observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewFlowRecord {
    /// The network namespace whose table has the flow.
    pub netns: NetnsKey,
    /// Its tuples, zone and generation; it has no counters yet.
    pub flow: Flow,
    /// The processes seen at the originator's end and at the responder's.
    pub ends: [Option<Seen>; 2],
    /// Whether this is the flow's start; otherwise it adds to an earlier record.
    pub is_new: bool,
}
