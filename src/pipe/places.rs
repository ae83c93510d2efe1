//! How many connections there is room for: each takes two descriptors, and a process has so many.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// Places for connections. Pipes of one process that share it leave each other room; a client that
/// gets no descriptor for its remote would have taken one in vain.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: AtomicUsize,
}

impl Places {
    /// Places for this many connections.
    pub fn new(most: usize) -> Places {
        Places { most: most.max(1), taken: AtomicUsize::new(0) }
    }

    /// As many as the process has descriptors for, beside those that are open now and as many as are
    /// still `wanted` for other things.
    pub fn beside(wanted: usize) -> Places {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // One to spare, for reading a file.
        let most = limit.map_or(usize::MAX, |limit| limit.saturating_sub(open + wanted + 1) / 2);
        Places::new(most)
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self) -> bool {
        let before = self.taken.fetch_add(1, Ordering::AcqRel);
        if before >= self.most {
            self.give_back();
        }
        before < self.most
    }

    /// Gives one back.
    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether there is one.
    pub(super) fn are_left(&self) -> bool {
        self.taken.load(Ordering::Acquire) < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_one_and_never_more_than_all() {
        for (given, most) in [(0, 1), (1, 1), (3, 3)] {
            let places = Places::new(given);
            assert_eq!((0..10).filter(|_| places.take()).count(), most);
            assert!(!places.are_left());
            places.give_back();
            assert!(places.are_left() && places.take() && !places.take());
        }
    }

    #[test]
    fn what_is_wanted_otherwise_is_left() {
        assert!(Places::beside(100).most <= Places::beside(0).most);
        assert_eq!(Places::beside(usize::MAX / 2).most, 1);
    }
}
