//! Flows whose two tuples differ, and flows that only pass through.

use testbed::bytes::Bytes;
use testbed::endpoint::{Endpoint, LIVE};
use testbed::netns::{FAR4, Net, PEER4, WATCHED4};
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// A server that the peer reaches at another port than its own.
fn translated_server(rule: &str) {
    let Some(net) = Net::new() else { return };
    net.watched.nft(&format!(
        "table ip nat {{\n chain prerouting {{\n  type nat hook prerouting priority -100\n  \
         {rule}\n }}\n}}\n"
    ));
    let truth = Truth::start(&net.watched, &[Count::server("server", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.watched, "server", "tcp-server port=9000");
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &["--unattributed"]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &["--unattributed"]);
    let role = format!("tcp-client host={WATCHED4} port=80 {LIVE}");
    let mut client = Endpoint::start(&net, &net.peer, "client", &role);
    let payload = client.go().swapped();
    let truth = truth.settled();
    conntrack.expect_share("server", truth["server"]);
    sockets.expect_payload("server", payload);
    for mut running in [conntrack, sockets] {
        let refresh = running.settled();
        running.expect("lines", refresh.lines.len(), 1);
        running.stop();
    }
}

#[test]
fn redirected_server() {
    translated_server("tcp dport 80 redirect to :9000");
}

#[test]
fn server_behind_dnat_on_this_host() {
    translated_server(&format!("tcp dport 80 dnat to {WATCHED4}:9000"));
}

#[test]
fn client_whose_destination_is_translated() {
    let Some(net) = Net::new() else { return };
    net.watched.nft(&format!(
        "table ip nat {{\n chain output {{\n  type nat hook output priority -100\n  \
         ip daddr 10.77.0.99 tcp dport 80 dnat to {PEER4}:9000\n }}\n}}\n"
    ));
    // Where nft counts, the output has been translated and the input not been translated back.
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &["--unattributed"]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &["--unattributed"]);
    let role = format!("tcp-client host=10.77.0.99 port=80 {LIVE}");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let payload = client.go();
    let truth = truth.settled();
    conntrack.expect_share("client", truth["client"]);
    sockets.expect_payload("client", payload);
    for mut running in [conntrack, sockets] {
        let refresh = running.settled();
        running.expect("lines", refresh.lines.len(), 1);
        running.stop();
    }
}

/// The peer asks the far side through the watched router, at this host.
fn forwarded(rules: &str, host: &str) {
    let Some(net) = Net::routed() else { return };
    if !rules.is_empty() {
        net.watched.nft(rules);
    }
    let truth = Truth::start(&net.watched, &[Count::forwarded("flow", "tcp", 9000)]);
    let far = net.far.as_ref().unwrap();
    let _server = Endpoint::start(&net, far, "server", "tcp-server port=9000");
    // What passes through has no socket: eBPF's source has it from connection tracking.
    let running =
        ["conntrack", "ebpf"].map(|source| RUNMONITOR.watch(&net, source, &["--unattributed"]));
    let role = format!("tcp-client host={host} port=9000 up=900000 down=500000 seconds=1");
    let mut client = Endpoint::start(&net, &net.peer, "client", &role);
    client.go();
    let truth = truth.settled()["flow"];
    for mut running in running {
        let refresh = running.settled();
        running.expect("(forwarded)", refresh.reason("(forwarded)"), truth);
        running.expect("lines", refresh.lines.len(), 1);
        running.stop();
    }

    let plain = RUNMONITOR.once(&net.watched, &["--source", "conntrack"]);
    assert_eq!(plain.total(), 0, "without --unattributed: {:?}", plain.lines);
    assert!(truth > Bytes::new(500_000, 900_000), "the truth counted nothing: {truth}");
}

#[test]
fn a_forwarded_flow_has_one_line() {
    forwarded("", FAR4);
}

#[test]
fn a_forwarded_flow_behind_masquerading_has_one_line() {
    forwarded(
        "table ip nat {\n chain postrouting {\n  type nat hook postrouting priority 100\n  \
         oifname \"far\" masquerade\n }\n}\n",
        FAR4,
    );
}

#[test]
fn a_flow_to_this_host_that_is_forwarded_elsewhere_has_one_line() {
    let rules = format!(
        "table ip nat {{\n chain prerouting {{\n  type nat hook prerouting priority -100\n  \
         tcp dport 9000 dnat to {FAR4}\n }}\n}}\n"
    );
    forwarded(&rules, WATCHED4);
}
