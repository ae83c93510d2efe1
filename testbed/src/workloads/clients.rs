//! Clients in the watched namespace, and how their connections end.

use std::thread::sleep;
use std::time::Duration;

use super::{Stage, Workload};
use crate::endpoint::Endpoint;
use crate::netns::{Net, PEER4, PEER6};
use crate::truth::Count;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("tcp", "TCP, one long connection", |stage| tcp(stage, PEER4)),
    Workload::new("tcp6", "the same, IPv6", |stage| tcp(stage, PEER6)).ipv6(),
    Workload::new("udp_connected", "UDP, connected", |stage| udp(stage, " connected")),
    Workload::new("udp_unconnected", "UDP, unconnected", |stage| udp(stage, "")),
    // A packet that meets the flush is counted for an entry whose end was announced a moment before,
    // or makes an entry that another one's, on the other processor, keeps from being confirmed: then
    // the kernel drops it, and it is sent again.
    Workload::new("flush", "the table flushed during a long connection", flush).loses(),
    Workload::new("churn", "short connections of one process, 400/s", |stage| {
        churn(stage, THINKING)
    })
    .delicate(),
    Workload::new("churn_quick", "the same, answered at once", |stage| churn(stage, "")).delicate(),
    Workload::new("resets", "short connections that end by reset", resets).delicate(),
    Workload::new("burst", "a burst of 200 connections", burst).delicate(),
    Workload::new("rush", "5,000 connections as fast as one process can", rush).delicate(),
    Workload::new("reuse_reset", "one tuple again and again, reset", reuse_reset).delicate(),
    Workload::new("reuse_close", "one tuple again and again, closed", reuse_close).delicate(),
    Workload::new("processes_5ms", "processes that live 5 ms, 100/s", |stage| {
        processes(stage, 5000, 0)
    })
    .delicate(),
    Workload::new("processes_1ms", "processes that live 1 to 2 ms, 100/s", |stage| {
        processes(stage, 1000, 0);
    })
    .delicate(),
    Workload::new("processes_1ms_busy", "the same, both cores busy", |stage| {
        processes(stage, 1000, 2)
    })
    .delicate(),
];

/// An exchange that takes as long as a person looks.
pub(super) const LONG: &str = "up=3000000 down=2000000 seconds=4";

/// Counts a client of the peer's port 9000, whose name is `client`.
pub(super) fn count(stage: &mut Stage<'_>, protocol: &str) {
    stage.count(&[Count::client("client", protocol, 9000)]);
    stage.owns("client", ["client"]);
}

pub(super) fn server(stage: &mut Stage<'_>, role: &str) {
    let net = stage.net;
    stage.keep(Endpoint::start(net, &net.peer, "far", &format!("{role} port=9000")));
}

pub(super) fn client(net: &Net, role: &str) -> Endpoint {
    Endpoint::start(net, &net.watched, "client", role)
}

fn tcp(stage: &mut Stage<'_>, host: &str) {
    count(stage, "tcp");
    server(stage, "tcp-server host=:: dual");
    stage.begin();
    let mut client = client(stage.net, &format!("tcp-client host={host} port=9000 {LONG}"));
    client.go();
    stage.keep(client);
}

fn udp(stage: &mut Stage<'_>, how: &str) {
    count(stage, "udp");
    server(stage, "udp-server reply=400");
    stage.begin();
    let options = "count=400 size=1200 reply=400 seconds=4";
    let mut client =
        client(stage.net, &format!("udp-client host={PEER4} port=9000 {options}{how}"));
    client.go();
    stage.keep(client);
}

/// The connection goes on: its next packet makes a new entry.
fn flush(stage: &mut Stage<'_>) {
    count(stage, "tcp");
    server(stage, "tcp-server");
    stage.begin();
    let mut client = client(stage.net, &format!("tcp-client host={PEER4} port=9000 {LONG}"));
    client.begin();
    // Not at a whole second, where a refresh may be.
    sleep(Duration::from_millis(2300));
    stage.net.watched.run("conntrack -F");
    client.done();
    stage.keep(client);
}

/// A request and its answer.
pub(super) const SHORT: &str = "request=500 reply=8000";
/// A server that takes half a millisecond: without, a connection lives for 150 microseconds.
pub(super) const THINKING: &str = " think=500";

fn churn(stage: &mut Stage<'_>, server: &str) {
    count(stage, "tcp");
    stage.serve_at_peer(&format!("mode=thread {SHORT}{server}"));
    stage.begin();
    let connections = stage.sized(3000, 1200);
    let mut client =
        stage.short_client("client", "churn", &format!("count={connections} rate=400 {SHORT}"));
    client.go();
    stage.keep(client);
}

fn resets(stage: &mut Stage<'_>) {
    count(stage, "tcp");
    server(stage, "tcp-server mode=threaded");
    stage.begin();
    let connections = stage.sized(300, 300);
    let options = format!("reset count={connections} up=500 down=8000");
    let mut client = client(stage.net, &format!("tcp-churn host={PEER4} port=9000 {options}"));
    client.go();
    stage.keep(client);
}

fn burst(stage: &mut Stage<'_>) {
    count(stage, "tcp");
    stage.serve_at_peer(&format!("mode=thread {SHORT}"));
    stage.begin();
    let mut client = stage.short_client("client", "churn", &format!("count=200 parallel {SHORT}"));
    client.go();
    stage.keep(client);
}

fn rush(stage: &mut Stage<'_>) {
    count(stage, "tcp");
    stage.serve_at_peer(&format!("mode=loop {SHORT}"));
    stage.begin();
    let options = format!("count={} {SHORT}", stage.sized(5000, 1000));
    let mut client = stage.short_client("client", "churn", &options);
    client.go();
    stage.keep(client);
}

fn reuse_reset(stage: &mut Stage<'_>) {
    count(stage, "tcp");
    server(stage, "tcp-server mode=threaded");
    stage.begin();
    let connections = stage.sized(200, 200);
    let options = format!("local=40000 reset count={connections} up=500 down=8000");
    let mut client = client(stage.net, &format!("tcp-churn host={PEER4} port=9000 {options}"));
    client.go();
    stage.keep(client);
}

/// The server closes first and has the TIME_WAIT, out of which the next connection takes it.
fn reuse_close(stage: &mut Stage<'_>) {
    count(stage, "tcp");
    stage.serve_at_peer(&format!("mode=loop {SHORT}{THINKING}"));
    stage.begin();
    let connections = stage.sized(200, 200);
    let options = format!("local=40000 count={connections} rate=100 {SHORT}");
    let mut client = stage.short_client("client", "churn", &options);
    client.go();
    stage.keep(client);
}

/// `live` is in microseconds; so many other processes take all the time they can get.
fn processes(stage: &mut Stage<'_>, live: u32, hogs: usize) {
    stage.count(&[Count::client("kid", "tcp", 9000)]);
    stage.owns("kid", ["kid"]);
    stage.serve_at_peer(&format!("mode=loop {SHORT}"));
    let net = stage.net;
    for _ in 0..hogs {
        stage.keep(Endpoint::start_short(net, &net.peer, "hog", "hog"));
    }
    stage.begin();
    let number = stage.sized(800, 300);
    let options = format!("count={number} rate=100 live={live} child=kid {SHORT}");
    let mut spawner = stage.short_client("spawner", "spawn", &options);
    spawner.begin();
    let lived = spawner.wait_for("LIVED");
    spawner.done();
    let lived: Vec<f64> = lived.split(' ').skip(1).map(|us| us.parse().unwrap()).collect();
    stage.note = Some(format!(
        "they lived {:.1} ms in the median, {:.1} to {:.1}",
        lived[0] / 1e3,
        lived[1] / 1e3,
        lived[2] / 1e3
    ));
    stage.keep(spawner);
}
