//! A flow, as the kernel's connection tracking defines it: one entry, two tuples, two counters.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Add, Sub};

/// An IP protocol number (`/etc/protocols`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: Protocol = Protocol(1);
    /// Transmission Control Protocol.
    pub const TCP: Protocol = Protocol(6);
    /// User Datagram Protocol.
    pub const UDP: Protocol = Protocol(17);
    /// Datagram Congestion Control Protocol.
    pub const DCCP: Protocol = Protocol(33);
    /// Generic Routing Encapsulation.
    pub const GRE: Protocol = Protocol(47);
    /// ICMP for IPv6.
    pub const ICMPV6: Protocol = Protocol(58);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Protocol = Protocol(132);
    /// UDP with partial checksums.
    pub const UDPLITE: Protocol = Protocol(136);

    /// Whether a socket of this protocol can receive datagrams from any peer: then a flow may
    /// belong to a socket that is bound but not connected.
    pub const fn is_datagram(self) -> bool {
        matches!(self, Protocol::UDP | Protocol::UDPLITE)
    }

    /// Whether this is ICMP of either family.
    pub const fn is_icmp(self) -> bool {
        matches!(self, Protocol::ICMP | Protocol::ICMPV6)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Protocol::ICMP => "icmp",
            Protocol::TCP => "tcp",
            Protocol::UDP => "udp",
            Protocol::DCCP => "dccp",
            Protocol::GRE => "gre",
            Protocol::ICMPV6 => "icmpv6",
            Protocol::SCTP => "sctp",
            Protocol::UDPLITE => "udplite",
            Protocol(number) => return write!(f, "proto-{number}"),
        })
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IP address. IPv4 is stored in its IPv4-mapped form (RFC 4291, 2.5.5.2), so that an IPv6
/// socket with an IPv4 peer has the same address as the IPv4 flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address([u8; 16]);

impl Address {
    /// `0.0.0.0`, the IPv4 wildcard.
    pub const ANY_V4: Address = Address::from_v4([0; 4]);
    /// `::`, the IPv6 wildcard.
    pub const ANY_V6: Address = Address([0; 16]);

    /// From the four bytes of an IPv4 address, in network order.
    pub const fn from_v4(b: [u8; 4]) -> Address {
        Address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]])
    }

    /// From the sixteen bytes of an IPv6 address, in network order.
    pub const fn from_v6(bytes: [u8; 16]) -> Address {
        Address(bytes)
    }

    /// The sixteen bytes, IPv4 in its mapped form.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether this is an IPv4 address (or the IPv4-mapped form of one).
    pub fn is_v4(&self) -> bool {
        self.0[..12] == Address::ANY_V4.0[..12]
    }

    /// Whether this is the wildcard of its family: `0.0.0.0` or `::`.
    pub fn is_unspecified(&self) -> bool {
        *self == Address::ANY_V4 || *self == Address::ANY_V6
    }

    /// Whether this is `127.0.0.0/8` or `::1`.
    pub fn is_loopback(&self) -> bool {
        (self.is_v4() && self.0[12] == 127) || self.0 == Ipv6Addr::LOCALHOST.octets()
    }

    /// Whether this is a multicast group, or the IPv4 broadcast address.
    pub fn is_multicast(&self) -> bool {
        match self.to_ip() {
            IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_multicast(),
        }
    }

    /// The address as a type of the standard library; a mapped one becomes IPv4.
    pub fn to_ip(&self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        match ip {
            IpAddr::V4(v4) => Address::from_v4(v4.octets()),
            IpAddr::V6(v6) => Address::from_v6(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(v4: Ipv4Addr) -> Address {
        Address::from_v4(v4.octets())
    }
}

impl Hash for Address {
    // Two words instead of a length-prefixed slice: this is the hottest hash of the program.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.0));
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and a port; the port is 0 if the protocol has none.
///
/// ICMP has no ports. As in conntrack, the echo identifier takes the place of the source's port,
/// and type and code that of the destination's (`type << 8 | code`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The IP address.
    pub address: Address,
    /// The port, in host order.
    pub port: u16,
}

impl Endpoint {
    /// `address` and `port`.
    pub const fn new(address: Address, port: u16) -> Endpoint {
        Endpoint { address, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.to_ip() {
            IpAddr::V4(v4) => write!(f, "{v4}:{}", self.port),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One direction of a flow.
///
/// A socket has a tuple too: the source is its local endpoint, the destination its remote one. So
/// the two tuples of a flow are the keys of the sockets at its two ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// The protocol.
    pub protocol: Protocol,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
}

impl Tuple {
    /// The other direction, without address translation.
    pub const fn reversed(self) -> Tuple {
        Tuple { protocol: self.protocol, source: self.destination, destination: self.source }
    }

    /// The same source with a wildcard destination, as a listening socket has it.
    pub fn from_anyone(self) -> Tuple {
        let any = if self.source.address.is_v4() { Address::ANY_V4 } else { Address::ANY_V6 };
        Tuple { destination: Endpoint::new(any, 0), ..self }
    }
}

impl Hash for Tuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.address.hash(state);
        self.destination.address.hash(state);
        state.write_u64(
            u64::from(self.source.port) << 32
                | u64::from(self.destination.port) << 16
                | u64::from(self.protocol.0),
        );
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol, self.source, self.destination)
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes of a flow since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes in the original direction, from the originator to the responder.
    pub original: u64,
    /// Bytes in the reply direction.
    pub reply: u64,
}

impl Counters {
    /// The greater counter of each direction.
    pub(crate) fn max(self, other: Counters) -> Counters {
        Counters { original: self.original.max(other.original), reply: self.reply.max(other.reply) }
    }

    /// Whether neither counter is greater than that of `other`.
    pub(crate) fn is_within(self, other: Counters) -> bool {
        self.original <= other.original && self.reply <= other.reply
    }
}

impl Add for Counters {
    type Output = Counters;

    fn add(self, other: Counters) -> Counters {
        Counters {
            original: self.original.saturating_add(other.original),
            reply: self.reply.saturating_add(other.reply),
        }
    }
}

impl Sub for Counters {
    type Output = Counters;

    /// The bytes since `earlier`; 0 for a counter that went back.
    fn sub(self, earlier: Counters) -> Counters {
        Counters {
            original: self.original.saturating_sub(earlier.original),
            reply: self.reply.saturating_sub(earlier.reply),
        }
    }
}

/// Where a flow's bytes were counted, which limits how many of its ends can be sockets of this
/// host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedAt {
    /// Between the ends, by connection tracking. Either end, both (loopback) or none (forwarded)
    /// may be a socket of this host. Bytes are IP bytes, headers included.
    Path,
    /// At one socket. If the other end is on this host too, it is a flow of its own. Bytes are
    /// payload bytes.
    Socket,
}

/// One flow with its cumulative counters, as a source reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The conntrack zone of the original direction; 0 is the default zone.
    pub zone: u16,
    /// Distinguishes successive flows of one tuple, if the source can: conntrack's entry id
    /// (`CTA_ID`), or the socket's cookie.
    pub generation: Option<u64>,
    /// The tuple that the originator (the client) sends with.
    pub original: Tuple,
    /// The tuple that the responder (the server) sends with, after address translation.
    pub reply: Tuple,
    /// `None` if the kernel keeps no counters for this flow: it started before accounting was
    /// switched on.
    pub counters: Option<Counters>,
    /// Conntrack's status bits; zero for a flow counted at a socket.
    pub status: Status,
    /// Where the bytes were counted.
    pub counted_at: CountedAt,
    /// Whether both sides have closed it, so that hardly any more bytes come: a TCP connection in
    /// TIME_WAIT or CLOSE. Its entry stays in the table for a while.
    pub closed: bool,
    /// Whether this is the announcement of its end, with its last counters. A later flow of the
    /// same tuple is another flow.
    pub ended: bool,
}

impl Flow {
    /// An open flow with these tuples, and nothing else set.
    pub fn new(original: Tuple, reply: Tuple, counted_at: CountedAt) -> Flow {
        Flow {
            zone: 0,
            generation: None,
            original,
            reply,
            counters: None,
            status: Status::default(),
            counted_at,
            closed: false,
            ended: false,
        }
    }
}

/// Conntrack's status bits (`enum ip_conntrack_status` in
/// `include/uapi/linux/netfilter/nf_conntrack_common.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// `IPS_SEEN_REPLY`: packets were seen in both directions. Text shows its absence as
    /// `[UNREPLIED]`.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// `IPS_ASSURED`: not dropped early when the table is full. Text shows `[ASSURED]`.
    pub const ASSURED: u32 = 1 << 2;
    /// `IPS_DYING`: being removed from the table.
    pub const DYING: u32 = 1 << 9;
    /// `IPS_OFFLOAD`: handled by a flow table, which updates the counters late. Text shows
    /// `[OFFLOAD]`.
    pub const OFFLOAD: u32 = 1 << 14;
    /// `IPS_HW_OFFLOAD`: handled by the network card. Text shows `[HW_OFFLOAD]`.
    pub const HW_OFFLOAD: u32 = 1 << 15;

    /// Whether every bit of `bits` is set.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        let plain: IpAddr = "10.1.2.3".parse().unwrap();
        assert_eq!(Address::from(mapped), Address::from(plain));
        assert_eq!(Address::from(mapped).to_string(), "10.1.2.3");
        assert!(Address::from(mapped).is_v4());
    }

    #[test]
    fn wildcards_and_loopbacks_of_both_families() {
        assert!(Address::ANY_V4.is_unspecified() && Address::ANY_V6.is_unspecified());
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.2"] {
            assert!(Address::from(local.parse::<IpAddr>().unwrap()).is_loopback(), "{local}");
        }
        assert!(!Address::from("128.0.0.1".parse::<IpAddr>().unwrap()).is_loopback());
        for group in ["224.0.0.251", "255.255.255.255", "ff02::fb"] {
            assert!(Address::from(group.parse::<IpAddr>().unwrap()).is_multicast(), "{group}");
        }
    }

    #[test]
    fn a_tuple_reads_as_the_field_writes_it() {
        let tuple = Tuple {
            protocol: Protocol::TCP,
            source: Endpoint::new(Address::from_v4([10, 0, 0, 1]), 40000),
            destination: Endpoint::new(Address::from(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])), 80),
        };
        assert_eq!(tuple.to_string(), "tcp 10.0.0.1:40000 -> [::1]:80");
        assert_eq!(tuple.reversed().reversed(), tuple);
    }
}
