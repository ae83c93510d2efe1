//! Which process.

/// A process. The kernel uses process numbers again, so that the number alone is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// When it started, in clock ticks since boot. First, so that the order is by age.
    pub start_time: u64,
    /// Its number in the PID namespace of the procfs that was read.
    pub pid: u32,
}
