//! Both ends here: one entry of conntrack, two views of it.

use testbed::endpoint::{Endpoint, LIVE};
use testbed::netns::{Net, WATCHED4};
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

fn both_ends(host: &str) {
    let Some(net) = Net::new() else { return };
    let counts = [Count::client("client", "tcp", 9000), Count::server("server", "tcp", 9000)];
    let truth = Truth::start(&net.watched, &counts);
    let _server =
        Endpoint::start(&net, &net.watched, "server", "tcp-server host=:: dual port=9000");
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let role = format!("tcp-client host={host} port=9000 {LIVE}");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let payload = client.go();
    let truth = truth.settled();
    conntrack.expect_share("client", truth["client"]);
    conntrack.expect_share("server", truth["server"]);
    sockets.expect_payload("client", payload);
    sockets.expect_payload("server", payload.swapped());
    conntrack.stop();
    sockets.stop();
}

#[test]
fn ipv4_loopback() {
    both_ends("127.0.0.1");
}

#[test]
fn another_ipv4_loopback_address() {
    both_ends("127.3.2.1");
}

#[test]
fn ipv6_loopback() {
    both_ends("::1");
}

#[test]
fn an_address_of_this_host() {
    both_ends(WATCHED4);
}

#[test]
fn udp_on_loopback() {
    let Some(net) = Net::new() else { return };
    let counts = [Count::client("client", "udp", 9000), Count::server("server", "udp", 9000)];
    let truth = Truth::start(&net.watched, &counts);
    let _server = Endpoint::start(&net, &net.watched, "server", "udp-server port=9000 reply=900");
    let role = "udp-client host=127.0.0.1 port=9000 count=50 size=500 reply=900";
    let mut client = Endpoint::start(&net, &net.watched, "client", role);
    client.go();
    let truth = truth.settled();
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    running.expect_share("client", truth["client"]);
    running.expect_share("server", truth["server"]);
    running.stop();
}
