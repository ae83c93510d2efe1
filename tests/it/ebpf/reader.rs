//! The counters themselves: slots, what there is no room for, and handshakes.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;

use bwmon::ebpf::{self, Counted, Reader};
use rustix::net::sockopt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Type};

use crate::netns::{Namespace, Net};

/// What doesn't find room is counted all the same, if not apart.
#[test]
fn when_there_is_no_room_for_a_socket_its_bytes_are_counted_together() {
    let Some(_net) = Net::new() else { return };
    // Others on this host have sockets, too: there may be no room for its own one.
    let mut attempts = (0..100).map(|_| Reader::with_room(Path::new("/proc"), 64));
    let mut reader = attempts.find_map(Result::ok).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let senders: Vec<UdpSocket> =
        (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for sender in &senders {
        sender.send_to(&[0; 1000], receiver.local_addr().unwrap()).unwrap();
    }
    let mut apart = 0;
    reader.read(|counted, _| apart += counted.bytes.local.sent);
    let together = reader.without_slot().local.sent;
    assert!(together >= 136 * 1028, "{together} bytes together");
    assert!(apart + together >= 200 * 1028, "{apart} bytes apart, {together} together");
    let mut places = HashSet::new();
    reader.read(|counted, _| places.extend([counted.slot]));
    assert!(places.len() <= 64, "{places:?}");
}

/// Slots are taken back and used again without a byte being lost.
#[test]
fn a_slot_can_be_taken_back_at_any_time() {
    let Some(_net) = Net::new() else { return };
    let mut reader = Reader::open(Path::new("/proc")).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (cookie, mut total) = (sockopt::socket_cookie(&sender).unwrap(), 0);
    for round in 1..=200u64 {
        sender.send_to(&[0; 500], receiver.local_addr().unwrap()).unwrap();
        let mut mine = None;
        reader.read(|counted, before| {
            if counted.cookie == cookie {
                match before {
                    None => mine = Some(counted),
                    Some(_) => total += counted.bytes.local.sent,
                }
            }
        });
        let mine = mine.unwrap();
        let origin = reader.origin(&mine).unwrap();
        assert_eq!(origin.maker.map(|maker| maker.pid), Some(std::process::id()));
        assert_eq!(origin.ports[0], sender.local_addr().unwrap().port());
        reader.take_back(&mine, &origin);
        // What was taken back before this round has been read for the last time by now.
        assert_eq!(total, (round - 1) * 528);
    }
}

/// A listening socket, a connection to it from a certain port, and the socket that it has accepted.
struct Connection {
    listener: TcpListener,
    client: TcpStream,
    server: Option<TcpStream>,
}

impl Connection {
    /// One on the loopback device of a namespace.
    fn inside(namespace: &Namespace, port: u16, from: u16) -> Connection {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                let entered = std::fs::File::open(format!("/run/netns/{}", namespace.name));
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(entered.unwrap().as_fd(), kind).unwrap();
                let listener = TcpListener::bind(at(port)).unwrap();
                let client = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.bind(&at(from).into()).unwrap();
                client.connect(&at(port).into()).unwrap();
                Connection { listener, client: client.into(), server: None }
            });
            connecting.join().unwrap()
        })
    }

    /// Accepts it, and sends a kilobyte each way.
    fn exchange(&mut self) {
        let (mut server, _) = self.listener.accept().unwrap();
        server.write_all(&[1; 1000]).unwrap();
        self.client.read_exact(&mut [0; 1000]).unwrap();
        self.client.write_all(&[1; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        self.server = Some(server);
    }

    /// What was counted of the listening socket, the client and the server.
    fn counted(&self, reader: &mut Reader) -> [Counted; 3] {
        let server = self.server.as_ref().unwrap();
        let sockets = [self.listener.as_fd(), self.client.as_fd(), server.as_fd()];
        let mut all = Vec::new();
        reader.read(|counted, _| all.push(counted));
        sockets.map(|socket| {
            let cookie = sockopt::socket_cookie(socket).unwrap();
            *all.iter().find(|counted| counted.cookie == cookie).unwrap()
        })
    }
}

#[test]
fn an_accepted_socket_has_its_handshake_and_its_listening_socket() {
    let Some(net) = Net::new() else { return };
    let mut reader = Reader::open(Path::new("/proc")).unwrap();
    let mut connection = Connection::inside(&net.watched, 9010, 9011);
    connection.exchange();
    let [listener, client, server] = connection.counted(&mut reader);
    assert_eq!(listener.bytes, ebpf::Bytes::default());
    let (client_bytes, server_bytes) = (client.bytes.local, server.bytes.local);
    assert_eq!(server_bytes.sent, client_bytes.received);
    assert_eq!(server_bytes.received, client_bytes.sent);
    let [of_listener, of_server] = [listener, server].map(|of| reader.origin(&of).unwrap());
    assert!(of_listener.listening && of_server.accepted && !of_server.listening);
    assert_eq!(of_server.listener, listener.cookie);
    assert_eq!((of_server.maker, of_server.netns), (of_listener.maker, of_listener.netns));
    assert_eq!((of_listener.ports, of_server.ports), ([9010, 0], [9010, 9011]));
}

#[test]
fn connections_of_the_same_addresses_in_two_namespaces_are_not_mixed_up() {
    let Some(net) = Net::new() else { return };
    let mut reader = Reader::open(Path::new("/proc")).unwrap();
    let mut both = [&net.watched, &net.peer].map(|inside| Connection::inside(inside, 9000, 9001));
    for connection in &mut both {
        connection.exchange();
    }
    let listeners = both.map(|connection| {
        let [listener, client, server] = connection.counted(&mut reader);
        assert_eq!(listener.bytes, ebpf::Bytes::default());
        assert_eq!(server.bytes.local.sent, client.bytes.local.received);
        assert_eq!(server.bytes.local.received, client.bytes.local.sent);
        let [of_listener, of_server] = [listener, server].map(|of| reader.origin(&of).unwrap());
        assert_eq!(of_server.listener, listener.cookie);
        assert_eq!(of_server.netns, of_listener.netns);
        of_listener.netns
    });
    assert_ne!(listeners[0], listeners[1]);
}
