//! The capacity for connections: each takes two descriptors, and a process has a limit of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// The capacity for connections that several pipes of one process share. A client is accepted only
/// if a descriptor for its remote will be free too.
#[derive(Debug)]
pub struct ConnectionSlots {
    /// Descriptors for connections and reserved ones.
    descriptors: usize,
    reserved: AtomicUsize,
    taken: AtomicUsize,
}

impl ConnectionSlots {
    /// Capacity for this many connections.
    pub fn new(most: usize) -> ConnectionSlots {
        ConnectionSlots {
            descriptors: most.saturating_mul(2),
            reserved: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// As many connections as the process has free descriptors for, if this many are `wanted` for
    /// other purposes.
    pub fn beside(wanted: usize) -> ConnectionSlots {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // One to spare, for reading a file.
        let descriptors = limit.map_or(usize::MAX, |limit| limit.saturating_sub(open + 1));
        ConnectionSlots {
            descriptors,
            reserved: AtomicUsize::new(wanted),
            taken: AtomicUsize::new(0),
        }
    }

    /// Reserves this many descriptors for other purposes. Open connections stay.
    pub fn reserve(&self, wanted: usize) {
        self.reserved.store(wanted, Ordering::Release);
    }

    fn most(&self) -> usize {
        let reserved = self.reserved.load(Ordering::Acquire);
        (self.descriptors.saturating_sub(reserved) / 2).max(1)
    }

    /// Takes one slot, if one is free.
    pub(super) fn take(&self) -> bool {
        let is_left = self.taken.fetch_add(1, Ordering::AcqRel) < self.most();
        if !is_left {
            self.give_back();
        }
        is_left
    }

    /// Returns a slot.
    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a slot is free.
    pub(super) fn are_left(&self) -> bool {
        self.taken.load(Ordering::Acquire) < self.most()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_one_and_never_more_than_all() {
        for (given, most) in [(0, 1), (1, 1), (3, 3)] {
            let slots = ConnectionSlots::new(given);
            assert_eq!((0..10).filter(|_| slots.take()).count(), most);
            assert!(!slots.are_left());
            slots.give_back();
            assert!(slots.are_left() && slots.take() && !slots.take());
        }
    }

    #[test]
    fn what_is_wanted_otherwise_is_left() {
        assert!(ConnectionSlots::beside(100).most() <= ConnectionSlots::beside(0).most());
        assert_eq!(ConnectionSlots::beside(usize::MAX / 2).most(), 1);
    }

    /// Pipes that come later need descriptors, too.
    #[test]
    fn what_is_reserved_later_is_left_as_well() {
        let slots = ConnectionSlots::new(10);
        assert!((0..4).all(|_| slots.take()));
        slots.reserve(2 * 5);
        assert!(slots.take() && !slots.take());
        slots.reserve(2 * 9);
        slots.give_back();
        assert!(!slots.are_left(), "open connections stay, and no other comes");
        slots.reserve(0);
        assert!(slots.are_left());
    }
}
