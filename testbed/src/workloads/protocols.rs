//! Other protocols than TCP and UDP, and datagrams to more than one host.

use super::clients::{client, count, server};
use super::{Stage, Workload};
use crate::endpoint::Endpoint;
use crate::netns::{Net, PEER_MAC, PEER4, PEER6, WATCHED4};
use crate::requirements::{egress_hook_is_missing, udplite_is_missing};
use crate::truth::Count;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("ping", "ping flood, ping socket", |stage| ping(stage, PEER4, " dgram")),
    Workload::new("ping6", "the same, IPv6", |stage| ping(stage, PEER6, " dgram")).ipv6(),
    Workload::new("ping_raw", "ping flood, raw socket", |stage| ping(stage, PEER4, "")),
    Workload::new("ping_raw6", "the same, IPv6", |stage| ping(stage, PEER6, "")).ipv6(),
    Workload::new("raw", "raw socket of protocol 253", raw),
    Workload::new("udplite", "UDP-Lite", udplite).unless(udplite_is_missing),
    Workload::new("multicast", "multicast, answered", |stage| {
        group(stage, "224.0.0.1", false);
    }),
    Workload::new("multicast6", "the same, IPv6", |stage| group(stage, "ff02::1%peer", false))
        .ipv6(),
    Workload::new("broadcast", "broadcast, answered", |stage| group(stage, "10.77.0.255", false)),
    Workload::new("multicast_heard", "multicast, heard on the same host", |stage| {
        group(stage, "224.0.0.1", true);
    }),
    Workload::new("multicast6_heard", "the same, IPv6", |stage| group(stage, "ff02::1%peer", true))
        .ipv6(),
    Workload::new("broadcast_heard", "broadcast, heard on the same host", |stage| {
        group(stage, "10.77.0.255", true);
    }),
    Workload::new("multicast_server", "server of a multicast group", multicast_server),
    Workload::new("packets", "packet socket", packets).unless(egress_hook_is_missing),
    Workload::new("packets_brief", "packet sockets of processes that live 300 ms", packets_brief)
        .delicate()
        .unless(egress_hook_is_missing),
];

const DATAGRAMS: &str = "count=400 size=1200 reply=400 seconds=4";

/// As many as it can, one after the other.
fn ping(stage: &mut Stage<'_>, host: &str, how: &str) {
    let protocol = if host == PEER6 { "icmpv6" } else { "icmp" };
    let [received, sent] = ["reply", "request"].map(|end| format!("{protocol} type echo-{end}"));
    stage.count(&[Count::matching("client", &received, &sent)]);
    stage.owns("client", ["client"]);
    stage.net.watched.run("sysctl -q -w net.ipv4.ping_group_range=0\t0");
    stage.begin();
    let number = stage.sized(20_000, 5000);
    let mut client = client(stage.net, &format!("ping host={host} size=500 count={number}{how}"));
    client.go();
    stage.keep(client);
}

fn raw(stage: &mut Stage<'_>) {
    let of_it = "meta l4proto 253";
    stage.count(&[Count::matching("client", of_it, of_it)]);
    stage.owns("client", ["client"]);
    server(stage, "udp-server raw=253 reply=400");
    stage.begin();
    let role = format!("udp-client host={PEER4} port=9000 raw=253 {DATAGRAMS}");
    let mut client = client(stage.net, &role);
    client.go();
    stage.keep(client);
}

fn udplite(stage: &mut Stage<'_>) {
    count(stage, "udplite");
    // Conntrack holds what veth delivers of it for wrongly summed, and would not count it.
    stage.net.watched.set_sysctl("net.netfilter.nf_conntrack_checksum", 0);
    server(stage, "udp-server reply=400 lite");
    stage.begin();
    let role = format!("udp-client host={PEER4} port=9000 lite {DATAGRAMS}");
    let mut client = client(stage.net, &role);
    client.go();
    stage.keep(client);
}

/// To all hosts of the link, of which the sender is one, so that the kernel loops a copy back. No host
/// has to say that it is a member of these groups, which would be traffic, too.
fn group(stage: &mut Stage<'_>, to: &str, heard: bool) {
    let net = stage.net;
    // An IPv6 socket that speaks IPv4 hears no group of IPv4.
    let any = if to.contains(':') { "::" } else { "0.0.0.0" };
    if heard {
        stage.count(&[
            Count::client("client", "udp", 9000),
            // It answers nothing.
            Count::matching("listener", "udp dport 9000", "udp sport 9000"),
        ]);
        stage.owns("client", ["client"]);
        stage.owns("listener", ["listener"]);
        let role = format!("udp-server host={any} port=9000");
        stage.keep(Endpoint::start(net, &net.watched, "listener", &role));
    } else {
        count(stage, "udp");
    }
    net.watched.run("ip route add 224.0.0.0/4 dev peer");
    server(stage, &format!("udp-server host={any} reply=400"));
    stage.begin();
    let mut client = client(net, &format!("udp-client host={to} port=9000 {DATAGRAMS}"));
    client.go();
    stage.keep(client);
}

fn multicast_server(stage: &mut Stage<'_>) {
    let net = stage.net;
    stage.count(&[Count::server("server", "udp", 9000)]);
    stage.owns("server", ["server"]);
    net.peer.run("ip route add 224.0.0.0/4 dev watched");
    stage.keep(Endpoint::start(net, &net.watched, "server", "udp-server port=9000 reply=400"));
    stage.begin();
    let role = format!("udp-client host=224.0.0.1 port=9000 {DATAGRAMS}");
    let mut client = Endpoint::start(net, &net.peer, "near", &role);
    client.go();
    stage.keep(client);
}

/// UDP that no socket of IP sends; nft counts the frames.
fn count_frames(stage: &mut Stage<'_>) {
    stage.count(&[Count::frames("client", "udp dport 9000")]);
    stage.owns("client", ["client"]);
    server(stage, "udp-server");
    stage.begin();
}

fn packets_client(net: &Net, options: &str) -> Endpoint {
    let ends = format!("device=peer mac={PEER_MAC} from={WATCHED4} to={PEER4}");
    client(net, &format!("packets port=9000 {ends} size=1200 {options}"))
}

fn packets(stage: &mut Stage<'_>) {
    count_frames(stage);
    let mut client = packets_client(stage.net, "count=400 seconds=4");
    client.go();
    stage.keep(client);
}

/// One after the other: some are there and gone between two refreshes.
fn packets_brief(stage: &mut Stage<'_>) {
    count_frames(stage);
    for _ in 0..stage.sized(12, 5) {
        let mut client = packets_client(stage.net, "count=100 seconds=0.2 ends");
        client.go();
        client.quit();
    }
}
