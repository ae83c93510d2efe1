//! Sockets: how the kernel lists them, and the table that finds the socket of a flow.
//!
//! Public is [`Inode`], the number that [`processes::Owners`](crate::processes::Owners) maps to a
//! process.

pub(crate) mod diag;
mod ends;
mod finder;
mod mptcp;
pub(crate) mod proc_net;
mod raw;
mod reader;
mod table;

pub(crate) use ends::Ends;
pub(crate) use finder::Finder;
pub(crate) use raw::RawSockets;
pub(crate) use reader::{Listing, ReadError, Reader};
pub(crate) use table::{Match, SocketTable};

use crate::model::flow::{CountedAt, Counters, Flow, Protocol, Tuple};

/// A socket's inode number, as in `socket:[12345]` of `/proc/PID/fd`. It has 32 bits, and the
/// kernel reuses numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(pub u32);

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// The local endpoint as the source, the remote one as the destination. The remote endpoint of
    /// an unconnected socket is the wildcard address with port 0; a raw socket has no ports.
    pub tuple: Tuple,
    /// `None` for a socket without a descriptor: not accepted yet, or closed while the kernel still
    /// sends its remaining data.
    pub inode: Option<Inode>,
    /// The user who made the socket.
    pub uid: u32,
    /// The socket's cookie, which the kernel never reuses; 0 if the kernel doesn't report it.
    pub cookie: u64,
    /// The state; other protocols use TCP's numbers too.
    pub state: TcpState,
    /// Whether an IPv6 socket accepts no IPv4 (`IPV6_V6ONLY`).
    pub v6_only: bool,
    /// Whether a TCP socket is a subflow of an MPTCP connection, or listens for subflows. The
    /// kernel reports it to holders of `CAP_NET_ADMIN`, together with the inode of the MPTCP
    /// socket.
    pub is_subflow: bool,
    /// Payload bytes since the socket was made: `original` were sent, `reply` received. TCP only.
    pub counters: Option<Counters>,
    /// Payload bytes that were sent another time, which the counters don't have.
    pub sent_again: u64,
}

impl Socket {
    /// Whether the socket has a remote endpoint.
    pub(crate) fn is_connected(&self) -> bool {
        let remote = self.tuple.destination;
        remote.port != 0 || !remote.address.is_unspecified()
    }

    /// The flow of a connected socket with counters.
    pub(crate) fn flow(&self) -> Option<Flow> {
        let counters = self.counters.filter(|_| self.is_connected())?;
        Some(Flow {
            generation: Some(self.cookie),
            counters: Some(counters),
            ..Flow::new(self.tuple, self.tuple.reversed(), CountedAt::Socket)
        })
    }

    /// As [`Socket::flow`], with every retransmission that was sent: nearer to the bytes of packets. Those that were
    /// received are not known.
    pub(crate) fn flow_with_retransmissions(&self) -> Option<Flow> {
        let mut flow = self.flow()?;
        if let Some(counters) = &mut flow.counters {
            counters.original = counters.original.saturating_add(self.sent_again);
        }
        Some(flow)
    }
}

/// A TCP state number (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TcpState(pub u8);

impl TcpState {
    /// Connected.
    pub(crate) const ESTABLISHED: TcpState = TcpState(1);
    /// A connection request; a request that is no socket yet is listed in this state too.
    pub(crate) const SYN_RECV: TcpState = TcpState(3);
    /// Closed, waiting for stray segments.
    pub(crate) const TIME_WAIT: TcpState = TcpState(6);
    /// Unconnected: the state of UDP and raw sockets, and of TCP sockets that have ended.
    #[cfg(test)]
    pub(crate) const CLOSE: TcpState = TcpState(7);
    /// The peer has closed its direction.
    pub(crate) const CLOSE_WAIT: TcpState = TcpState(8);
    /// Both sides have closed, the peer first.
    pub(crate) const LAST_ACK: TcpState = TcpState(9);
    /// Listening for connections.
    pub(crate) const LISTEN: TcpState = TcpState(10);
    /// Both sides have closed at the same time.
    pub(crate) const CLOSING: TcpState = TcpState(11);
    /// A connection request that is no socket yet.
    pub(crate) const NEW_SYN_RECV: TcpState = TcpState(12);

    /// Whether a socket without a descriptor may still be accepted.
    pub(crate) const fn is_before_accept(self) -> bool {
        matches!(
            self,
            TcpState::SYN_RECV
                | TcpState::NEW_SYN_RECV
                | TcpState::ESTABLISHED
                | TcpState::CLOSE_WAIT
        )
    }

    /// Whether the peer's FIN was received, which TCP's counter includes as one byte.
    pub(crate) const fn fin_received(self) -> bool {
        matches!(self, TcpState::CLOSE_WAIT | TcpState::LAST_ACK | TcpState::CLOSING)
    }
}

/// The protocols whose sockets can own a flow, in the order of listing.
pub(crate) const LISTED: [Protocol; 6] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::UDPLITE,
    Protocol::SCTP,
    Protocol::ICMP,
    Protocol::ICMPV6,
];
