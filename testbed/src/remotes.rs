//! Scenes of known truth for remote ends: which hosts a process talks to, over which interfaces, and the bytes of each
//! as nft counts them.

use std::any::Any;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::bytes::Bytes;
use crate::endpoint::Endpoint;
use crate::machine::bytes;
use crate::netns::{Namespace, Net, PEER4, PEER6, WATCHED4, WATCHED6};
use crate::truth::{Count, Truth};
use crate::workloads::containers::{Container, MASQUERADE, forward};

/// The address and the interface of a remote end, `-` where there is none.
pub type End = (String, String);

/// A scene.
pub struct Scene {
    /// What happens.
    pub title: &'static str,
    /// Whether it takes all network namespaces to see it.
    pub elsewhere: bool,
    play: fn(&Net, &mut dyn FnMut()) -> Played,
}

/// What has happened.
pub struct Played {
    /// A part of the process's command line.
    pub process: String,
    /// Its remote ends.
    ends: BTreeMap<End, Bytes>,
    /// The processes and namespaces, which stay until this is dropped.
    _stays: Box<dyn Any>,
}

/// All scenes.
pub const SCENES: &[Scene] = &[
    Scene::new("one socket, four hosts, IPv4 and IPv6, two interfaces", one_socket),
    Scene::new("server of both families", both_families),
    Scene::new("client whose destination is translated", translated_client),
    Scene::new("server whose port is translated", translated_server),
    Scene { elsewhere: true, ..Scene::new("client in a container, masqueraded", container) },
];

/// The interface of the watched namespace towards its peer.
const LINK: &str = "peer";
/// A second address of the peer, and one that nobody has.
const OTHER4: &str = "10.77.0.3";
const NOBODY4: &str = "10.77.0.99";
const LOOPBACK4: &str = "127.0.0.2";

impl Scene {
    const fn new(title: &'static str, play: fn(&Net, &mut dyn FnMut()) -> Played) -> Scene {
        Scene { title, elsewhere: false, play }
    }

    /// Plays it; `start` is called before there is any traffic.
    pub fn play(&self, net: &Net, mut start: impl FnMut()) -> Played {
        (self.play)(net, &mut start)
    }
}

impl Played {
    /// The remote ends as this source tells them: the tuples of a flow have no interface but the loopback device.
    pub fn ends_by(&self, source: &str) -> BTreeMap<End, Bytes> {
        let told = |(address, interface): &End| match source == "ebpf" || interface == "lo" {
            true => (address.clone(), interface.clone()),
            false => (address.clone(), "-".to_owned()),
        };
        self.ends.iter().map(|(end, bytes)| (told(end), *bytes)).collect()
    }
}

/// The remote ends of a row of `--details`, all ports together; bytes without one are at `("-", "-")`.
pub fn ends_of(row: &Value) -> BTreeMap<End, Bytes> {
    let mut ends: BTreeMap<End, Bytes> = BTreeMap::new();
    for detail in row["details"].as_array().into_iter().flatten() {
        let part = |key: &str| detail[key].as_str().unwrap_or("-").to_owned();
        let sum = ends.entry((part("remote_address"), part("interface"))).or_default();
        *sum = *sum + bytes(&detail["total"]);
    }
    ends
}

/// Whether each remote end has its bytes, to a thousandth, and nothing else is listed. The answer to who asks for a
/// connection is told apart by its addresses; where these are translated, it may stand without a remote end.
pub fn fits(shown: &BTreeMap<End, Bytes>, truth: &BTreeMap<End, Bytes>) -> bool {
    let near = |got: u64, truth: u64| got.abs_diff(truth) * 1000 <= truth;
    let is_there = |(end, truth): (&End, &Bytes)| {
        shown
            .get(end)
            .is_some_and(|got| near(got.received, truth.received) && near(got.sent, truth.sent))
    };
    let all: u64 = truth.values().map(|of| of.total()).sum();
    let is_little = |(end, got): (&End, &Bytes)| {
        truth.contains_key(end) || end.0 == "-" && got.total() * 1000 <= all
    };
    truth.iter().all(is_there) && shown.iter().all(is_little)
}

/// The bytes that a port's server exchanges with these addresses here, as its clients count them.
struct Counted<'a> {
    truth: Truth<'a>,
    ends: Vec<End>,
}

impl<'a> Counted<'a> {
    /// `ends` are remote ends, each with its counter.
    fn start(namespace: &'a Namespace, ends: Vec<(&str, &str, Count<'_>)>) -> Counted<'a> {
        let (ends, counts): (Vec<End>, Vec<Count<'_>>) = ends
            .into_iter()
            .map(|(address, link, count)| ((address.to_owned(), link.to_owned()), count))
            .unzip();
        Counted { truth: Truth::start(namespace, &counts), ends }
    }

    /// The bytes of each, by the names of their counters in order.
    fn read(self, names: &[&str]) -> BTreeMap<End, Bytes> {
        let counts = self.truth.settled();
        self.ends.into_iter().zip(names).map(|(end, name)| (end, counts[*name])).collect()
    }
}

/// What is exchanged with this address, of the packets that these matches let come in and go out.
fn with<'a>(name: &'a str, address: &str, [received, sent]: [&str; 2]) -> Count<'a> {
    let family = if address.contains(':') { "ip6" } else { "ip" };
    let received = format!("{family} saddr {address} {received}");
    let sent = format!("{family} daddr {address} {sent}");
    Count::matching(name, &received, &sent)
}

fn one_socket(net: &Net, start: &mut dyn FnMut()) -> Played {
    net.peer.address("watched", &format!("{OTHER4}/24"));
    let servers =
        [(&net.peer, PEER4), (&net.peer, OTHER4), (&net.peer, PEER6), (&net.watched, LOOPBACK4)];
    let names = ["peer", "other", "peer6", "looped"];
    let mut counts = Vec::new();
    for ((_, address), name) in servers.iter().zip(names) {
        let interface = if *address == LOOPBACK4 { "lo" } else { LINK };
        counts.push((
            *address,
            interface,
            with(name, address, ["udp sport 9000", "udp dport 9000"]),
        ));
    }
    let counted = Counted::start(&net.watched, counts);
    let servers: Vec<Endpoint> = servers
        .iter()
        .map(|(namespace, host)| {
            let role = format!("udp-server host={host} port=9000 reply=300");
            Endpoint::start(net, namespace, "server", &role)
        })
        .collect();
    // The socket is one of IPv6.
    let hosts = [PEER4, OTHER4, PEER6, LOOPBACK4].map(|host| match host.contains(':') {
        true => host.to_owned(),
        false => format!("::ffff:{host}"),
    });
    let role =
        format!("udp-client host={} port=9000 count=400 size=700 reply=300", hosts.join(","));
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    start();
    client.go();
    let ends = counted.read(&names);
    Played { process: "workload.py client ".to_owned(), ends, _stays: Box::new((client, servers)) }
}

fn both_families(net: &Net, start: &mut dyn FnMut()) -> Played {
    let names = ["four", "six"];
    let counts = [PEER4, PEER6].into_iter().zip(names);
    let serves = ["tcp dport 9000", "tcp sport 9000"];
    let counts = counts.map(|(of, name)| (of, LINK, with(name, of, serves))).collect();
    let counted = Counted::start(&net.watched, counts);
    let role = "tcp-server host=:: dual mode=threaded port=9000";
    let server = Endpoint::start(net, &net.watched, "server", role);
    start();
    let clients = [(WATCHED4, 300_000), (WATCHED6, 200_000)].map(|(host, up)| {
        let role = format!("tcp-client host={host} port=9000 up={up} down=100000");
        let mut client = Endpoint::start(net, &net.peer, "client", &role);
        client.go();
        client.close();
        client
    });
    let ends = counted.read(&names);
    Played { process: "workload.py server ".to_owned(), ends, _stays: Box::new((server, clients)) }
}

/// The process knows the address that it has asked, and no other.
fn translated_client(net: &Net, start: &mut dyn FnMut()) -> Played {
    net.watched.nft(&format!(
        "table ip nat {{\n chain output {{\n  type nat hook output priority -100\n  \
         ip daddr {NOBODY4} tcp dport 80 dnat to {PEER4}:9000\n }}\n}}\n"
    ));
    // Where nft counts, the output has been translated and the input not been translated back.
    let count = Count::client("end", "tcp", 9000);
    let counted = Counted::start(&net.watched, vec![(NOBODY4, LINK, count)]);
    let server = Endpoint::start(net, &net.peer, "server", "tcp-server port=9000");
    start();
    let role = format!("tcp-client host={NOBODY4} port=80 up=300000 down=200000");
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    client.go();
    let ends = counted.read(&["end"]);
    Played { process: "workload.py client ".to_owned(), ends, _stays: Box::new((client, server)) }
}

fn translated_server(net: &Net, start: &mut dyn FnMut()) -> Played {
    net.watched.nft(
        "table ip nat {\n chain prerouting {\n  type nat hook prerouting priority -100\n  \
         tcp dport 80 redirect to :9000\n }\n}\n",
    );
    let count = Count::server("end", "tcp", 9000);
    let counted = Counted::start(&net.watched, vec![(PEER4, LINK, count)]);
    let server = Endpoint::start(net, &net.watched, "server", "tcp-server port=9000");
    start();
    let role = format!("tcp-client host={WATCHED4} port=80 up=300000 down=200000");
    let mut client = Endpoint::start(net, &net.peer, "client", &role);
    client.go();
    let ends = counted.read(&["end"]);
    Played { process: "workload.py server ".to_owned(), ends, _stays: Box::new((server, client)) }
}

fn container(net: &Net, start: &mut dyn FnMut()) -> Played {
    forward(net, MASQUERADE);
    let container = Container::new(net);
    // The link of a container is called after its other end.
    let count = Count::client("end", "tcp", 9000);
    let counted = Counted::start(&container.namespace, vec![(PEER4, "watched", count)]);
    let server = Endpoint::start(net, &net.peer, "far", "tcp-server port=9000");
    start();
    let role = format!("tcp-client host={PEER4} port=9000 up=300000 down=200000");
    let mut client = Endpoint::start(net, &container.namespace, &container.name, &role);
    client.go();
    let ends = counted.read(&["end"]);
    let process = format!("workload.py {} ", container.name);
    let Container { namespace, .. } = container;
    Played { process, ends, _stays: Box::new((client, server, namespace)) }
}
