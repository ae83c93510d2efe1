//! Processes: who they are, what they are called, and which of them holds a socket.

mod describe;
mod descriptors;
mod owners;

pub use describe::COMMAND_LINE_MAX;
pub use owners::{Owners, Ownership};

use std::sync::Arc;

/// A process. The kernel uses process numbers again, so that the number alone is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// When it started, in clock ticks since boot. First, so that the order is by age.
    pub start_time: u64,
    /// Its number in the PID namespace of the procfs that was read.
    pub pid: u32,
}

/// How a process is shown and matched: `/proc/PID/cmdline` with spaces for NUL bytes, or its name
/// in brackets where that is empty. Bytes, not text, and nothing in it can be trusted.
pub type CommandLine = Arc<[u8]>;
