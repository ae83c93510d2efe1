//! What the program in the kernel writes: the layouts of `program/sockets.bpf.c`.
//!
//! Everything in them is an atomic integer, because the kernel writes while it is read. Each is right
//! by itself; two of them may be a packet apart.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::flow::Protocol;
use crate::traffic::Traffic;

/// `struct slot`: the bytes of one socket, line of the cache by line.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Slot {
    socket: Identity,
    sender: Sent,
    receiver: Received,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Identity {
    cookie: AtomicU64,
    made: AtomicU64,
    netns: AtomicU64,
    listener: AtomicU64,
    maker: AtomicU32,
    closer: AtomicU32,
    flags: AtomicU32,
    local_port: AtomicU16,
    remote_port: AtomicU16,
    protocol: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Sent {
    bytes: [AtomicU64; 2],
    maker_name: [AtomicU64; 2],
    closer_name: [AtomicU64; 2],
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Received {
    bytes: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Slot>() == 192);

const ACCEPTED: u32 = 1;
const RELEASED: u32 = 2;
const ENDED: u32 = 4;
const LISTENING: u32 = 8;

/// `struct shared`: what is counted of all sockets together.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Totals {
    /// How many slots were given back.
    pub(super) returned: AtomicU64,
    /// How many slots were ever used.
    pub(super) used: AtomicU64,
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    without: AtomicU64,
}

/// Bytes by where they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes that left the host, or came from outside.
    pub remote: Traffic,
    /// Bytes on the loopback device.
    pub local: Traffic,
}

impl Bytes {
    fn read(sent: &[AtomicU64; 2], received: &[AtomicU64; 2]) -> Bytes {
        let place = |place: usize| Traffic {
            received: received[place].load(Relaxed),
            sent: sent[place].load(Relaxed),
        };
        Bytes { remote: place(0), local: place(1) }
    }
}

impl Bytes {
    /// The smaller of each figure.
    pub fn min(self, other: Bytes) -> Bytes {
        let min = |a: Traffic, b: Traffic| Traffic {
            received: a.received.min(b.received),
            sent: a.sent.min(b.sent),
        };
        Bytes { remote: min(self.remote, other.remote), local: min(self.local, other.local) }
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes { remote: self.remote + other.remote, local: self.local + other.local }
    }
}

/// Nothing is less than nothing.
impl Sub for Bytes {
    type Output = Bytes;
    fn sub(self, other: Bytes) -> Bytes {
        Bytes { remote: self.remote - other.remote, local: self.local - other.local }
    }
}

/// A process as the kernel saw it in passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// Its number in the initial PID namespace.
    pub pid: u32,
    /// Its name, padded with NUL bytes (`TASK_COMM_LEN`). Nothing in it can be trusted.
    pub name: [u8; 16],
}

/// What is known of a socket beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who made it, or the listening socket at which it was accepted; `None` for one that is older than
    /// the program in the kernel.
    pub maker: Option<Passing>,
    /// When that was, in nanoseconds since boot.
    pub made: u64,
    /// Who let go of it last, if anybody has.
    pub closer: Option<Passing>,
    /// Whether it was accepted at a listening socket.
    pub accepted: bool,
    /// The cookie of that one; 0 for none.
    pub listener: u64,
    /// Whether no descriptor refers to it any more.
    pub released: bool,
    /// Whether it will send and receive nothing more.
    pub ended: bool,
    /// Whether it accepts connections. What it has counted of one goes over to that one's own socket
    /// when there is one.
    pub listening: bool,
    /// The cookie of its network namespace; 0 where that isn't known.
    pub netns: u64,
    /// Its port, and that to which it was connected when its first packet was counted; 0 for none.
    pub ports: [u16; 2],
    /// Its protocol; of a raw socket, that which it asked for.
    pub protocol: Protocol,
}

impl Slot {
    pub(super) fn cookie(&self) -> &AtomicU64 {
        &self.socket.cookie
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes::read(&self.sender.bytes, &self.receiver.bytes)
    }

    pub(super) fn origin(&self) -> Origin {
        let passing = |pid: &AtomicU32, name: &[AtomicU64; 2]| {
            let pid = pid.load(Relaxed);
            let mut bytes = [0; 16];
            for (bytes, word) in bytes.chunks_exact_mut(8).zip(name) {
                bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
            }
            (pid != 0).then_some(Passing { pid, name: bytes })
        };
        let socket = &self.socket;
        let flags = socket.flags.load(Relaxed);
        Origin {
            maker: passing(&socket.maker, &self.sender.maker_name),
            made: socket.made.load(Relaxed),
            closer: passing(&socket.closer, &self.sender.closer_name),
            accepted: flags & ACCEPTED != 0,
            listener: socket.listener.load(Relaxed),
            released: flags & RELEASED != 0,
            ended: flags & ENDED != 0,
            listening: flags & LISTENING != 0,
            netns: socket.netns.load(Relaxed),
            ports: [
                socket.local_port.load(Relaxed),
                u16::from_be(socket.remote_port.load(Relaxed)),
            ],
            protocol: Protocol(socket.protocol.load(Relaxed) as u8),
        }
    }
}

impl Totals {
    /// The bytes of sockets for which there was no slot.
    pub(super) fn without_slot(&self) -> Bytes {
        Bytes::read(&self.sent, &self.received)
    }
}
