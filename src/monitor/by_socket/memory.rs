//! What is remembered of sockets from one observation to the next.

use super::{Reason, Remembered};
use crate::ebpf::{Bytes, Counted};
use crate::processes::ProcessId;

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    cookie: u64,
    /// What was accounted.
    pub(super) last: Bytes,
    /// What was counted at the observation before.
    pub(super) before: Bytes,
    pub(super) remembered: Remembered,
    /// To whom its last bytes were accounted.
    pub(super) owner: Option<ProcessId>,
    /// Why what has come so far is nobody's, and how much that is.
    pub(super) waiting: Option<(Reason, Bytes)>,
    /// The first observation that showed bytes.
    pub(super) begun: u32,
    pub(super) idle: u32,
}

impl Known {
    fn new(cookie: u64, begun: u32) -> Known {
        Known {
            cookie,
            last: Bytes::default(),
            before: Bytes::default(),
            remembered: Remembered::default(),
            owner: None,
            waiting: None,
            begun,
            idle: 0,
        }
    }
}

/// Takes as much memory as there are sockets worth remembering, however many come and go.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By slots: where what is known of its socket is, plus one; 0 if nothing is.
    places: Vec<u32>,
    known: Vec<Known>,
    unused: Vec<u32>,
}

impl Memory {
    fn place(&self, slot: u32) -> Option<u32> {
        self.places.get(slot as usize)?.checked_sub(1)
    }

    pub(super) fn get(&self, of: &Counted) -> Option<&Known> {
        let known = self.known.get(self.place(of.slot)? as usize)?;
        (known.cookie == of.cookie).then_some(known)
    }

    /// Nothing is known yet of one that is not remembered; another socket in its slot is forgotten.
    pub(super) fn remember(&mut self, of: &Counted, observation: u32) -> &mut Known {
        let slot = of.slot as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, 0);
        }
        let place = self.place(of.slot).or_else(|| self.unused.pop());
        let place = place.map_or(self.known.len(), |place| place as usize);
        self.places[slot] = place as u32 + 1;
        let new = || Known::new(of.cookie, observation);
        if place == self.known.len() {
            self.known.push(new());
        } else if self.known[place].cookie != of.cookie {
            self.known[place] = new();
        }
        &mut self.known[place]
    }

    pub(super) fn forget(&mut self, of: &Counted) {
        if self.get(of).is_some()
            && let Some(place) = self.place(of.slot)
        {
            self.places[of.slot as usize] = 0;
            self.known[place as usize].cookie = 0;
            self.unused.push(place);
        }
    }
}
