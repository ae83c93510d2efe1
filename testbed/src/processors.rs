//! How busy this host is.

use std::fs;

/// The times of all processors together since the host was started, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Processors {
    idle: u64,
    all: u64,
}

impl Processors {
    /// From the first line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal; the
    /// guests' times after them are part of the first two.
    pub(crate) fn now() -> Processors {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let line = stat.lines().next().unwrap_or_default();
        let times: Vec<u64> =
            line.split_whitespace().skip(1).take(8).map(|time| time.parse().unwrap()).collect();
        Processors { idle: times[3] + times[4], all: times.iter().sum() }
    }

    /// The share of the time since then that they were idle, from 0 to 1.
    pub(crate) fn idle_since(self) -> f64 {
        let now = Processors::now();
        let all = now.all.saturating_sub(self.all).max(1);
        now.idle.saturating_sub(self.idle) as f64 / all as f64
    }
}
