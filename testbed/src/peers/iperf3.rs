//! What iperf3 reports.

use anyhow::Context;
use serde_json::Value;

/// How many bytes arrived in how many seconds.
pub fn received(said: &str) -> anyhow::Result<(f64, f64)> {
    let report: Value = serde_json::from_str(said)?;
    let number = |name: &str| report["end"]["sum_received"][name].as_f64();
    number("bytes").zip(number("seconds")).with_context(|| format!("iperf3: {}", report["error"]))
}
