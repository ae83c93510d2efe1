//! Packet sockets, which send frames to devices (`struct packet_socket` in `program/frames.h`).

use aya::maps::{HashMap, Map, MapData, MapError};

use super::slots::{Bytes, Origin, TICK, Task};
use crate::model::flow::Protocol;
use crate::model::traffic::Traffic;
use crate::sockets::Inode;

/// `struct packet_socket`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Raw {
    sent: [u64; 2],
    netns: u64,
    sender_when: u64,
    name: [u8; 16],
    sender: u32,
    user: u32,
}

/// The base of cookies made up for packet sockets, which have none: no real cookie is as high.
const COOKIE: u64 = 1 << 63;

/// Number of readings without new frames for which a socket is kept: if there are few, and if the
/// map is half full.
const KEPT: u32 = 600;
const KEPT_OF_MANY: u32 = 8;
const MANY: usize = 512;

#[derive(Debug)]
struct Known {
    inode: u64,
    raw: Raw,
    idle: u32,
}

/// The kernel's map, and an index for each of its sockets.
#[derive(Debug)]
pub(super) struct PacketSockets {
    map: HashMap<MapData, u64, Raw>,
    frames: u64,
    places: Vec<Option<Known>>,
}

impl PacketSockets {
    pub(super) fn new(map: Map) -> Result<PacketSockets, MapError> {
        Ok(PacketSockets { map: HashMap::try_from(map)?, frames: 0, places: Vec::new() })
    }

    /// Hands on the index, the cookie and the bytes of each, and whether that is the last time. The map is read
    /// again if the number of `frames` has changed. `forgotten` receives the user index of each socket that is
    /// dropped.
    pub(super) fn read(
        &mut self,
        frames: u64,
        mut forgotten: impl FnMut(u32),
        mut each: impl FnMut(usize, u64, Bytes, bool),
    ) {
        if frames != self.frames {
            let all: Result<Vec<_>, _> = self.map.iter().collect();
            if let Ok(all) = all {
                self.frames = frames;
                all.into_iter().for_each(|(inode, raw)| self.know(inode, raw));
            }
        }
        let kept = if self.places.iter().flatten().count() > MANY { KEPT_OF_MANY } else { KEPT };
        for (place, known) in self.places.iter_mut().enumerate() {
            let Some(socket) = known else { continue };
            socket.idle += 1;
            // A frame may have come since.
            let unchanged = |now: Raw| now.sent == socket.raw.sent;
            let last = socket.idle > kept && self.map.get(&socket.inode, 0).map_or(true, unchanged);
            let sent = |at: usize| Traffic::new(0, socket.raw.sent[at]);
            each(place, COOKIE | socket.inode, Bytes { remote: sent(0), local: sent(1) }, last);
            if last {
                let _ = self.map.remove(&socket.inode);
                forgotten(socket.raw.user);
                *known = None;
            }
        }
    }

    fn know(&mut self, inode: u64, raw: Raw) {
        let is_it = |known: &&mut Option<Known>| known.as_ref().is_some_and(|k| k.inode == inode);
        if let Some(Some(known)) = self.places.iter_mut().find(is_it) {
            if known.raw.sent != raw.sent {
                *known = Known { inode, raw, idle: 0 };
            }
            return;
        }
        let known = Some(Known { inode, raw, idle: 0 });
        match self.places.iter_mut().find(|place| place.is_none()) {
            Some(free) => *free = known,
            None => self.places.push(known),
        }
    }

    /// The origin of the socket at an index.
    pub(super) fn origin(&self, place: usize) -> Option<Origin> {
        let Raw { netns, sender_when, name, sender, .. } = self.places.get(place)?.as_ref()?.raw;
        let start = Some(sender_when / TICK).filter(|start| *start != 0);
        Some(Origin {
            maker: Some(Task { pid: sender, start, name }),
            made: sender_when,
            closer: None,
            accepted: false,
            listener: 0,
            released: false,
            ended: false,
            listening: false,
            silent: false,
            multipath: false,
            token: 0,
            netns,
            ports: [0; 2],
            protocol: Protocol(0),
        })
    }
}

/// The inode of a packet socket, from its made-up cookie.
pub(super) fn inode(cookie: u64) -> Inode {
    Inode(cookie as u32)
}
