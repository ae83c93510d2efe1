//! Sockets as the kernel lists them, and the table in which a flow finds its own.

pub mod diag;
mod ends;
mod finder;
mod mptcp;
pub mod proc_net;
mod raw;
mod reader;
mod table;

pub use ends::Ends;
pub use finder::Finder;
pub use raw::RawSockets;
pub use reader::{Listing, ReadError, Reader};
pub use table::{Match, SocketTable};

use crate::model::flow::{CountedAt, Counters, Flow, Protocol, Tuple};

/// A socket's inode number, as in `socket:[12345]` of `/proc/PID/fd`. The kernel numbers
/// sockets in 32 bits and starts anew when they run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(pub u32);

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Local endpoint as the source, remote one as the destination. A socket that isn't connected
    /// has the wildcard address and port 0 as its remote endpoint; a raw socket has no ports.
    pub tuple: Tuple,
    /// `None` for a socket that no descriptor refers to: not accepted yet, or closed while the
    /// kernel still sends what is left.
    pub inode: Option<Inode>,
    /// The user who made the socket.
    pub uid: u32,
    /// The kernel's number for this very socket, never used again; 0 where it isn't told.
    pub cookie: u64,
    /// The TCP state number (`include/net/tcp_states.h`), which other protocols borrow.
    pub state: TcpState,
    /// Whether an IPv6 socket refuses IPv4.
    pub v6_only: bool,
    /// Whether a TCP socket carries a part of an MPTCP connection, or listens for some. The kernel
    /// tells it with `CAP_NET_ADMIN`, together with the inode of the MPTCP socket.
    pub is_subflow: bool,
    /// Payload bytes since the socket was made: `original` were sent, `reply` received. TCP only.
    pub counters: Option<Counters>,
}

impl Socket {
    /// Whether the socket has a remote endpoint.
    pub fn is_connected(&self) -> bool {
        let remote = self.tuple.destination;
        remote.port != 0 || !remote.address.is_unspecified()
    }

    /// A connected socket with counters as the flow that it counted.
    pub fn flow(&self) -> Option<Flow> {
        let counters = self.counters.filter(|_| self.is_connected())?;
        Some(Flow {
            generation: Some(self.cookie),
            counters: Some(counters),
            ..Flow::new(self.tuple, self.tuple.reversed(), CountedAt::Socket)
        })
    }
}

/// A TCP state number (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpState(pub u8);

impl TcpState {
    /// Connected.
    pub const ESTABLISHED: TcpState = TcpState(1);
    /// A connection request: this is how the kernel lists one that is no socket yet, too.
    pub const SYN_RECV: TcpState = TcpState(3);
    /// Ended, waiting for stray segments.
    pub const TIME_WAIT: TcpState = TcpState(6);
    /// Not connected: how UDP and raw sockets are listed, and TCP sockets at their end.
    pub const CLOSE: TcpState = TcpState(7);
    /// The peer has ended its direction.
    pub const CLOSE_WAIT: TcpState = TcpState(8);
    /// Both have ended, the peer first.
    pub const LAST_ACK: TcpState = TcpState(9);
    /// Waiting for connections.
    pub const LISTEN: TcpState = TcpState(10);
    /// Both have ended at the same time.
    pub const CLOSING: TcpState = TcpState(11);
    /// A connection request that is no socket yet.
    pub const NEW_SYN_RECV: TcpState = TcpState(12);

    /// Whether a socket that no descriptor refers to is one that may still be accepted.
    pub const fn is_before_accept(self) -> bool {
        matches!(
            self,
            TcpState::SYN_RECV
                | TcpState::NEW_SYN_RECV
                | TcpState::ESTABLISHED
                | TcpState::CLOSE_WAIT
        )
    }

    /// Whether the peer's FIN has been received, which TCP counts like a byte.
    pub const fn fin_received(self) -> bool {
        matches!(self, TcpState::CLOSE_WAIT | TcpState::LAST_ACK | TcpState::CLOSING)
    }
}

/// The protocols whose sockets can own a flow, in the order in which they are listed.
pub const LISTED: [Protocol; 6] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::UDPLITE,
    Protocol::SCTP,
    Protocol::ICMP,
    Protocol::ICMPV6,
];
