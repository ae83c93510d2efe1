//! Source `sockets`: TCP sockets count their payload bytes, and sock_diag shows them.

use super::flow_reading::{Counted, FlowSource};
use crate::tracker::Opens;

/// Reads the counters of TCP sockets, and the last ones when their ends are announced.
pub(super) fn source(lookback: bool, details: bool) -> FlowSource {
    let opens = Opens { ends: true, ..Opens::default() };
    FlowSource::new(Counted::BySockets, opens, lookback, details)
}
