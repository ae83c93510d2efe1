//! The sockets of one look, indexed for the tuples of flows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::RandomState;

use super::{Inode, Socket, TcpState};
use crate::model::flow::{Address, Endpoint, Protocol, Tuple};

/// No further socket has the same key.
const END: u32 = u32::MAX;

/// All sockets of one look.
///
/// The end of a flow finds its socket as the kernel finds one for a packet: the connected socket,
/// else the one bound to the address, else the one bound to the wildcard address.
#[derive(Debug, Default)]
pub(crate) struct SocketTable {
    sockets: Vec<Socket>,
    /// For each socket the next one with the same key: sockets that share a key are rare, so a
    /// list costs four bytes a socket instead of an allocation.
    next: Vec<u32>,
    connected: HashMap<Tuple, u32, RandomState>,
    bound: HashMap<(Protocol, Endpoint), u32, RandomState>,
}

/// The sockets to which a flow's end may belong: several if they share an address (`SO_REUSEPORT`,
/// or bound to different devices).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match<'a> {
    table: &'a SocketTable,
    first: u32,
    /// Whether IPv6 sockets that accept no IPv4 are skipped.
    takes_v4: bool,
}

impl<'a> Match<'a> {
    /// All candidates, at least one.
    pub(crate) fn sockets(self) -> impl Iterator<Item = &'a Socket> {
        let mut at = self.first;
        std::iter::from_fn(move || {
            let socket = self.table.sockets.get(at as usize)?;
            at = self.table.next.get(at as usize).copied().unwrap_or(END);
            Some(socket)
        })
        .filter(move |socket| !(self.takes_v4 && socket.v6_only))
    }
}

impl SocketTable {
    /// Removes all sockets and keeps the memory for the next look.
    pub(crate) fn clear(&mut self) {
        self.sockets.clear();
        self.next.clear();
        self.connected.clear();
        self.bound.clear();
    }

    /// Adds a socket. Sockets in TIME_WAIT are skipped: no process owns them.
    pub(crate) fn insert(&mut self, socket: Socket) {
        if socket.state == TcpState::TIME_WAIT || self.sockets.len() >= END as usize {
            return;
        }
        let index = self.sockets.len() as u32;
        let earlier = if socket.is_connected() {
            replace(self.connected.entry(socket.tuple), index)
        } else {
            replace(self.bound.entry((socket.tuple.protocol, socket.tuple.source)), index)
        };
        self.sockets.push(socket);
        self.next.push(earlier);
    }

    /// Adds a socket that no flow finds: an MPTCP socket, whose subflows send and receive its
    /// packets.
    pub(crate) fn insert_unmatched(&mut self, socket: Socket) {
        self.sockets.push(socket);
        self.next.push(END);
    }

    /// All sockets, in the order in which they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter()
    }

    /// The inode number of every socket to which a descriptor can refer.
    pub(crate) fn inodes(&self) -> impl Iterator<Item = Inode> {
        self.sockets.iter().filter_map(|socket| socket.inode)
    }

    /// The sockets at the end of a flow that sends along `tuple`.
    pub(crate) fn find(&self, tuple: &Tuple) -> Option<Match<'_>> {
        let Tuple { protocol, source, .. } = *tuple;
        if let Some(&first) = self.connected.get(tuple) {
            return Some(Match { table: self, first, takes_v4: false });
        }
        if protocol == Protocol::TCP || protocol == Protocol::SCTP {
            return None; // a listening socket carries no bytes
        }
        if protocol.is_icmp() {
            // If the flow has an ICMP type as its port, a connected ping socket has 0.
            let destination = Endpoint::new(tuple.destination.address, 0);
            if let Some(&first) = self.connected.get(&Tuple { destination, ..*tuple }) {
                return Some(Match { table: self, first, takes_v4: false });
            }
        }
        if protocol.is_datagram() || protocol.is_icmp() {
            // A ping socket is bound to its echo identifier, as a UDP socket is to its port.
            if let Some(found) = self.find_bound(protocol, source) {
                return Some(found);
            }
        }
        if protocol.is_datagram() {
            return None;
        }
        // Raw sockets have no ports, only a protocol.
        let portless = |endpoint: Endpoint| Endpoint::new(endpoint.address, 0);
        let raw =
            Tuple { protocol, source: portless(source), destination: portless(tuple.destination) };
        let unbound = Endpoint::new(wildcard(source.address), 0);
        self.connected
            .get(&raw)
            .or_else(|| self.connected.get(&Tuple { source: unbound, ..raw }))
            .map(|&first| Match { table: self, first, takes_v4: false })
            .or_else(|| self.find_bound(protocol, raw.source))
    }

    /// The sockets that listen for TCP connections to `local`: one of them accepts a connection to
    /// it, or has accepted it.
    pub(crate) fn listeners(&self, local: Endpoint) -> impl Iterator<Item = &Socket> {
        let found = self.find_bound(Protocol::TCP, local);
        found.into_iter().flat_map(Match::sockets).filter(|s| s.state == TcpState::LISTEN)
    }

    /// Finds by the address, else by the wildcard of the family. An IPv6 wildcard socket also
    /// receives IPv4 unless it refuses, but only if no IPv4 socket matches (`compute_score` in
    /// `net/ipv4/udp.c`).
    fn find_bound(&self, protocol: Protocol, local: Endpoint) -> Option<Match<'_>> {
        let at = |address| {
            let key = (protocol, Endpoint::new(address, local.port));
            self.bound.get(&key).map(|&first| Match { table: self, first, takes_v4: false })
        };
        if let Some(found) = at(local.address) {
            return Some(found);
        }
        if !local.address.is_v4() {
            return at(Address::ANY_V6);
        }
        at(Address::ANY_V4)
            .or_else(|| at(Address::ANY_V6).map(|found| Match { takes_v4: true, ..found }))
            .filter(|found| found.sockets().next().is_some())
    }
}

fn wildcard(address: Address) -> Address {
    if address.is_v4() { Address::ANY_V4 } else { Address::ANY_V6 }
}

fn replace<K>(entry: Entry<'_, K, u32>, index: u32) -> u32 {
    match entry {
        Entry::Occupied(mut occupied) => occupied.insert(index),
        Entry::Vacant(vacant) => {
            vacant.insert(index);
            END
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        let address: SocketAddr = text.parse().unwrap();
        Endpoint::new(address.ip().into(), address.port())
    }

    fn tuple(protocol: Protocol, local: &str, remote: &str) -> Tuple {
        Tuple { protocol, source: endpoint(local), destination: endpoint(remote) }
    }

    fn socket(inode: u32, tuple: Tuple) -> Socket {
        Socket {
            tuple,
            inode: Some(Inode(inode)),
            uid: 0,
            cookie: u64::from(inode),
            state: TcpState::ESTABLISHED,
            v6_only: false,
            is_subflow: false,
            counters: None,
            sent_again: 0,
        }
    }

    fn table(sockets: impl IntoIterator<Item = Socket>) -> SocketTable {
        let mut table = SocketTable::default();
        sockets.into_iter().for_each(|socket| table.insert(socket));
        table
    }

    fn found(table: &SocketTable, tuple: Tuple) -> Vec<u32> {
        let mut inodes: Vec<_> = table
            .find(&tuple)
            .into_iter()
            .flat_map(Match::sockets)
            .filter_map(|s| s.inode)
            .map(|i| i.0)
            .collect();
        inodes.sort_unstable();
        inodes
    }

    #[test]
    fn a_connected_socket_wins_over_a_bound_one_over_the_wildcard() {
        let table = table([
            socket(1, tuple(Protocol::UDP, "0.0.0.0:53", "0.0.0.0:0")),
            socket(2, tuple(Protocol::UDP, "10.0.0.1:53", "0.0.0.0:0")),
            socket(3, tuple(Protocol::UDP, "10.0.0.1:53", "10.0.0.9:4000")),
        ]);
        let flow = |local, remote| found(&table, tuple(Protocol::UDP, local, remote));
        assert_eq!(flow("10.0.0.1:53", "10.0.0.9:4000"), [3]);
        assert_eq!(flow("10.0.0.1:53", "10.0.0.9:4001"), [2]);
        assert_eq!(flow("10.0.0.2:53", "10.0.0.9:4000"), [1]);
        assert_eq!(flow("10.0.0.2:54", "10.0.0.9:4000"), [0_u32; 0]);
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_unless_it_refuses() {
        let wildcard = socket(1, tuple(Protocol::UDP, "[::]:53", "[::]:0"));
        let v4 = tuple(Protocol::UDP, "10.0.0.1:53", "10.0.0.9:4000");
        let v6 = tuple(Protocol::UDP, "[fd00::1]:53", "[fd00::9]:4000");
        assert_eq!(found(&table([wildcard]), v4), [1]);
        assert_eq!(found(&table([wildcard]), v6), [1]);
        let refusing = Socket { v6_only: true, ..wildcard };
        assert_eq!(found(&table([refusing]), v4), [0_u32; 0]);
        assert_eq!(found(&table([refusing]), v6), [1]);
        let both = table([refusing, Socket { inode: Some(Inode(3)), ..wildcard }]);
        assert_eq!((found(&both, v4), found(&both, v6)), (vec![3], vec![1, 3]));
        let beside = socket(2, tuple(Protocol::UDP, "0.0.0.0:53", "0.0.0.0:0"));
        assert_eq!(found(&table([wildcard, beside]), v4), [2]);
    }

    #[test]
    fn a_mapped_socket_is_found_by_its_ipv4_flow() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let mut key = tuple(Protocol::TCP, "10.0.0.1:80", "10.0.0.9:4000");
        key.source.address = mapped.into();
        let table = table([socket(1, key)]);
        assert_eq!(found(&table, tuple(Protocol::TCP, "10.0.0.1:80", "10.0.0.9:4000")), [1]);
    }

    #[test]
    fn sockets_that_share_an_address_are_all_candidates() {
        let shared = tuple(Protocol::UDP, "0.0.0.0:53", "0.0.0.0:0");
        let table = table([socket(1, shared), socket(2, shared), socket(3, shared)]);
        assert_eq!(found(&table, tuple(Protocol::UDP, "10.0.0.1:53", "10.0.0.9:1")), [1, 2, 3]);
    }

    #[test]
    fn tcp_never_matches_a_listening_or_ended_socket() {
        let listening = socket(1, tuple(Protocol::TCP, "0.0.0.0:80", "0.0.0.0:0"));
        let flow = tuple(Protocol::TCP, "10.0.0.1:80", "10.0.0.9:4000");
        let ended = Socket { state: TcpState::TIME_WAIT, ..socket(2, flow) };
        assert_eq!(found(&table([listening, ended]), flow), [0_u32; 0]);
    }

    #[test]
    fn icmp_matches_the_ping_socket_else_the_raw_one() {
        let ping = socket(1, tuple(Protocol::ICMP, "0.0.0.0:77", "0.0.0.0:0"));
        let raw = socket(2, tuple(Protocol::ICMP, "0.0.0.0:0", "0.0.0.0:0"));
        let other = socket(3, tuple(Protocol::GRE, "0.0.0.0:0", "10.0.0.9:0"));
        let connected = socket(4, tuple(Protocol::ICMP, "10.0.0.1:76", "10.0.0.9:0"));
        let table = table([ping, raw, other, connected]);
        assert_eq!(found(&table, tuple(Protocol::ICMP, "10.0.0.1:76", "10.0.0.9:2048")), [4]);
        assert_eq!(found(&table, tuple(Protocol::ICMP, "10.0.0.1:77", "10.0.0.9:2048")), [1]);
        assert_eq!(found(&table, tuple(Protocol::ICMP, "10.0.0.1:78", "10.0.0.9:2048")), [2]);
        assert_eq!(found(&table, tuple(Protocol::GRE, "10.0.0.1:0", "10.0.0.9:0")), [3]);
        assert_eq!(found(&table, tuple(Protocol::GRE, "10.0.0.1:0", "10.0.0.8:0")), [0_u32; 0]);
    }

    #[test]
    fn a_cleared_table_is_empty() {
        let mut table = table([socket(1, tuple(Protocol::UDP, "0.0.0.0:53", "0.0.0.0:0"))]);
        assert_eq!((table.iter().count(), table.inodes().count()), (1, 1));
        table.clear();
        assert_eq!(table.iter().count(), 0);
        assert_eq!(found(&table, tuple(Protocol::UDP, "10.0.0.1:53", "10.0.0.9:1")), [0_u32; 0]);
    }
}
