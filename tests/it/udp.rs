//! UDP and UDP-Lite: sockets that may know their peer, or only a port.

use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4, PEER6, WATCHED4, WATCHED6};
use testbed::requirements::udplite_is_missing;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// 100 datagrams and their replies over three and a half seconds.
const EXCHANGE: &str = "count=100 size=1200 reply=900 seconds=3.5";

/// Client and server of these kinds, first the one and then the other in the watched namespace.
fn client(proto: &str, host: &str, kind: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", proto, 9000)]);
    let lite = lite(&net, proto);
    let role = format!("udp-server host=:: dual port=9000 reply=900 {lite}");
    let _server = Endpoint::start(&net, &net.peer, "server", role.trim());
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    let role = format!("udp-client host={host} port=9000 {EXCHANGE} {kind} {lite}");
    let mut client = Endpoint::start(&net, &net.watched, "client", role.trim());
    client.go();
    running.expect_share("client", truth.settled()["client"]);
    running.stop();
}

fn server(proto: &str, host: &str, kind: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::server("server", proto, 9000)]);
    let lite = lite(&net, proto);
    let role = format!("udp-server port=9000 reply=900 {kind} {lite}");
    let _server = Endpoint::start(&net, &net.watched, "server", role.trim());
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    let role = format!("udp-client host={host} port=9000 {EXCHANGE} connected {lite}");
    let mut client = Endpoint::start(&net, &net.peer, "client", role.trim());
    client.go();
    running.expect_share("server", truth.settled()["server"]);
    running.stop();
}

/// The workload's option for UDP-Lite. Conntrack holds what veth delivers of it for wrongly summed
/// (the kernel's own receiver does not) and would not count it.
fn lite(net: &Net, proto: &str) -> &'static str {
    if proto != "udplite" {
        return "";
    }
    net.watched.set_sysctl("net.netfilter.nf_conntrack_checksum", 0);
    "lite"
}

#[test]
fn connected_client_on_ipv4() {
    client("udp", PEER4, "connected");
}

#[test]
fn connected_client_on_ipv6() {
    client("udp", PEER6, "connected");
}

#[test]
fn unconnected_client_on_ipv4() {
    client("udp", PEER4, "");
}

#[test]
fn unconnected_client_on_ipv6() {
    client("udp", PEER6, "");
}

#[test]
fn unconnected_server_on_ipv4() {
    server("udp", WATCHED4, "");
}

#[test]
fn server_bound_to_an_address() {
    server("udp", WATCHED4, &format!("host={WATCHED4}"));
}

#[test]
fn unconnected_server_on_ipv6() {
    server("udp", WATCHED6, "host=::");
}

#[test]
fn server_with_an_ipv6_socket_on_ipv4() {
    server("udp", WATCHED4, "host=:: dual");
}

#[test]
fn server_that_connects_to_its_client() {
    server("udp", WATCHED4, "connect");
}

#[test]
fn udplite_client() {
    if !udplite_is_missing() {
        client("udplite", PEER4, "connected");
    }
}

#[test]
fn udplite_server() {
    if !udplite_is_missing() {
        server("udplite", WATCHED6, "host=::");
    }
}

/// Several sockets on one port: the kernel spreads the senders over them, and tells which one gets
/// what.
fn reuseport(names: &[&str], sockets: u32) -> Option<(Net, Bytes, Vec<Endpoint>)> {
    let net = Net::new()?;
    let truth = Truth::start(&net.watched, &[Count::server("port", "udp", 9000)]);
    let role = format!("udp-server port=9000 reply=900 reuseport sockets={sockets}");
    let mut workloads: Vec<_> =
        names.iter().map(|name| Endpoint::start(&net, &net.watched, name, &role)).collect();
    let role =
        format!("udp-client host={WATCHED4} port=9000 count=40 size=700 reply=900 sockets=8");
    let mut client = Endpoint::start(&net, &net.peer, "client", &role);
    client.go();
    workloads.push(client);
    let truth = truth.settled()["port"];
    Some((net, truth, workloads))
}

#[test]
fn a_port_shared_by_sockets_of_one_process_is_that_process() {
    let Some((net, truth, _workloads)) = reuseport(&["server"], 3) else { return };
    let mut running = RUNMONITOR.watch(&net, "conntrack", &["--unattributed"]);
    running.expect_share("server", truth);
    let ambiguous = running.settled().reason("(ambiguous)");
    running.expect("(ambiguous)", ambiguous, Bytes::default());
    running.stop();
}

#[test]
fn a_port_shared_by_two_processes_is_each_ones_own_share() {
    let Some((net, truth, mut workloads)) = reuseport(&["one", "two"], 1) else { return };
    let mut running = RUNMONITOR.watch(&net, "conntrack", &["--unattributed"]);
    let refresh = running.settled();
    let mut sum = Bytes::default();
    for (name, workload) in ["one", "two"].into_iter().zip(&mut workloads) {
        let payload = workload.go();
        // Two headers a datagram.
        let datagrams = payload.received / 700;
        let bytes = Bytes::new(payload.received + 28 * datagrams, payload.sent + 28 * datagrams);
        running.expect(name, refresh.workload(name), bytes);
        sum = sum + bytes;
    }
    running.expect("both", sum, truth);
    running.stop();
}

#[test]
fn the_sockets_source_has_no_udp() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "udp-server port=9000 reply=900");
    let role = format!("udp-client host={PEER4} port=9000 count=5 size=700 reply=900 connected");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    client.go();
    let mut running = RUNMONITOR.watch(&net, "sockets", &["--unattributed"]);
    let refresh = running.settled();
    running.expect("bytes", refresh.total(), 0);
    running.stop();
}
