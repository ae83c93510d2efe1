//! What the program in the kernel writes: the layouts of `program/sockets.bpf.c`.
//!
//! Everything in them is an atomic integer, because the kernel writes while it is read. Each is right
//! by itself; two of them may be a packet apart.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed};

use crate::flow::Protocol;
use crate::traffic::Traffic;

/// How many slots share a bucket (`WAYS`).
pub(super) const WAYS: usize = 8;

/// `struct bucket`: whose slots are.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    /// The cookies of the sockets; [`FREE`] and [`LEAVING`] are none.
    pub(super) cookies: [AtomicU64; WAYS],
}

/// The kernel may give this slot to a socket.
pub(super) const FREE: u64 = 0;
/// The slot was taken from its socket, and isn't free yet.
pub(super) const LEAVING: u64 = u64::MAX;

/// `struct slot`: the bytes of one socket, line of the cache by line.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Slot {
    sender: Sender,
    receiver: Receiver,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Sender {
    sent: [AtomicU64; 2],
    made: AtomicU64,
    netns: AtomicU64,
    listener: AtomicU64,
    maker: AtomicU32,
    closer: AtomicU32,
    flags: AtomicU32,
    local_port: AtomicU16,
    remote_port: AtomicU16,
    protocol: AtomicU32,
    begun: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Receiver {
    received: [AtomicU64; 2],
    maker_name: [AtomicU64; 2],
    closer_name: [AtomicU64; 2],
    has_received: AtomicU32,
    end: AtomicU32,
    listening: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == 128 && size_of::<Bucket>() == 64);

const FILLED: u32 = 1;
const RELEASED: u32 = 2;
const ENDED: u32 = 8;

/// `struct shared`: what is counted of all sockets together.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Totals {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    without: AtomicU64,
    claimed: AtomicU64,
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
    /// Whether it will send and receive nothing more: it was closed before it was released, or the packet
    /// that has told the other side of its end was acknowledged.
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

impl Origin {
    /// What is known of a socket in its new slot, of which this was known `before`, in another one.
    pub(super) fn after(self, before: &Origin) -> Origin {
        Origin {
            closer: self.closer.or(before.closer),
            released: self.released || before.released,
            ended: self.ended || before.ended,
            listening: self.listening || before.listening,
            ports: if self.ports == [0; 2] { before.ports } else { self.ports },
            protocol: self.protocol,
            ..*before
        }
    }
}

impl Slot {
    /// Whether what stands beside the bytes was written.
    pub(super) fn is_filled(&self) -> bool {
        self.sender.flags.load(Acquire) & FILLED != 0
    }

    /// Makes it a slot without a socket.
    pub(super) fn clear(&self) {
        let Slot { sender, receiver } = self;
        sender.flags.store(0, Relaxed);
        let words = [&sender.sent, &receiver.received, &receiver.maker_name, &receiver.closer_name];
        let words = words.into_iter().flatten();
        for word in words.chain([&sender.made, &sender.netns, &sender.listener]) {
            word.store(0, Relaxed);
        }
        let words = [&sender.maker, &sender.closer, &sender.protocol, &sender.begun];
        let more = [&receiver.has_received, &receiver.end, &receiver.listening];
        for word in words.into_iter().chain(more) {
            word.store(0, Relaxed);
        }
        sender.local_port.store(0, Relaxed);
        sender.remote_port.store(0, Relaxed);
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes::read(&self.sender.sent, &self.receiver.received)
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
        let Slot { sender, receiver } = self;
        let flags = sender.flags.load(Acquire);
        // After the maker, which is written later.
        let maker = passing(&sender.maker, &receiver.maker_name);
        let listener = sender.listener.load(Relaxed);
        Origin {
            maker,
            made: sender.made.load(Relaxed),
            closer: passing(&sender.closer, &receiver.closer_name),
            accepted: listener != 0,
            listener,
            released: flags & RELEASED != 0,
            ended: flags & ENDED != 0,
            listening: receiver.listening.load(Relaxed) != 0,
            netns: sender.netns.load(Relaxed),
            ports: [
                sender.local_port.load(Relaxed),
                u16::from_be(sender.remote_port.load(Relaxed)),
            ],
            protocol: Protocol(sender.protocol.load(Relaxed) as u8),
        }
    }
}

impl Totals {
    /// The bytes of sockets for which there was no slot.
    pub(super) fn without_slot(&self) -> Bytes {
        Bytes::read(&self.sent, &self.received)
    }

    /// How many slots were given to sockets so far.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed.load(Relaxed)
    }
}
