//! Counters of forwarded bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// A direction of bytes. Its number is the index of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the remote.
    Up = 0,
    /// From the remote to the client.
    Down = 1,
}

impl Way {
    pub(super) const BOTH: [Way; 2] = [Way::Up, Way::Down];
}

/// A worker's bytes in each [`Way`]. They have a cache line of their own, because they change with
/// every write and each worker has such a pair.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Counters([AtomicU64; 2]);

impl Counters {
    pub(super) fn get(&self, way: Way) -> u64 {
        self.0[way as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, way: Way, bytes: usize) {
        self.0[way as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
