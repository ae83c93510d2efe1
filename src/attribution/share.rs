//! A share of bytes and its owner.

use crate::model::Remote;
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;

/// Bytes to add to an owner's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The owner, or the reason why there is none.
    pub to: Owner,
    /// Bytes that are now accounted to `to`, whenever they were counted.
    pub traffic: Traffic,
    /// The part of them that was counted since the last observation, which makes the rate.
    pub recent: Traffic,
    /// The reason that the rest of them was accounted to until now.
    pub from: Option<Reason>,
    /// Whether the flow never left this host.
    pub local: bool,
    /// The other end; `None` if it is not known, or not asked for.
    pub remote: Option<Remote>,
}
