//! The harness by itself: without the program, what nft counts is what the workloads say they moved,
//! and the headers.

use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4, PEER6, WATCHED4};
use testbed::requirements::{skip_or_fail, udplite_is_missing};
use testbed::truth::{Count, Truth};
use testbed::wait::eventually;

const DATAGRAMS: u64 = 30;

/// Each datagram costs its payload and two headers, nothing else.
fn datagrams(proto: &str, host: &str, headers: u64, kind: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", proto, 9000)]);
    let lite = if proto == "udplite" { " lite" } else { "" };
    let role = format!("udp-server host=:: dual port=9000 reply=900{lite}");
    let _server = Endpoint::start(&net, &net.peer, "server", &role);
    let role = format!(
        "udp-client host={host} port=9000 count={DATAGRAMS} size=1200 reply=900{kind}{lite}"
    );
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    assert_eq!(client.go(), Bytes::new(900 * DATAGRAMS, 1200 * DATAGRAMS));
    let expected = Bytes::new((900 + headers) * DATAGRAMS, (1200 + headers) * DATAGRAMS);
    assert_eq!(truth.settled()["client"], expected);
}

#[test]
fn datagrams_on_ipv4_are_counted_exactly() {
    datagrams("udp", PEER4, 20 + 8, "");
    datagrams("udp", PEER4, 20 + 8, " connected");
}

#[test]
fn datagrams_on_ipv6_are_counted_exactly() {
    datagrams("udp", PEER6, 40 + 8, "");
    datagrams("udp", PEER6, 40 + 8, " connected");
}

#[test]
fn udplite_datagrams_are_counted_exactly() {
    if !udplite_is_missing() {
        datagrams("udplite", PEER4, 20 + 8, " connected");
    }
}

/// Streams cost their payload and headers, on a busy machine something sent again too; every kind of
/// server moves it all.
#[test]
fn every_tcp_workload_moves_its_payload() {
    for (server, client) in [
        ("mode=plain", ""),
        ("mode=plain", " pass=close"),
        ("mode=plain", " pass=keep"),
        ("mode=threaded", ""),
        ("mode=forking", ""),
        ("mode=preforked workers=2", ""),
        ("mode=plain host=:: dual", ""),
    ] {
        let Some(net) = Net::new() else { return };
        let truth = Truth::start(&net.watched, &[Count::server("server", "tcp", 9000)]);
        let role = format!("tcp-server port=9000 {server}");
        let _server = Endpoint::start(&net, &net.watched, "srv-parent", &role);
        let role = format!(
            "tcp-client host={WATCHED4} port=9000 up=2000000 down=1000000 seconds=0.5{client}"
        );
        let mut client = Endpoint::start(&net, &net.peer, "cli-parent", &role);
        let payload = client.go();
        // A header of 24 bytes leads, a byte of the server's ends an exchange.
        assert_eq!(payload, Bytes::new(1_000_001, 2_000_024), "{role} to {server}");
        let truth = truth.settled()["server"].swapped();
        let plausible =
            |truth: u64, payload: u64| truth > payload && truth < payload + payload / 10;
        assert!(
            plausible(truth.received, payload.received) && plausible(truth.sent, payload.sent),
            "{role} to {server}: payload {payload}, nft {truth}"
        );
    }
}

/// An endpoint ends by itself, its children with it, and leaves nothing.
#[test]
fn a_dropped_net_leaves_nothing() {
    let Some(net) = Net::new() else { return };
    let path = net.watched.path();
    let dir = net.dir.clone();
    let server = "tcp-server mode=preforked workers=2 port=9000";
    let server = Endpoint::start(&net, &net.watched, "srv-parent", server);
    let inside = net.watched.pids();
    assert_eq!(inside.len(), 3, "{inside:?}");
    server.quit();
    // Killed children take a moment to be gone.
    eventually("the end of all children", || net.watched.pids().is_empty());
    drop(net);
    assert!(!dir.exists());
    assert!(!path.exists());
}

#[test]
#[should_panic(expected = "no reason at all")]
fn a_skip_is_a_failure_where_all_tests_are_required() {
    skip_or_fail("no reason at all", true);
}

#[test]
fn a_skip_is_none_elsewhere() {
    skip_or_fail("this is the test of the word SKIPPED itself", false);
}
