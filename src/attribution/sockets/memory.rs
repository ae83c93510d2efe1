//! What is remembered of sockets from one observation to the next.

use slab::Slab;

use super::{Reason, Remembered};
use crate::ebpf::{Bytes, Counted};
use crate::processes::ProcessId;

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    cookie: u64,
    /// What was accounted.
    pub(super) last: Bytes,
    pub(super) remembered: Remembered,
    /// To whom its last bytes were accounted that had a process.
    pub(super) owner: Option<ProcessId>,
    /// Whether it is a connection that nobody has accepted yet, as far as is known.
    pub(super) is_unaccepted: bool,
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
            remembered: Remembered::default(),
            owner: None,
            is_unaccepted: false,
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
    known: Slab<Known>,
}

impl Memory {
    /// Where what is known of the socket in a slot is.
    fn place(&self, slot: u32) -> Option<usize> {
        Some(self.places.get(slot as usize)?.checked_sub(1)? as usize)
    }

    pub(super) fn get(&self, of: &Counted) -> Option<&Known> {
        let known = self.known.get(self.place(of.slot)?)?;
        (known.cookie == of.cookie).then_some(known)
    }

    /// Nothing is known yet of one that is not remembered; another socket in its slot is forgotten.
    pub(super) fn remember(&mut self, of: &Counted, observation: u32) -> &mut Known {
        let slot = of.slot as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, 0);
        }
        let new = || Known::new(of.cookie, observation);
        let place = self.place(of.slot).unwrap_or_else(|| self.known.insert(new()));
        self.places[slot] = place as u32 + 1;
        let known = &mut self.known[place];
        if known.cookie != of.cookie {
            *known = new();
        }
        known
    }

    pub(super) fn forget(&mut self, of: &Counted) {
        if self.get(of).is_some()
            && let Some(place) = self.place(of.slot)
        {
            self.places[of.slot as usize] = 0;
            self.known.remove(place);
        }
    }
}
