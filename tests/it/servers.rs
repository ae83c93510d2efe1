//! Servers that hand their connections to threads and to other processes.

use testbed::bytes::Bytes;
use testbed::endpoint::{Endpoint, LIVE};
use testbed::netns::{Net, WATCHED4};
use testbed::running::Running;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// Two clients with connections of their own, told apart by their ports.
fn counts() -> [Count<'static>; 2] {
    [("first", 40001), ("second", 40002)].map(|(name, port)| {
        let received = format!("tcp sport {port} tcp dport 9000");
        let sent = format!("tcp dport {port} tcp sport 9000");
        Count::matching(name, &received, &sent)
    })
}

/// The roles of these clients, of different sizes, or a mix-up would not show.
fn clients() -> [String; 2] {
    [(40001, LIVE), (40002, "up=700000 down=1500000 seconds=3.5")].map(|(port, exchange)| {
        format!("tcp-client host={WATCHED4} port=9000 local={port} {exchange}")
    })
}

/// Two handshakes, as the server sees them.
const HANDSHAKES: Bytes = Bytes { received: 2 * (60 + 52), sent: 2 * 60 };

/// Who accepts a connection and hands it on holds it for a moment. What was counted until then may stay with it:
/// that is no more than the handshake, for the clients say nothing before.
fn expect_at_most(running: &mut Running, name: &str, most: Bytes) {
    let got = running.settled().workload(name);
    running.expect(&format!("{name}, {got} of at most {most}"), got.least(most), got);
}

#[test]
fn threaded_server() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &counts());
    let _server =
        Endpoint::start(&net, &net.watched, "server", "tcp-server mode=threaded port=9000");
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut ebpf = RUNMONITOR.watch(&net, "ebpf", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let mut clients = clients().map(|role| Endpoint::start(&net, &net.peer, "client", &role));
    clients.iter_mut().for_each(Endpoint::begin);
    let [first, second] = clients.each_mut().map(|client| client.done().swapped());
    let truth = truth.settled();
    conntrack.expect_share("server", truth["first"] + truth["second"]);
    ebpf.expect_share("server", truth["first"] + truth["second"]);
    sockets.expect_payload("server", first + second);
    conntrack.stop();
    ebpf.stop();
    sockets.stop();
}

/// Connections that end up in one child each; which child got one is told by the server.
fn children(role: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &counts());
    let mut server = Endpoint::start(&net, &net.watched, "srv-parent", role);
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut ebpf = RUNMONITOR.watch(&net, "ebpf", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let mut owners = Vec::new();
    let mut clients = clients().map(|role| {
        let client = Endpoint::start(&net, &net.peer, "client", &role);
        let accepted = server.wait_for("ACCEPTED");
        owners.push(format!("srv-{}", accepted.split(' ').nth(1).unwrap()));
        client
    });
    clients.iter_mut().for_each(Endpoint::begin);
    let payloads = clients.each_mut().map(|client| client.done().swapped());
    let truth = truth.settled();
    for (index, name) in ["first", "second"].into_iter().enumerate() {
        conntrack.expect_share(&owners[index], truth[name]);
        ebpf.expect_share(&owners[index], truth[name]);
        sockets.expect_payload(&owners[index], payloads[index]);
    }
    let payload = Bytes::default();
    for (mut running, most) in [(conntrack, HANDSHAKES), (ebpf, HANDSHAKES), (sockets, payload)] {
        expect_at_most(&mut running, "srv-parent", most);
        running.stop();
    }
}

#[test]
fn forking_server() {
    children("tcp-server mode=forking port=9000");
}

#[test]
fn preforked_server() {
    children("tcp-server mode=preforked workers=3 port=9000");
}
