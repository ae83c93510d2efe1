//! The memory of sockets from one observation to the next.

use slab::Slab;

use super::super::settle::Standing;
use super::Remembered;
use crate::ebpf::{Bytes, Counted};
use crate::model::owner::Reason;

#[derive(Clone, Copy, Debug)]
pub(super) struct RememberedSocket {
    cookie: u64,
    /// The bytes accounted so far.
    pub(super) last: Bytes,
    pub(super) remembered: Remembered,
    /// Its owner, or the reason why it has none, with the bytes that wait.
    pub(super) standing: Standing<Bytes>,
    /// Whether it is a connection that is not accepted yet, as far as is known.
    pub(super) is_unaccepted: bool,
    /// The first observation that showed bytes.
    pub(super) begun: u32,
    pub(super) idle: u32,
}

impl RememberedSocket {
    fn new(cookie: u64, begun: u32) -> RememberedSocket {
        RememberedSocket {
            cookie,
            last: Bytes::default(),
            remembered: Remembered::default(),
            standing: Standing::Elsewhere,
            is_unaccepted: false,
            begun,
            idle: 0,
        }
    }
}

impl RememberedSocket {
    /// The bytes that wait because a process could not be read.
    fn never_read(&self) -> Bytes {
        match self.standing {
            Standing::Waiting(Reason::Unread, bytes) => bytes,
            _ => Bytes::default(),
        }
    }
}

/// Memory in proportion to the sockets worth remembering, however many come and go.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// For each slot the index of its socket plus one; 0 if it has none.
    places: Vec<u32>,
    known: Slab<RememberedSocket>,
}

impl Memory {
    /// The index of the socket in a slot.
    fn place(&self, slot: u32) -> Option<usize> {
        Some(self.places.get(slot as usize)?.checked_sub(1)? as usize)
    }

    pub(super) fn get(&self, of: &Counted) -> Option<&RememberedSocket> {
        let known = self.known.get(self.place(of.slot)?)?;
        (known.cookie == of.cookie).then_some(known)
    }

    pub(super) fn get_mut(&mut self, of: &Counted) -> Option<&mut RememberedSocket> {
        let place = self.place(of.slot)?;
        self.known.get_mut(place).filter(|known| known.cookie == of.cookie)
    }

    /// The entry of a socket, which is empty if it is new; another socket in its slot is forgotten. Also returns the
    /// bytes of that one whose process was not read in time.
    pub(super) fn remember(
        &mut self,
        of: &Counted,
        observation: u32,
    ) -> (&mut RememberedSocket, Bytes) {
        let slot = of.slot as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, 0);
        }
        let new = || RememberedSocket::new(of.cookie, observation);
        let place = self.place(of.slot).unwrap_or_else(|| self.known.insert(new()));
        self.places[slot] = place as u32 + 1;
        let known = &mut self.known[place];
        let mut never_read = Bytes::default();
        if known.cookie != of.cookie {
            never_read = known.never_read();
            *known = new();
        }
        (known, never_read)
    }

    /// Forgets a socket. Returns the bytes of it whose process was not read in time.
    pub(super) fn forget(&mut self, of: &Counted) -> Bytes {
        match self.place(of.slot).filter(|_| self.get(of).is_some()) {
            None => Bytes::default(),
            Some(place) => {
                self.places[of.slot as usize] = 0;
                self.known.remove(place).never_read()
            }
        }
    }
}
