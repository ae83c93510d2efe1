//! One TCP client or server, both address families, both sources.

use testbed::endpoint::{Endpoint, LIVE};
use testbed::netns::{Namespace, Net, PEER4, PEER6, WATCHED4, WATCHED6};
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// A client in the watched namespace talks to this host.
fn client(host: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server host=:: dual port=9000");
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let role = format!("tcp-client host={host} port=9000 {LIVE}");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let payload = client.go();
    let truth = truth.settled();
    conntrack.expect_share("client", truth["client"]);
    sockets.expect_payload("client", payload);
    conntrack.stop();
    sockets.stop();
}

/// A server of this role in the watched namespace, asked at this host by the peer.
fn server(role: &str, host: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::server("server", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.watched, "server", role);
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let role = format!("tcp-client host={host} port=9000 {LIVE}");
    let mut client = Endpoint::start(&net, &net.peer, "client", &role);
    let payload = client.go().swapped();
    let truth = truth.settled();
    conntrack.expect_share("server", truth["server"]);
    sockets.expect_payload("server", payload);
    conntrack.stop();
    sockets.stop();
}

#[test]
fn client_on_ipv4() {
    client(PEER4);
}

#[test]
fn client_on_ipv6() {
    client(PEER6);
}

#[test]
fn client_with_an_ipv6_socket_on_ipv4() {
    client(&format!("::ffff:{PEER4}"));
}

#[test]
fn server_on_ipv4() {
    server("tcp-server port=9000", WATCHED4);
}

#[test]
fn server_on_ipv6() {
    server("tcp-server host=:: port=9000", WATCHED6);
}

#[test]
fn server_with_an_ipv6_socket_on_ipv4() {
    server("tcp-server host=:: dual port=9000", WATCHED4);
}

#[test]
fn two_processes_with_one_command_line_share_a_line() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("twin", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let role = format!("tcp-client host={PEER4} port=9000 up=200000 down=100000 seconds=1");
    let mut twins = [(); 2].map(|()| Endpoint::start(&net, &net.watched, "twin", &role));
    twins.iter_mut().for_each(Endpoint::begin);
    let [first, second] = twins.each_mut().map(Endpoint::done);
    let truth = truth.settled();
    conntrack.expect_share("twin", truth["twin"]);
    sockets.expect_payload("twin", first + second);
    conntrack.stop();
    sockets.stop();
}

/// A socket that was made by one process and is used by another, which got it over a unix socket.
fn passed(keep: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("all", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 pass={keep} up=200000 down=100000");
    let mut pair = Endpoint::start(&net, &net.watched, "pass-parent", &role);
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let payload = pair.go();
    let truth = truth.settled();
    conntrack.expect_share("pass-child0", truth["all"]);
    sockets.expect_payload("pass-child0", payload);
    for mut running in [conntrack, sockets] {
        let parent = running.settled().workload("pass-parent");
        running.expect("the process that made the socket", parent, Default::default());
        running.stop();
    }
}

#[test]
fn a_passed_socket_whose_sender_closed_it_belongs_to_the_receiver() {
    passed("close");
}

#[test]
fn a_passed_socket_that_both_hold_belongs_to_the_younger_process() {
    passed("keep");
}

#[test]
fn a_command_line_is_cut_at_60_characters() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.watched, "server", "tcp-server port=9000");
    let role = "tcp-client host=127.0.0.1 port=9000 up=5000";
    let mut client = Endpoint::start(&net, &net.watched, "client", role);
    client.go();
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    let refresh = running.settled();
    // The server has received more, so its line is the last.
    let commands: Vec<&str> = refresh.lines.iter().map(|line| line.command.as_str()).collect();
    let expected = [
        "/usr/bin/python3 workload.py client tcp-client host=127.0...",
        // Short enough to stand whole; the space was the last argument's end.
        "/usr/bin/python3 workload.py server tcp-server port=9000 ",
    ];
    running.expect("commands", commands.join("|"), expected.join("|"));
    running.stop();
}

/// What a refresh says of a namespace is of that namespace.
#[test]
fn the_peer_has_no_line() {
    let Some(net) = Net::new() else { return };
    let on = |namespace: &Namespace, name: &str, role: &str| {
        Endpoint::start(&net, namespace, name, role)
    };
    let _server = on(&net.peer, "server", "tcp-server port=9000");
    let mut client =
        on(&net.watched, "client", &format!("tcp-client host={PEER4} port=9000 up=5000"));
    client.go();
    for source in ["conntrack", "sockets"] {
        let mut running = RUNMONITOR.watch(&net, source, &[]);
        let refresh = running.settled();
        running.expect("lines", refresh.lines.len(), 1);
        running.expect("the client has one", refresh.workload("client") > Default::default(), true);
        running.stop();
    }
}
