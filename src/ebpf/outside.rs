//! Bytes that are in no slot, for each network namespace (`struct outside` in `program/slots.h`).

use aya::maps::{HashMap, Map, MapData, MapError};

use super::slots::Bytes;
use crate::traffic::Traffic;

/// `struct outside`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Raw {
    sent: [u64; 2],
    received: [u64; 2],
    sent_by_none: [u64; 2],
    received_by_none: [u64; 2],
}

/// What was counted of a network namespace that no slot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Of sockets for which there was no slot.
    pub without_slot: Bytes,
    /// No socket was there for them (any more).
    pub without_socket: Bytes,
}

impl From<Raw> for Outside {
    fn from(raw: Raw) -> Outside {
        let bytes = |sent: [u64; 2], received: [u64; 2]| Bytes {
            remote: Traffic::new(received[0], sent[0]),
            local: Traffic::new(received[1], sent[1]),
        };
        Outside {
            without_slot: bytes(raw.sent, raw.received),
            without_socket: bytes(raw.sent_by_none, raw.received_by_none),
        }
    }
}

/// The kernel's map.
#[derive(Debug)]
pub(super) struct Namespaces {
    map: HashMap<MapData, u64, Raw>,
    /// How often it had changed when it was read, and what it was.
    changes: u64,
    /// What is known here alone, of no namespace in particular.
    own: Bytes,
    read: Vec<(u64, Outside)>,
}

impl Namespaces {
    /// Where a namespace's cookie isn't known, or there are too many, its bytes stand under 0.
    pub(super) fn new(map: Map) -> Result<Namespaces, MapError> {
        let mut map = HashMap::try_from(map)?;
        map.insert(0, Raw::default(), 0)?;
        Ok(Namespaces { map, changes: 0, own: Bytes::default(), read: Vec::new() })
    }

    /// Every namespace's, by its cookie; read again if there was another number of `changes` before.
    pub(super) fn read(&mut self, changes: u64) -> &[(u64, Outside)] {
        if changes != self.changes {
            // One that can't be read now is read the next time.
            let all: Result<Vec<_>, _> = self.map.iter().collect();
            if let Ok(all) = all {
                self.changes = changes;
                self.read = all.into_iter().map(|(cookie, raw)| (cookie, raw.into())).collect();
                for (_, unknown) in self.read.iter_mut().filter(|(cookie, _)| *cookie == 0) {
                    unknown.without_socket = unknown.without_socket + self.own;
                }
            }
        }
        &self.read
    }

    /// Bytes of a listening socket that is there no more.
    pub(super) fn add(&mut self, bytes: Bytes) {
        self.own = self.own + bytes;
        self.changes = u64::MAX;
    }
}
