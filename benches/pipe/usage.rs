//! What the processes of a forwarder took: CPU time and memory.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;

use crate::members::{members, seconds};

/// A forwarder is done with what it did as soon as nothing more is added for so long.
const QUIET: Duration = Duration::from_millis(50);
/// So often that is looked at.
const LOOKS: usize = 40;

/// Seconds of CPU time of a group of processes, as soon as it has nothing more to do: the end of a
/// thousand connections is still to be dealt with when the client is gone, and what ends between
/// being looked at and its parent could count twice.
pub(crate) fn cpu(group: i32) -> anyhow::Result<f64> {
    let ticks = || members(group).map(|all| all.iter().map(|(_, ticks)| ticks).sum::<u64>());
    let mut last = ticks()?;
    for _ in 0..LOOKS {
        sleep(QUIET);
        let now = ticks()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(seconds(last))
}

/// Kilobytes (10³ bytes) of a group of processes, each page shared out among those that have it.
/// What the kernel holds for them (buffers, pipes, page tables) is not in it.
pub(crate) fn memory(group: i32) -> anyhow::Result<f64> {
    let mut sum = None;
    for (pid, _) in members(group)? {
        // Nothing to read if it has ended.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes = pss.and_then(|rest| rest.split_whitespace().next());
        if let Some(kibibytes) = kibibytes.and_then(|text| text.parse::<f64>().ok()) {
            sum = Some(sum.unwrap_or(0.0) + kibibytes * 1.024);
        }
    }
    ensure!(sum.is_some(), "no process is left in the group {group}");
    Ok(sum.unwrap_or(f64::NAN))
}
