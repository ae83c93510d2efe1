//! Bytes that are in no slot, for each network namespace (`struct outside` in `program/slots.h`).

use aya::maps::{HashMap, Map, MapData, MapError};

use super::slots::Bytes;
use crate::model::traffic::Traffic;

/// With more namespaces than this, half of the map's room, those in which nothing happens are forgotten.
const MANY: usize = 2048;
/// After so many readings without a change.
const QUIET: u32 = 4;

/// `struct outside`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Raw {
    sent: [u64; 2],
    received: [u64; 2],
    sent_by_none: [u64; 2],
    received_by_none: [u64; 2],
    pings: [u64; 2],
    resets: [u64; 2],
}

/// What was counted of a network namespace that no slot has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Of sockets for which there was no slot.
    pub without_slot: Bytes,
    /// No socket was there for them (any more).
    pub without_socket: Bytes,
    /// Answers to pings, sent through sockets that the kernel uses in all namespaces.
    pub pings: Bytes,
    /// Refusals of connections, sent like those.
    pub resets: Bytes,
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
            pings: bytes(raw.pings, [0; 2]),
            resets: bytes(raw.resets, [0; 2]),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    of: Outside,
    /// What is known here alone: bytes of listening sockets that are there no more.
    own: Bytes,
    /// For how many readings nothing has changed.
    quiet: u32,
}

/// The kernel's map.
#[derive(Debug)]
pub(super) struct Namespaces {
    map: HashMap<MapData, u64, Raw>,
    /// How often it had changed when it was read.
    changes: u64,
    known: std::collections::HashMap<u64, Known, foldhash::fast::RandomState>,
}

impl Namespaces {
    /// Where a namespace's cookie isn't known, or there are too many, its bytes stand under 0.
    pub(super) fn new(map: Map) -> Result<Namespaces, MapError> {
        let mut map = HashMap::try_from(map)?;
        map.insert(0, Raw::default(), 0)?;
        Ok(Namespaces { map, changes: 0, known: Default::default() })
    }

    /// Every namespace's, by its cookie; read again if there was another number of `changes` before. Where there
    /// are many, those in which nothing happens are left out from then on.
    pub(super) fn read(&mut self, changes: u64) -> impl Iterator<Item = (u64, Outside)> {
        // One that can't be read now is read the next time.
        if changes != self.changes
            && let Ok(all) = self.map.iter().collect::<Result<Vec<_>, _>>()
        {
            self.changes = changes;
            for (cookie, raw) in all {
                let known = self.known.entry(cookie).or_default();
                let now = Outside::from(raw);
                known.quiet = if known.of == now { known.quiet + 1 } else { 0 };
                known.of = now;
            }
        }
        if self.known.len() > MANY {
            let map = &mut self.map;
            self.known.retain(|cookie, known| {
                let kept = *cookie == 0 || known.quiet < QUIET;
                if !kept {
                    let _ = map.remove(cookie);
                }
                kept
            });
        }
        self.known.iter().map(|(cookie, Known { of, own, .. })| {
            let without_socket = of.without_socket + *own;
            (*cookie, Outside { without_socket, ..*of })
        })
    }

    /// Bytes of a listening socket of this namespace that is there no more.
    pub(super) fn add(&mut self, netns: u64, bytes: Bytes) {
        let known = self.known.entry(netns).or_default();
        known.own = known.own + bytes;
        known.quiet = 0;
    }
}
