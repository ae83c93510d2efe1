//! Source `conntrack`: connection tracking counts the IP bytes of every flow.

use super::flow_reading::{Counted, FlowSource};
use crate::tracker::Opens;

/// Reads connection tracking's tables.
pub(super) fn source(lookback: bool, details: bool) -> FlowSource {
    let opens = Opens { flows: true, ..Opens::default() };
    FlowSource::new(Counted::ByTables, opens, lookback, details)
}
