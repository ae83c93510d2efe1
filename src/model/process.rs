//! The identity of a process.

/// A process. The kernel reuses pids, so a pid alone identifies no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Start time, in clock ticks since boot. It comes first, so that processes are ordered by age.
    pub start_time: u64,
    /// The pid, in the PID namespace of the procfs that was read.
    pub pid: u32,
}
