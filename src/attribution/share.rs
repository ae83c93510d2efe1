//! Bytes that go to somebody.

use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;

/// Bytes that stand on somebody's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Whose they are, or why nobody's.
    pub to: Owner,
    /// Bytes that are now accounted to `to`, whenever they were counted.
    pub traffic: Traffic,
    /// Those among them that were counted since the last observation: what a rate is made of.
    pub recent: Traffic,
    /// The reason under which the others stood until now, and no longer do.
    pub from: Option<Reason>,
    /// Whether the flow never left this host.
    pub local: bool,
}
