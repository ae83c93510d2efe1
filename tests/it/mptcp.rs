//! MPTCP: the kernel moves the bytes of a socket through TCP sockets that no descriptor names.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketType, socket};
use testbed::bytes::Bytes;
use testbed::lines::Refresh;
use testbed::netns::{Namespace, Net, PEER4, PEER6, WATCHED4, WATCHED6};
use testbed::programs;
use testbed::requirements::skip;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// Sources that count all bytes of a connection, and name whose they are however short it was.
const SOURCES: &[&str] = &["conntrack", "ebpf"];

const TCP: u32 = 6;
const MPTCP: u32 = 262;
const PORT: u16 = 9000;
/// The second address of the side that connects.
const SECOND: &str = "10.77.0.3";

/// Which end of a connection is in the watched namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// How often a case may be tried with conntrack: names of short connections are lost where the machine is busy.
const ATTEMPTS: usize = 6;

/// Connections that a client makes one after the other.
#[derive(Clone, Copy, Debug)]
struct Case {
    client: u32,
    server: u32,
    ipv6: bool,
    second_subflow: bool,
    /// Whether the client binds its sockets to the interface, as the kernel does additional subflows.
    bound: bool,
    count: u32,
    size: u64,
    /// Seconds between the first byte of a connection and the others, and after these.
    pauses: [f32; 2],
}

const SHORT: Case = Case {
    client: MPTCP,
    server: MPTCP,
    ipv6: false,
    second_subflow: false,
    bound: false,
    count: 10,
    size: 100_000,
    pauses: [0.0; 2],
};

/// A process of `mptcp.py`, killed when dropped.
struct Peer(Child);

impl Peer {
    fn start(net: &Net, namespace: &Namespace, name: &str, words: &str) -> Peer {
        programs::MPTCP.put(&net.dir);
        let mut command = namespace.command("/usr/bin/python3");
        command.args(["mptcp.py", name]).args(words.split(' ')).current_dir(&net.dir);
        Peer(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn ready(mut self) -> Peer {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "READY\n");
        self
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn of(refresh: &Refresh, name: &str) -> Bytes {
    refresh.starting_with(&format!("/usr/bin/python3 mptcp.py {name} "))
}

fn is_missing() -> bool {
    let mptcp = RawProtocol::new(MPTCP).map(Protocol::from_raw);
    let missing = socket(AddressFamily::INET, SocketType::STREAM, mptcp).is_err();
    if missing {
        skip("this kernel has no MPTCP");
    }
    missing
}

impl Case {
    /// The server, with such options, and what it takes to start the client.
    fn set_up(self, net: &Net, side: Side, options: &str) -> (Peer, impl Fn() -> Peer) {
        let (client, server, link) = match side {
            Side::Client => (&net.watched, &net.peer, "peer"),
            Side::Server => (&net.peer, &net.watched, "watched"),
        };
        let hosts = if self.ipv6 { [PEER6, WATCHED6] } else { [PEER4, WATCHED4] };
        let host = hosts[usize::from(side == Side::Server)];
        if self.second_subflow {
            client.address(link, &format!("{SECOND}/24"));
            for namespace in [client, server] {
                namespace.run("ip mptcp limits set subflows 2");
            }
            client.run(&format!("ip mptcp endpoint add {SECOND} dev {link} subflow"));
        }
        let words = format!("server {} {host} {PORT}{options}", self.server);
        let server = Peer::start(net, server, "server", &words).ready();
        let Case { client: protocol, count, size, pauses: [before, after], .. } = self;
        let mut words = format!("client {protocol} {host} {PORT} {count} {size} {before} {after}");
        if self.bound {
            words += &format!(" {link}");
        }
        (server, move || Peer::start(net, client, "client", &words))
    }

    /// Every byte that nft counts stands on the line of the process, on either side.
    fn is_exact(self) {
        if is_missing() {
            return;
        }
        for (source, side) in
            SOURCES.iter().flat_map(|source| [(*source, Side::Client), (*source, Side::Server)])
        {
            let mut got = Vec::new();
            let attempts = if source == "conntrack" { ATTEMPTS } else { 1 };
            let named = (0..attempts).any(|_| {
                let Some((named, all)) = self.named_of_all(source, side) else { return true };
                println!("{self:?} {side:?} with {source}: {named}, of {all}");
                got.push(named);
                // Of several that conntrack tells of, one may be over before its thread is in time.
                let missed =
                    if source == "conntrack" { all.total() / u64::from(self.count) } else { 0 };
                named.total() + missed >= all.total() && (self.count > 1 || named == all)
            });
            assert!(named, "{self:?} {side:?} with {source}: {got:?}");
        }
    }

    /// The bytes that have their name, and all. All have to be told in any case.
    fn named_of_all(self, source: &str, side: Side) -> Option<(Bytes, Bytes)> {
        let net = Net::new()?;
        let (name, count) = match side {
            Side::Client => ("client", Count::client("all", "tcp", PORT)),
            Side::Server => ("server", Count::server("all", "tcp", PORT)),
        };
        let [to, from] = ["daddr", "saddr"].map(|end| format!("ip {end} {SECOND} tcp dport != 0"));
        let [received, sent] = if side == Side::Client { [to, from] } else { [from, to] };
        let second = Count::matching("second", &received, &sent);
        let (_server, client) = self.set_up(&net, side, "");
        let counters = Truth::start(&net.watched, &[count, second]);
        let mut running = RUNMONITOR.watch(&net, source, &["--unattributed", "--interval", "1"]);
        let status = client().0.wait().unwrap();
        assert!(status.success(), "the client failed, {status}");
        let truth = counters.settled();
        let all = truth["all"];
        let payload = u64::from(self.count) * self.size;
        assert!(all.received.max(all.sent) > payload, "{self:?} {side:?}: {all}");
        let second = truth["second"];
        assert_eq!(second > Bytes::default(), self.second_subflow, "{self:?} {side:?}: {second}");
        let what = format!("{self:?} {side:?} with {source}: {all} on all lines");
        // On a busy machine an acknowledgement may have come after the counters seemed to have settled.
        let all = || counters.so_far()["all"];
        running.wait_until(&what, |refresh| refresh.total() == all().total());
        // Whose it is may be told a look later.
        let named = (0..3).map(|_| of(&running.settled(), name)).find(|named| *named == all());
        let named = named.unwrap_or_else(|| of(&running.settled(), name));
        running.stop();
        Some((named, all()))
    }
}

#[test]
fn connections_that_are_over_at_once() {
    SHORT.is_exact();
}

#[test]
fn connections_over_ipv6() {
    Case { ipv6: true, ..SHORT }.is_exact();
}

#[test]
fn a_connection_that_lasts() {
    Case { count: 1, size: 3_000_000, pauses: [0.7, 1.5], ..SHORT }.is_exact();
}

#[test]
fn a_second_subflow() {
    let pauses = [0.7, 0.5];
    Case { second_subflow: true, count: 1, size: 20_000_000, pauses, ..SHORT }.is_exact();
}

#[test]
fn second_subflows_of_short_connections() {
    Case { second_subflow: true, pauses: [0.05, 0.0], ..SHORT }.is_exact();
}

#[test]
fn clients_that_are_bound_to_an_interface() {
    for protocol in [TCP, MPTCP] {
        Case { client: protocol, bound: true, ..SHORT }.is_exact();
    }
}

#[test]
fn a_server_that_speaks_plain_tcp() {
    Case { server: TCP, ..SHORT }.is_exact();
}

#[test]
fn a_client_that_speaks_plain_tcp() {
    Case { client: TCP, ..SHORT }.is_exact();
}

/// The payload counts once, although a subflow's socket and the MPTCP socket are both listed.
#[test]
fn sockets_that_are_there_at_a_refresh() {
    if is_missing() {
        return;
    }
    for (client, server) in [(MPTCP, MPTCP), (MPTCP, TCP), (TCP, MPTCP)] {
        for side in [Side::Client, Side::Server] {
            let Some(net) = Net::new() else { return };
            let case = Case { client, server, count: 1, pauses: [0.0, 250.0], ..SHORT };
            let (_server, client) = case.set_up(&net, side, "");
            let mut running = RUNMONITOR.watch(&net, "sockets", &["--unattributed"]);
            let _client = client();
            let (name, payload) = match side {
                Side::Client => ("client", Bytes::new(0, case.size)),
                Side::Server => ("server", Bytes::new(case.size, 0)),
            };
            let what = format!("{case:?} {side:?}: {payload} on the line of the {name}");
            // On a busy machine MPTCP sends some of it again, which is new to TCP.
            let fits = |got: u64, payload: u64| got >= payload && got <= payload + payload / 2;
            let refresh = running.wait_until(&what, |refresh| {
                let got = of(refresh, name);
                fits(got.received, payload.received) && fits(got.sent, payload.sent)
            });
            running.expect("all lines", refresh.total(), of(&refresh, name).total());
            running.stop();
        }
    }
}

/// After so many nobody asks any more.
const REFRESHES: usize = 15;

/// All that it says is said before it is accepted, after so many refreshes.
#[test]
fn a_connection_that_is_accepted_late_and_stays_silent() {
    if is_missing() {
        return;
    }
    for protocol in [TCP, MPTCP] {
        for source in ["conntrack", "sockets"] {
            let Some(net) = Net::new() else { return };
            let truth = Truth::start(&net.watched, &[Count::server("all", "tcp", PORT)]);
            let case = Case { client: protocol, server: protocol, count: 1, size: 50_000, ..SHORT };
            let case = Case { pauses: [0.0, 250.0], ..case };
            let mut running = RUNMONITOR.watch(&net, source, &["--unattributed"]);
            let (_server, client) = case.set_up(&net, Side::Server, " accept");
            let _client = client();
            // The tracker may ask for the connection before the kernel knows it, and is told of the listening socket:
            // where nobody else can accept it, it is the server's from the beginning.
            running.wait_until("it waits", |refresh| {
                let early = source == "conntrack" && of(refresh, "server").received > 0;
                early || refresh.reason("(kernel)").received > 0
            });
            let so_far = running.refreshes(0).len();
            running.refreshes(so_far + REFRESHES);
            fs::write(net.dir.join("accept"), "").unwrap();
            let what =
                format!("{source}: a connection of protocol {protocol} on its server's line");
            running.wait_until(&what, |refresh| {
                let of_server = of(refresh, "server");
                of_server.received >= case.size && of_server.total() == refresh.total()
            });
            if source == "conntrack" {
                let truth = truth.settled()["all"];
                running.wait_until("beside nft", |refresh| of(refresh, "server") == truth);
            }
            running.stop();
        }
    }
}
