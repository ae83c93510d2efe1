//! Finds single sockets without listing all.

use super::Socket;
use super::diag;
use crate::model::flow::{Address, Protocol, Tuple};
use crate::netlink::{Netlink, NetlinkError, Subsystem};

/// Queries the kernel for single sockets of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Finder {
    netlink: Netlink,
}

impl Finder {
    /// Opens a sock_diag socket.
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) fn open() -> std::io::Result<Finder> {
        Ok(Finder { netlink: Netlink::open(Subsystem::SockDiag)? })
    }

    /// Whether sockets of this protocol can be queried.
    pub(crate) fn knows(protocol: Protocol) -> bool {
        [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP].contains(&protocol)
    }

    /// For each of `tuples`, hands on its index and the socket to which the kernel would give a packet
    /// that comes back along it, if there is one; listening sockets too. `interface` gives the interface
    /// through which it would come to an address, if that is known: a socket may be bound to it.
    ///
    /// # Errors
    /// Those of the whole exchange with the kernel.
    pub(crate) fn find(
        &mut self,
        tuples: &[Tuple],
        interface: impl Fn(&Address) -> u32,
        each: impl FnMut(usize, Option<Socket>),
    ) -> Result<(), NetlinkError> {
        self.ask(tuples, interface, false, each)
    }

    /// As [`Finder::find`], with the byte counters of TCP sockets.
    ///
    /// # Errors
    /// As [`Finder::find`].
    pub(crate) fn find_counted(
        &mut self,
        tuples: &[Tuple],
        interface: impl Fn(&Address) -> u32,
        each: impl FnMut(usize, Option<Socket>),
    ) -> Result<(), NetlinkError> {
        self.ask(tuples, interface, true, each)
    }

    fn ask(
        &mut self,
        tuples: &[Tuple],
        interface: impl Fn(&Address) -> u32,
        counters: bool,
        mut each: impl FnMut(usize, Option<Socket>),
    ) -> Result<(), NetlinkError> {
        let questions = tuples
            .iter()
            .map(|tuple| diag::question(tuple, interface(&tuple.source.address), counters));
        self.netlink.ask(diag::SOCK_DIAG_BY_FAMILY, questions, |place, answer| {
            let Some(tuple) = place.and_then(|place| tuples.get(place)) else { return };
            let socket = answer.ok().and_then(|m| diag::decode(tuple.protocol, m.body).ok());
            each(place.unwrap_or_default(), socket);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::model::flow::Endpoint;
    use crate::sockets::TcpState;

    fn endpoint(address: std::net::SocketAddr) -> Endpoint {
        Endpoint::new(address.ip().into(), address.port())
    }

    fn found(tuples: &[Tuple]) -> Vec<Option<Socket>> {
        let mut found = vec![None; tuples.len()];
        let mut finder = Finder::open().unwrap();
        finder.find(tuples, |_| 0, |place, socket| found[place] = socket).unwrap();
        found
    }

    #[test]
    fn both_ends_of_a_connection_are_found_and_its_listener_in_the_place_of_none() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let ends = [client.local_addr().unwrap(), server.local_addr().unwrap()];
            let [source, destination] = ends.map(endpoint);
            let there = Tuple { protocol: Protocol::TCP, source, destination };
            let stranger = Endpoint { port: 1, ..source };
            let other = Tuple { source: destination, destination: stranger, ..there };
            let nobody = Tuple { source: stranger, destination: stranger, ..there };
            let found = found(&[there, there.reversed(), other, nobody]);
            assert_eq!(found[0].unwrap().tuple, there);
            assert_eq!(found[1].unwrap().tuple, there.reversed());
            assert!(found[0].unwrap().inode.is_some() && found[1].unwrap().inode.is_some());
            assert_eq!(found[2].unwrap().state, TcpState::LISTEN);
            assert_eq!(found[3], None);
        }
    }

    /// More than are asked at once.
    #[test]
    fn a_datagram_socket_is_found_by_its_port_connected_or_not() {
        let server = UdpSocket::bind("[::]:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        let source = endpoint(client.local_addr().unwrap());
        let destination = Endpoint { port, ..source };
        let there = Tuple { protocol: Protocol::UDP, source, destination };
        let tuples: Vec<Tuple> =
            std::iter::repeat_n([there, there.reversed()], 100).flatten().collect();
        for pair in found(&tuples).chunks(2) {
            assert_eq!(pair[0].unwrap().tuple, there);
            assert_eq!(pair[1].unwrap().tuple.source.port, port);
            assert!(pair.iter().all(|socket| socket.unwrap().inode.is_some()));
        }
    }
}
