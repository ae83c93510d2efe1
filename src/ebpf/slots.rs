//! The memory that the programs in the kernel write: the layouts of `program/slots.h`.
//!
//! Every field is an atomic integer, because the kernel writes during the reading. Each is valid by
//! itself; two of them may differ by a packet.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed};

use crate::model::flow::Protocol;
use crate::model::traffic::Traffic;
use crate::sockets::Inode;

/// Number of slots in a bucket (`WAYS`).
pub(super) const WAYS: usize = 8;

/// `struct bucket`: the owners of slots.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    /// The cookies of the sockets, or [`FREE`] or [`LEAVING`].
    pub(super) cookies: [AtomicU64; WAYS],
}

/// The kernel may give this slot to a socket.
pub(super) const FREE: u64 = 0;
/// The slot was taken from its socket, and isn't free yet.
pub(super) const LEAVING: u64 = u64::MAX;

/// `struct slot`: the bytes of one socket, in the order of cache lines.
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
    netns: AtomicU64,
    listener: AtomicU64,
    maker_when: AtomicU64,
    maker: AtomicU32,
    flags: AtomicU32,
    local_port: AtomicU16,
    remote_port: AtomicU16,
    protocol: AtomicU32,
    begun: AtomicU32,
    user: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Receiver {
    received: [AtomicU64; 2],
    name: [AtomicU64; 2],
    closer_when: AtomicU64,
    closer: AtomicU32,
    has_received: AtomicU32,
    end: AtomicU32,
    listening: AtomicU32,
    token: AtomicU32,
    inode: AtomicU32,
}

const _: () = assert!(size_of::<Slot>() == 128 && size_of::<Bucket>() == 64);

/// A clock tick of the kernel's, in nanoseconds (`USER_HZ`).
pub(crate) const TICK: u64 = 10_000_000;

const FILLED: u32 = 1;
const RELEASED: u32 = 2;
const ENDED: u32 = 8;
const EXACT: u32 = 16;
const NAME_OF_CLOSER: u32 = 32;
const MULTIPATH: u32 = 64;

/// `struct shared`: totals over all sockets.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Totals {
    /// Number of slots given to sockets so far.
    pub(super) claimed: AtomicU64,
    /// Number of slots freed so far.
    pub(super) freed: AtomicU64,
    /// Number of changes of the map `outside`.
    pub(super) outside: AtomicU64,
    /// Number of packets of handshakes.
    pub(super) handshakes: AtomicU64,
    /// Number of frames that packet sockets have sent.
    pub(super) frames: AtomicU64,
}

/// Bytes, local and remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes to or from other hosts.
    pub remote: Traffic,
    /// Bytes on the loopback device.
    pub local: Traffic,
}

impl Bytes {
    /// Whether all are 0.
    pub fn is_zero(self) -> bool {
        self == Bytes::default()
    }

    /// The smaller value of each.
    pub fn min(self, other: Bytes) -> Bytes {
        let min = |a: Traffic, b: Traffic| Traffic {
            received: a.received.min(b.received),
            sent: a.sent.min(b.sent),
        };
        Bytes { remote: min(self.remote, other.remote), local: min(self.local, other.local) }
    }

    fn read(sent: &[AtomicU64; 2], received: &[AtomicU64; 2]) -> Bytes {
        let place = |place: usize| Traffic {
            received: received[place].load(Relaxed),
            sent: sent[place].load(Relaxed),
        };
        Bytes { remote: place(0), local: place(1) }
    }
}

impl Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes { remote: self.remote + other.remote, local: self.local + other.local }
    }
}

/// Subtraction that stops at 0.
impl Sub for Bytes {
    type Output = Bytes;
    fn sub(self, other: Bytes) -> Bytes {
        Bytes { remote: self.remote - other.remote, local: self.local - other.local }
    }
}

/// A process, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its pid in the initial PID namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot; `None` if the kernel doesn't let it be read.
    pub start: Option<u64>,
    /// Its name, padded with NUL bytes (`TASK_COMM_LEN`); empty if it wasn't kept. Untrusted.
    pub name: [u8; 16],
}

/// The knowledge of a socket beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The process that made it, or the listening socket at which it was accepted; `None` if it is
    /// older than the program in the kernel.
    pub maker: Option<Task>,
    /// Latest possible time of that, in nanoseconds since boot: when the socket was made, or when its
    /// maker started.
    pub made: u64,
    /// The process that released it last, if it was released.
    pub closer: Option<Task>,
    /// Whether it was accepted at a listening socket.
    pub accepted: bool,
    /// The cookie of that listening socket; 0 for none.
    pub listener: u64,
    /// Whether no descriptor refers to it any more.
    pub released: bool,
    /// Whether it sends and receives nothing more: it was closed before it was released, or the peer has
    /// acknowledged its FIN.
    pub ended: bool,
    /// Whether it is a listening socket.
    pub listening: bool,
    /// Whether nothing was counted in this slot.
    pub silent: bool,
    /// Whether it is a Multipath TCP socket. Its bytes are those of its subflows, which are sockets without
    /// a descriptor.
    pub multipath: bool,
    /// The token of its Multipath TCP connection, which its subflows share; 0 for none.
    pub token: u32,
    /// The cookie of its network namespace; 0 if it isn't known.
    pub netns: u64,
    /// Its local port, and the remote port when its first packet was counted; 0 for none.
    pub ports: [u16; 2],
    /// Its protocol; for a raw socket, the one it was opened with.
    pub protocol: Protocol,
}

impl Origin {
    /// The origin of a socket in its new slot; `before` is its origin in another one.
    pub(super) fn after(self, before: &Origin) -> Origin {
        Origin {
            closer: self.closer.or(before.closer),
            released: self.released || before.released,
            ended: self.ended || before.ended,
            listening: self.listening || before.listening,
            silent: self.silent && before.silent,
            token: if self.token == 0 { before.token } else { self.token },
            ports: if self.ports == [0; 2] { before.ports } else { self.ports },
            protocol: self.protocol,
            ..*before
        }
    }
}

impl Slot {
    /// Whether the fields beside the bytes were written.
    pub(super) fn is_filled(&self) -> bool {
        self.sender.flags.load(Acquire) & FILLED != 0
    }

    /// Clears the slot. Returns the index of the user that had it.
    pub(super) fn clear(&self) -> u32 {
        let Slot { sender, receiver } = self;
        sender.flags.store(0, Relaxed);
        let words = [&sender.sent, &receiver.received, &receiver.name].into_iter().flatten();
        let more = [&sender.netns, &sender.listener, &sender.maker_when, &receiver.closer_when];
        for word in words.chain(more) {
            word.store(0, Relaxed);
        }
        let words = [&sender.maker, &sender.protocol, &sender.begun, &receiver.closer];
        let more = [&receiver.has_received, &receiver.end, &receiver.listening];
        let last = [&receiver.token, &receiver.inode];
        for word in words.into_iter().chain(more).chain(last) {
            word.store(0, Relaxed);
        }
        sender.local_port.store(0, Relaxed);
        sender.remote_port.store(0, Relaxed);
        sender.user.swap(0, Relaxed)
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes::read(&self.sender.sent, &self.receiver.received)
    }

    pub(super) fn inode(&self) -> Option<Inode> {
        let inode = self.receiver.inode.load(Relaxed);
        (inode != 0).then_some(Inode(inode))
    }

    /// The network namespace, if it is a listening socket.
    pub(super) fn listens_in(&self) -> Option<u64> {
        let listens = self.receiver.listening.load(Relaxed) != 0;
        listens.then(|| self.sender.netns.load(Relaxed))
    }

    /// Adds bytes of the socket that were counted elsewhere.
    pub(super) fn add(&self, bytes: Bytes) {
        for (place, traffic) in [bytes.remote, bytes.local].into_iter().enumerate() {
            self.sender.sent[place].fetch_add(traffic.sent, Relaxed);
            self.receiver.received[place].fetch_add(traffic.received, Relaxed);
        }
    }

    /// The token and the closer of a released Multipath TCP socket.
    pub(super) fn closed_multipath(&self) -> Option<(u32, Task)> {
        let flags = self.sender.flags.load(Acquire);
        if flags & (MULTIPATH | RELEASED) != MULTIPATH | RELEASED {
            return None;
        }
        let origin = self.origin();
        origin.closer.filter(|_| origin.token != 0).map(|closer| (origin.token, closer))
    }

    pub(super) fn origin(&self) -> Origin {
        let Slot { sender, receiver } = self;
        let flags = sender.flags.load(Acquire);
        let named = |of_closer: bool| {
            let kept = (flags & NAME_OF_CLOSER != 0) == of_closer;
            let words = receiver.name.each_ref().map(|word| word.load(Relaxed));
            if kept { name(words) } else { [0; 16] }
        };
        let passing = |pid: &AtomicU32, when: &AtomicU64, of_closer: bool| {
            let pid = pid.load(Relaxed);
            let start = (flags & EXACT != 0).then(|| when.load(Relaxed) / TICK);
            let start = start.filter(|start| *start != 0);
            (pid != 0).then(|| Task { pid, start, name: named(of_closer) })
        };
        // Read before the maker, which is written later.
        let listener = sender.listener.load(Acquire);
        let maker = passing(&sender.maker, &sender.maker_when, false);
        Origin {
            maker,
            made: sender.maker_when.load(Relaxed),
            closer: passing(&receiver.closer, &receiver.closer_when, true),
            accepted: listener != 0,
            listener,
            released: flags & RELEASED != 0,
            ended: flags & ENDED != 0,
            listening: receiver.listening.load(Relaxed) != 0,
            silent: sender.begun.load(Relaxed) == 0,
            multipath: flags & MULTIPATH != 0,
            token: receiver.token.load(Relaxed),
            netns: sender.netns.load(Relaxed),
            ports: [
                sender.local_port.load(Relaxed),
                u16::from_be(sender.remote_port.load(Relaxed)),
            ],
            protocol: Protocol(sender.protocol.load(Relaxed) as u8),
        }
    }
}

/// The 16 bytes of a name, from two words.
fn name(words: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
