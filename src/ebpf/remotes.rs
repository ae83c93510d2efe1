//! Bytes of sockets by remote end and interface (`struct remote` in `program/remotes.h`).

use aya::maps::{HashMap, Map, MapData, MapError};
use foldhash::fast::RandomState;

use crate::model::flow::{Address, Endpoint, Protocol};
use crate::model::traffic::Traffic;
use crate::model::{Interface, Remote};

/// Maximum number of remote ends that the kernel keeps apart, of all sockets together. Each takes about 130 bytes of
/// its memory.
pub(super) const ROOM: u32 = 1 << 16;

/// Maximum number of connections whose interface is remembered from when they are asked for until they have a socket.
pub(super) const ASKED: u32 = 1 << 13;

/// Number of readings without new bytes for which a remote end is kept: if there are few, and if the map is half
/// full.
const KEPT: u32 = 60;
const KEPT_OF_MANY: u32 = 2;
const MANY: usize = ROOM as usize / 2;

/// The loopback device has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// `struct remote`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub(super) struct Key {
    cookie: u64,
    address: [u8; 16],
    local_port: [u8; 2],
    remote_port: [u8; 2],
    interface: u32,
    protocol: u32,
    unused: u32,
}

/// `struct remote_bytes`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Raw {
    sent: u64,
    received: u64,
    interface: [u8; 16],
}

/// New bytes of a socket's remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteBytes {
    /// The cookie of the socket.
    pub cookie: u64,
    /// The remote end.
    pub remote: Remote,
    /// Whether it is on the loopback device.
    pub local: bool,
    /// Its bytes since the last reading.
    pub new: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    bytes: Traffic,
    interface: Interface,
    /// The last reading that found it.
    seen: u64,
    /// Number of readings without new bytes.
    idle: u32,
}

/// The kernel's map, if it is used.
#[derive(Debug)]
pub(super) struct Remotes {
    map: HashMap<MapData, Key, Raw>,
    readings: u64,
    known: std::collections::HashMap<Key, Known, RandomState>,
}

impl Remotes {
    pub(super) fn new(map: Map) -> Result<Remotes, MapError> {
        Ok(Remotes { map: HashMap::try_from(map)?, readings: 0, known: Default::default() })
    }

    /// Hands on the new bytes of each remote end. Remote ends that are silent leave the map.
    pub(super) fn read(&mut self, mut each: impl FnMut(RemoteBytes)) {
        // What can't be read now is read the next time.
        let all: Vec<(Key, Raw)> = self.map.iter().filter_map(Result::ok).collect();
        let kept = if all.len() > MANY { KEPT_OF_MANY } else { KEPT };
        self.readings += 1;
        let mut silent = Vec::new();
        let mut without_interface = Vec::new();
        for (key, raw) in all {
            let known = self.known.entry(key).or_default();
            let now = Traffic::new(raw.received, raw.sent);
            let new = since(known.bytes, now);
            known.bytes = now;
            known.seen = self.readings;
            known.interface = interface(&key, &raw);
            if new.is_zero() {
                known.idle += 1;
                if known.idle >= kept {
                    silent.push(key);
                }
                continue;
            }
            known.idle = 0;
            if key.interface == 0 {
                without_interface.push((key, new));
                continue;
            }
            each(RemoteBytes::of(&key, known.interface, new));
        }
        // Others may have given way in the kernel.
        let readings = self.readings;
        self.known.retain(|_, known| known.seen == readings);
        self.place(&without_interface, each);
        for key in silent {
            // Bytes that come at this very moment have no remote end any more.
            if self.map.remove(&key).is_ok() {
                self.known.remove(&key);
            }
        }
    }

    /// The handshake of a connection went over the interface that the connection uses.
    fn place(&self, handshakes: &[(Key, Traffic)], mut each: impl FnMut(RemoteBytes)) {
        if handshakes.is_empty() {
            return;
        }
        let named = self.known.iter().filter(|(key, _)| key.interface != 0);
        let interfaces: std::collections::HashMap<Key, (u32, Interface), RandomState> = named
            .map(|(key, known)| (Key { interface: 0, ..*key }, (key.interface, known.interface)))
            .collect();
        for (key, new) in handshakes {
            let (number, interface) = interfaces.get(key).copied().unwrap_or_default();
            each(RemoteBytes::of(&Key { interface: number, ..*key }, interface, *new));
        }
    }
}

/// The bytes since an earlier reading. An entry that gave way to another one begins anew when it comes back.
fn since(before: Traffic, now: Traffic) -> Traffic {
    let is_same = now.received >= before.received && now.sent >= before.sent;
    if is_same { now - before } else { now }
}

/// The interface of a remote end; its name is unknown if the kernel does not let its structures be read.
fn interface(key: &Key, raw: &Raw) -> Interface {
    match raw.interface {
        [0, ..] if key.interface == LOOPBACK => Interface::LOOPBACK,
        name => Interface::named(name.split(|byte| *byte == 0).next().unwrap_or_default()),
    }
}

impl RemoteBytes {
    fn of(key: &Key, interface: Interface, new: Traffic) -> RemoteBytes {
        let remote =
            Endpoint::new(Address::from_v6(key.address), u16::from_be_bytes(key.remote_port));
        let remote = Remote {
            protocol: Protocol(key.protocol as u8),
            local_port: u16::from_be_bytes(key.local_port),
            remote,
            interface,
        };
        RemoteBytes { cookie: key.cookie, remote, local: key.interface == LOOPBACK, new }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_end_is_read_as_the_kernel_writes_it() {
        assert_eq!((size_of::<Key>(), size_of::<Raw>()), (40, 32));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let (local_port, remote_port) = ([0x30, 0x39], [0, 53]);
        let key = Key {
            cookie: 7,
            address: mapped,
            local_port,
            remote_port,
            interface: 3,
            protocol: 17,
            unused: 0,
        };
        let raw = Raw { interface: *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0", ..Raw::default() };
        let bytes = RemoteBytes::of(&key, interface(&key, &raw), Traffic::new(1, 2));
        assert_eq!((bytes.cookie, bytes.local, bytes.new), (7, false, Traffic::new(1, 2)));
        let remote = bytes.remote;
        assert_eq!((remote.protocol, remote.local_port), (Protocol::UDP, 12345));
        assert_eq!(remote.remote.to_string(), "192.0.2.1:53");
        assert_eq!(remote.interface.name(), Some(&b"eth0"[..]));
        let bytes = Traffic::new;
        assert_eq!(since(bytes(5, 9), bytes(7, 9)), bytes(2, 0));
        assert_eq!(since(bytes(5, 9), bytes(6, 1)), bytes(6, 1));
        let loopback = Key { interface: LOOPBACK, ..key };
        assert_eq!(interface(&loopback, &Raw::default()), Interface::LOOPBACK);
        assert_eq!(interface(&key, &Raw::default()), Interface::UNKNOWN);
    }
}
