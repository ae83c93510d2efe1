//! Bytes that are in no slot, for each network namespace (`struct outside` in `program/slots.h`).

use aya::maps::{HashMap, Map, MapData, MapError};

use super::slots::Bytes;
use crate::model::traffic::Traffic;

/// Number of namespaces, half of the map's room, above which quiet ones are forgotten.
const MANY: usize = 2048;
/// Number of readings without a change after which a namespace is quiet.
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

/// Bytes of a network namespace that are in no slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Bytes of sockets for which no slot was free.
    pub without_slot: Bytes,
    /// Bytes without a socket (any more).
    pub without_socket: Bytes,
    /// Answers to pings, which the kernel sends through sockets that all namespaces share.
    pub pings: Bytes,
    /// Resets of refused connections, which the kernel sends likewise.
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
    /// Bytes that only this side knows: those of listening sockets that have ended.
    own: Bytes,
    /// Number of readings without a change.
    quiet: u32,
}

/// The kernel's map.
#[derive(Debug)]
pub(super) struct Namespaces {
    map: HashMap<MapData, u64, Raw>,
    /// The number of changes when it was read.
    changes: u64,
    known: std::collections::HashMap<u64, Known, foldhash::fast::RandomState>,
}

impl Namespaces {
    /// Bytes of unknown namespaces, or of too many, are under 0.
    pub(super) fn new(map: Map) -> Result<Namespaces, MapError> {
        let mut map = HashMap::try_from(map)?;
        map.insert(0, Raw::default(), 0)?;
        Ok(Namespaces { map, changes: 0, known: Default::default() })
    }

    /// All namespaces, by their cookies. The map is read again if the number of `changes` has changed. If there
    /// are many, quiet ones are left out from then on.
    pub(super) fn read(&mut self, changes: u64) -> impl Iterator<Item = (u64, Outside)> {
        // An entry that can't be read now is read the next time.
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

    /// Adds bytes of a listening socket of this namespace that has ended.
    pub(super) fn add(&mut self, netns: u64, bytes: Bytes) {
        let known = self.known.entry(netns).or_default();
        known.own = known.own + bytes;
        known.quiet = 0;
    }
}
