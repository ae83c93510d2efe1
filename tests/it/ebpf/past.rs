//! The past is read while the programs count already: nothing may be counted by both.

use std::time::{Duration, Instant};

use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4, Setup, WATCHED4};
use testbed::running::Running;
use testbed::truth::{Count, Truth};
use testbed::wait::DEADLINE;

use crate::RUNMONITOR;

/// More than it can send until it is killed.
const ENDLESS: &str = "up=500000000000";

/// Waits until all lines together fit the truth.
fn expect_total(running: &mut Running, truth: u64, fits: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let got = running.settled().total();
        if fits(got) {
            return;
        }
        // What is too much stays so.
        if got > truth || Instant::now() > deadline {
            running.expect("all lines", got, truth);
        }
    }
}

/// Starts the program beside `client`, which sends as fast as it can, and compares when it has ended.
fn beside(net: &Net, mut client: Endpoint, truth: &Truth<'_>, views: u64) {
    client.begin();
    std::thread::sleep(Duration::from_millis(500));
    let mut running = RUNMONITOR.watch(net, "ebpf", &["--unattributed"]);
    running.refreshes(2);
    drop(client);
    let truth = truth.settled()["client"].total() * views;
    expect_total(&mut running, truth, |got| got.abs_diff(truth) * 1000 <= truth);
    running.stop();
}

#[test]
fn a_transfer_that_goes_on_while_the_past_is_read_is_counted_once() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 {ENDLESS}");
    beside(&net, Endpoint::start(&net, &net.watched, "client", &role), &truth, 1);
}

#[test]
fn a_transfer_to_an_accepted_connection_of_before_is_counted_once() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::server("client", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.watched, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={WATCHED4} port=9000 {ENDLESS}");
    beside(&net, Endpoint::start(&net, &net.peer, "client", &role), &truth, 1);
}

/// Both ends have a socket here.
#[test]
fn a_transfer_on_loopback_is_counted_once_at_either_end() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000).looped()]);
    let _server = Endpoint::start(&net, &net.watched, "server", "tcp-server port=9000");
    let role = format!("tcp-client host=127.0.0.1 port=9000 {ENDLESS}");
    beside(&net, Endpoint::start(&net, &net.watched, "client", &role), &truth, 2);
}

/// The server's only socket has several flows.
#[test]
fn datagrams_that_come_while_the_past_is_read_are_counted_once() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "udp", 9000).looped()]);
    let _server = Endpoint::start(&net, &net.watched, "server", "udp-server port=9000");
    let role = "udp-client host=127.0.0.1 port=9000 sockets=4 count=1000000000 size=8000";
    beside(&net, Endpoint::start(&net, &net.watched, "client", role), &truth, 2);
}

/// What `tcp_info` says of the past is payload, so the sum is between that and the IP bytes. Of what is sent again,
/// which is more than a thousandth on a busy machine, nothing is missing.
#[test]
fn what_the_sockets_tell_of_a_transfer_is_not_counted_again() {
    let setup = Setup { tracking: false, accounting: false, routed: false, alone: false };
    let Some(net) = Net::with(setup) else { return };
    // A fiftieth of the packets is lost, and sent again.
    net.peer.nft(
        "table inet lossy {
           chain in { type filter hook input priority -300; tcp dport 9000 numgen inc mod 50 49 drop; }
         }",
    );
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 {ENDLESS}");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    client.begin();
    std::thread::sleep(Duration::from_millis(500));
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--unattributed"]);
    running.refreshes(2);
    // With the socket goes what it tells, and on a busy machine that is not read yet.
    client.pause();
    let (bytes, packets) = (truth.settled()["client"], truth.packets()["client"]);
    // An IPv4 header, and a TCP header with timestamps.
    let headers = Bytes::new(packets.received * 52, packets.sent * 52).total();
    let (most, least) = (bytes.total(), bytes.total() - headers);
    // A thousandth more is what is not acknowledged yet, or out of order.
    let about = |got: u64| got <= most + most / 1000 && got >= least - least / 1000;
    expect_total(&mut running, most + most / 1000, about);
    running.stop();
}
