//! The counters themselves: slots, what there is no room for, and handshakes.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use bwmon::ebpf::{self, Counted, Reader};
use rustix::net::sockopt;
use socket2::{Domain, Type};
use testbed::apart::in_own_cgroup;
use testbed::netns::{Namespace, Net, PEER4, PEER6};

/// One with room for so few that only sockets of the test's own control group may come to it.
fn reader_of(room: u32, proc: &Path) -> Reader {
    Reader::with_room(proc, room, false).unwrap()
}

fn without_slot(reader: &mut Reader, netns: u64) -> ebpf::Bytes {
    let of = reader.outside().find(|(cookie, _)| *cookie == netns);
    of.map(|(_, outside)| outside.without_slot).unwrap_or_default()
}

/// What doesn't find room is counted all the same, if not apart; and where it was.
#[test]
fn when_there_is_no_room_for_a_socket_its_bytes_are_counted_together() {
    let Some(proc) = in_own_cgroup() else { return };
    let Some(net) = Net::new() else { return };
    let mut reader = reader_of(64, &proc);
    let sockets = net.watched.inside(|| {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let senders: Vec<UdpSocket> =
            (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for sender in &senders {
            sender.send_to(&[0; 1000], receiver.local_addr().unwrap()).unwrap();
        }
        senders
    });
    let cookies: HashSet<u64> =
        sockets.iter().map(|socket| sockopt::socket_cookie(socket).unwrap()).collect();
    let (mut apart, mut netns) = (0, 0);
    let mut ours = Vec::new();
    reader.read(|counted, _| ours.extend(cookies.contains(&counted.cookie).then_some(counted)));
    for counted in &ours {
        apart += counted.bytes.local.sent;
        netns = reader.origin(counted).map_or(netns, |origin| origin.netns);
    }
    assert!(!ours.is_empty() && ours.len() <= 64, "{} sockets", ours.len());
    let together = without_slot(&mut reader, netns).local.sent;
    assert_eq!(apart + together, 200 * 1028, "{apart} bytes apart, {together} together");
    assert_eq!(without_slot(&mut reader, 12_345_678), ebpf::Bytes::default());
}

/// Several for each bucket, of which there are 512.
const SENDERS: usize = 1500;

/// A socket that was silent ever since it was made gives way to one that has bytes: the oldest one.
#[test]
fn silent_sockets_give_way_to_those_with_bytes() {
    let Some(proc) = in_own_cgroup() else { return };
    let Some(net) = Net::new() else { return };
    let mut reader = reader_of(1 << 12, &proc);
    let bound = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let (silent, senders): (Vec<UdpSocket>, Vec<UdpSocket>) = net.watched.inside(|| {
        let silent = (0..6000).map(|_| bound()).collect();
        let receiver = bound();
        let senders: Vec<UdpSocket> = (0..SENDERS).map(|_| bound()).collect();
        for sender in &senders {
            sender.send_to(&[0; 1000], receiver.local_addr().unwrap()).unwrap();
        }
        (silent, senders)
    });
    let cookies: HashSet<u64> =
        senders.iter().map(|sender| sockopt::socket_cookie(sender).unwrap()).collect();
    let mut counted = Vec::new();
    reader.read(|socket, _| counted.extend(cookies.contains(&socket.cookie).then_some(socket)));
    let outside: Vec<_> = reader.outside().collect();
    assert_eq!(counted.len(), SENDERS, "{outside:?}");
    assert!(counted.iter().all(|socket| socket.bytes.local.sent == 1028), "{counted:?}");
    // They were made when silent ones had all the room, and were silent themselves for a while. They are known all the
    // same.
    let own = std::process::id();
    let known = counted.iter().filter_map(|socket| reader.origin(socket)?.maker);
    assert_eq!(known.filter(|maker| maker.pid == own).count(), SENDERS);
    drop(silent);
}

/// Makes many sockets and sends with each.
const MANY: &str = "import socket, sys
receiver = socket.socket(2, 2); receiver.bind(('127.0.0.1', 0))
sockets = [socket.socket(2, 2) for _ in range(9000)]
for s in sockets: s.sendto(b'x' * 1000, receiver.getsockname())
print('done', flush=True); sys.stdin.readline()
";

/// Keeps those alone whose cookies fill two thirds of the buckets, and sends with each of them.
const CHOSEN: &str = "import socket, sys
receiver = socket.socket(2, 2); receiver.bind(('127.0.0.1', 0))
sockets, buckets = [], [0] * 512
for _ in range(30000):
    s = socket.socket(2, 2)
    bucket = int.from_bytes(s.getsockopt(1, 57, 8), sys.byteorder) % 512
    if bucket < 340 and buckets[bucket] < 8:
        buckets[bucket] += 1; sockets.append(s)
        s.sendto(b'x' * 1000, receiver.getsockname())
print('done', flush=True); sys.stdin.readline()
";

/// What one user takes is bounded by what is left for the others.
#[test]
fn a_user_leaves_room_for_others() {
    leaves_room(MANY);
}

/// Cookies can be read by everybody, so that buckets can be chosen.
#[test]
fn a_user_leaves_room_for_others_in_each_bucket() {
    leaves_room(CHOSEN);
}

fn leaves_room(flood: &str) {
    let Some(proc) = in_own_cgroup() else { return };
    let Some(net) = Net::new() else { return };
    let mut reader = reader_of(1 << 12, &proc);
    let mut command = net.watched.command("prlimit");
    command.args([
        "--nofile=20000",
        "setpriv",
        "--reuid=54321",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        flood,
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut flood = command.spawn().unwrap();
    BufReader::new(flood.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let (receiver, cookies) = {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender: Vec<UdpSocket> =
            (0..500).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for sender in &sender {
            sender.send_to(&[0; 1000], receiver.local_addr().unwrap()).unwrap();
        }
        let cookies: HashSet<u64> =
            sender.iter().map(|sender| sockopt::socket_cookie(sender).unwrap()).collect();
        ((receiver, sender), cookies)
    };
    let (mut ours, mut netns) = (0, HashSet::new());
    let mut all = Vec::new();
    reader.read(|socket, _| all.push(socket));
    for socket in &all {
        match cookies.contains(&socket.cookie) {
            true => ours += usize::from(socket.bytes.local.sent == 1028),
            false => netns.extend(reader.origin(socket).map(|origin| origin.netns)),
        }
    }
    drop(flood.stdin.take());
    flood.wait().unwrap();
    drop(receiver);
    // Two thirds of the room are the flood's. Two buckets may both be full by chance.
    assert!(ours >= 490, "{ours} of 500 others have room, {} have it", all.len());
    let own = reader.netns();
    assert!(without_slot(&mut reader, own).local.sent <= 10 * 1028);
}

/// Slots are taken back and used again without a byte being lost.
#[test]
fn a_slot_can_be_taken_back_at_any_time() {
    let Some(_net) = Net::new() else { return };
    let mut reader = Reader::open(Path::new("/proc"), false).unwrap();
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
        namespace.inside(|| {
            let listener = TcpListener::bind(at(port)).unwrap();
            let client = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.bind(&at(from).into()).unwrap();
            client.connect(&at(port).into()).unwrap();
            Connection { listener, client: client.into(), server: None }
        })
    }

    /// One from a namespace to this address in another one.
    fn between(from: &Namespace, to: &Namespace, address: &str) -> Connection {
        let listener = to.inside(|| TcpListener::bind((address, 9000)).unwrap());
        let client = from.inside(|| TcpStream::connect((address, 9000)).unwrap());
        Connection { listener, client, server: None }
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
    let mut reader = Reader::open(Path::new("/proc"), false).unwrap();
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
    let mut reader = Reader::open(Path::new("/proc"), false).unwrap();
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

/// Of connections that begin in the same moment the kernel may give two in different namespaces the same port and the
/// same sequence number. Here one packet comes to both namespaces.
#[test]
fn connections_that_begin_with_the_same_packet_are_not_mixed_up() {
    let Some(net) = Net::new() else { return };
    let other = Namespace::new(format!("{}-other", net.watched.name));
    net.join(&other, "other");
    net.watched.run("ip link set other up");
    other.address("watched", &format!("{PEER4}/24"));
    other.address("watched", &format!("{PEER6}/64"));
    // The first packet comes to the other namespace before it comes to the peer. The answer to it is lost, so that it
    // waits there.
    net.watched.nft(
        "table netdev twice {\n chain out {\n  type filter hook egress device peer priority 0\n  \
         tcp flags & (syn | ack) == syn dup to other\n }\n}\n",
    );
    other.nft(
        "table inet gate {\n counter asked {\n }\n chain in {\n  type filter hook input priority 0\n  \
         tcp flags syn counter name asked\n }\n chain out {\n  type filter hook output priority 0\n  \
         meta l4proto tcp drop\n }\n}\n",
    );
    for address in [PEER4, PEER6] {
        let mut reader = Reader::open(Path::new("/proc"), false).unwrap();
        let _unanswered = other.inside(|| TcpListener::bind((address, 9000)).unwrap());
        let mut connection = Connection::between(&net.watched, &net.peer, address);
        connection.exchange();
        let [listener, client, server] = connection.counted(&mut reader);
        let origin = reader.origin(&server).unwrap();
        assert_eq!(origin.listener, listener.cookie, "{address}");
        assert_eq!(server.bytes.remote.received, client.bytes.remote.sent, "{address}");
        assert_eq!(server.bytes.remote.sent, client.bytes.remote.received, "{address}");
        assert_eq!(listener.bytes, ebpf::Bytes::default(), "{address}");
        // Or nothing could have been mixed up.
        let asked = other.run("nft reset counter inet gate asked");
        assert!(!asked.contains("packets 0 "), "{asked}");
    }
}
