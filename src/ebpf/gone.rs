//! The origins of sockets that have lost their slots and may need another one.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::slots::Origin;

/// Minimum number of sockets that are remembered.
const FEWEST: usize = 1 << 14;

/// The kernel keeps nothing of these sockets.
#[derive(Debug, Default)]
pub(super) struct Gone {
    later: HashMap<u64, Origin, RandomState>,
    before: HashMap<u64, Origin, RandomState>,
    /// The highest cookie among them. Most new sockets have higher ones, and need no look-up.
    highest: u64,
}

impl Gone {
    pub(super) fn insert(&mut self, cookie: u64, origin: &Origin) {
        if self.later.len() >= FEWEST {
            std::mem::swap(&mut self.later, &mut self.before);
            self.later.clear();
        }
        self.highest = self.highest.max(cookie);
        self.later.insert(cookie, *origin);
    }

    pub(super) fn get(&self, cookie: u64) -> Option<&Origin> {
        if cookie > self.highest {
            return None;
        }
        self.later.get(&cookie).or_else(|| self.before.get(&cookie))
    }
}
