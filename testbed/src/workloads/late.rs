//! What comes late: data on connections that were silent, the end of a handshake, answers.

use std::thread::sleep;
use std::time::Duration;

use super::{Stage, Workload};
use crate::endpoint::Endpoint;
use crate::netns::{Namespace, PEER4, WATCHED4, WATCHED6};
use crate::truth::Count;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("accepted_silent", "server, connections that are silent at first", |stage| {
        silent(stage, WATCHED4);
    })
    .every("0.5"),
    Workload::new("accepted_silent6", "the same, IPv6", |stage| silent(stage, WATCHED6))
        .ipv6()
        .every("0.5"),
    Workload::new("accepted_late", "server that accepts after 3 s", |stage| late(stage, "late=3"))
        .every("0.5"),
    // Far more refreshes than anybody remembers a handshake for.
    Workload::new("accepted_very_late", "the same, after hundreds of refreshes", |stage| {
        late(stage, "late=8");
    })
    .every("0.01"),
    Workload::new("half_open_synack", "server, its SYN-ACKs lost for 3 s", |stage| {
        let peer = &stage.net.peer;
        half_open(stage, peer, "input", "tcp sport 9000 tcp flags & (syn | ack) == syn | ack");
    }),
    Workload::new("half_open_ack", "server, the answers to its SYN-ACKs lost for 3 s", |stage| {
        let watched = &stage.net.watched;
        // Before anything counts them.
        let hook = "prerouting";
        half_open(stage, watched, hook, "tcp dport 9000 tcp flags & (syn | ack) == ack");
    }),
    Workload::new("answered_late", "UDP, answers to sockets that are closed", answered_late),
];

const EXCHANGE: &str = "up=1000 down=500";

fn serve(stage: &mut Stage<'_>, options: &str) {
    let net = stage.net;
    stage.count(&[Count::server("server", "tcp", 9000)]);
    stage.owns("server", ["server"]);
    let role = format!("tcp-server host=:: dual port=9000 mode=threaded backlog=100 {options}");
    stage.keep(Endpoint::start(net, &net.watched, "server", &role));
}

fn clients(stage: &Stage<'_>, host: &str, options: &str) -> Endpoint {
    let net = stage.net;
    let role = format!("tcp-kept host={host} port=9000 count=20 {EXCHANGE} {options}");
    Endpoint::start(net, &net.peer, "near", &role)
}

/// Four refreshes pass between the handshake and the first data, and before what follows.
fn silent(stage: &mut Stage<'_>, host: &str) {
    serve(stage, "");
    stage.begin();
    let rounds = stage.sized(3, 2);
    let mut clients = clients(stage, host, &format!("silent=2 talks=2 rounds={rounds}"));
    clients.go();
    stage.keep(clients);
}

/// The first data are there before anybody accepts.
fn late(stage: &mut Stage<'_>, server: &str) {
    serve(stage, server);
    stage.begin();
    let mut clients = clients(stage, WATCHED4, "");
    clients.go();
    stage.keep(clients);
}

/// What this matches at a hook of this namespace is lost, for some time.
fn half_open(stage: &mut Stage<'_>, namespace: &Namespace, hook: &str, lost: &str) {
    serve(stage, "");
    namespace.nft(&format!(
        "table inet gate {{\n chain lost {{\n  type filter hook {hook} priority -400\n  \
         {lost} drop\n }}\n}}\n"
    ));
    stage.begin();
    let mut clients = clients(stage, WATCHED4, "");
    clients.begin();
    // The kernel repeats itself after 1 s and after 3 s.
    sleep(Duration::from_millis(2600));
    namespace.run("nft delete table inet gate");
    clients.done();
    stage.keep(clients);
}

/// Matches nothing: no such protocol exists.
const NOTHING: &str = "meta l4proto 255";

fn answered_late(stage: &mut Stage<'_>) {
    let net = stage.net;
    stage.count(&[
        Count::matching("client", NOTHING, "udp dport 9000"),
        Count::matching("late", "udp sport 9000", NOTHING),
    ]);
    stage.owns("client", ["client"]);
    stage.owns("(exited)", ["late"]);
    // The kernel would say that nobody listens, and be counted for it.
    net.watched.nft(
        "table inet mute {\n chain output {\n  type filter hook output priority -400\n  \
         icmp type destination-unreachable drop\n }\n}\n",
    );
    let mut server = Endpoint::start(net, &net.peer, "far", "udp-server port=9000 reply=800 held");
    stage.begin();
    let options = "connected leaves sockets=20 count=20 size=1200 seconds=0.2";
    let role = format!("udp-client host={PEER4} port=9000 {options}");
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    client.go();
    // The sockets are closed.
    server.go();
    stage.keep((client, server));
}
