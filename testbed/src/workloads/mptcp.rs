//! MPTCP: the subflows, which the kernel counts, are sockets that no descriptor names.

use super::clients::{LONG, SHORT, THINKING, count};
use super::{Stage, Workload};
use crate::endpoint::Endpoint;
use crate::netns::{Namespace, PEER4, WATCHED4};
use crate::requirements::mptcp_is_missing;
use crate::truth::Count;
use crate::wait::eventually;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("mptcp_short", "MPTCP client, short connections, 100/s", |stage| {
        short_client(stage, "mptcp", "mptcp");
    })
    .delicate()
    .mptcp(),
    Workload::new("mptcp_short_server", "MPTCP server, short connections, 100/s", |stage| {
        short_server(stage, "mptcp", "mptcp");
    })
    .delicate()
    .closes_first()
    .mptcp(),
    Workload::new("mptcp_long", "MPTCP client, one long connection", |stage| {
        long_client(stage, "mptcp", "mptcp");
    })
    .mptcp(),
    Workload::new("mptcp_long_server", "MPTCP server, one long connection", |stage| {
        long_server(stage, "mptcp", "mptcp");
    })
    .mptcp(),
    Workload::new("mptcp_join", "MPTCP client, a second subflow added later", |stage| {
        join(stage, true, false);
    })
    .mptcp()
    .loses(),
    Workload::new("mptcp_join_server", "MPTCP server, a second subflow added later", |stage| {
        join(stage, false, false);
    })
    .mptcp()
    .loses(),
    Workload::new(
        "mptcp_join_brief",
        "MPTCP client, a second subflow between two refreshes",
        |stage| {
            join(stage, true, true);
        },
    )
    .every("5")
    .closes_first()
    .mptcp()
    .loses(),
    Workload::new(
        "mptcp_join_brief_server",
        "MPTCP server, a second subflow between two refreshes",
        |stage| join(stage, false, true),
    )
    .every("5")
    .mptcp()
    .loses(),
    Workload::new("mptcp_to_plain", "MPTCP client of a TCP server, short connections", |stage| {
        short_client(stage, "mptcp", "plain");
    })
    .delicate()
    .mptcp(),
    Workload::new("mptcp_to_plain_long", "the same, one long connection", |stage| {
        long_client(stage, "mptcp", "plain");
    })
    .mptcp(),
    Workload::new("plain_to_mptcp", "MPTCP server of TCP clients, short connections", |stage| {
        short_server(stage, "plain", "mptcp");
    })
    .delicate()
    .closes_first()
    .unless(mptcp_is_missing),
    Workload::new("plain_to_mptcp_long", "the same, one long connection", |stage| {
        long_server(stage, "plain", "mptcp");
    })
    .unless(mptcp_is_missing),
];

fn short_client(stage: &mut Stage<'_>, client: &str, server: &str) {
    count(stage, "tcp");
    stage.serve_at_peer(&format!("mode=thread {SHORT}{THINKING} {server}"));
    stage.begin();
    let options = format!("count={} rate=100 {SHORT} {client}", stage.sized(500, 150));
    let mut client = stage.short_client("client", "churn", &options);
    client.go();
    stage.keep(client);
}

fn short_server(stage: &mut Stage<'_>, client: &str, server: &str) {
    let net = stage.net;
    stage.count(&[Count::server("server", "tcp", 9000)]);
    stage.owns("server", ["server"]);
    let role = format!("server port=9000 mode=thread {SHORT} {server}");
    stage.keep(Endpoint::start_short(net, &net.watched, "server", &role));
    stage.begin();
    let number = stage.sized(500, 150);
    let role = format!("churn host={WATCHED4} port=9000 count={number} rate=100 {SHORT} {client}");
    let mut client = Endpoint::start_short(net, &net.peer, "near", &role);
    client.go();
    stage.keep(client);
}

fn long_client(stage: &mut Stage<'_>, client: &str, server: &str) {
    let net = stage.net;
    count(stage, "tcp");
    let role = format!("tcp-server port=9000 {server}");
    stage.keep(Endpoint::start(net, &net.peer, "far", &role));
    stage.begin();
    let role = format!("tcp-client host={PEER4} port=9000 {LONG} {client}");
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    client.go();
    stage.keep(client);
}

fn long_server(stage: &mut Stage<'_>, client: &str, server: &str) {
    let net = stage.net;
    stage.count(&[Count::server("server", "tcp", 9000)]);
    stage.owns("server", ["server"]);
    let role = format!("tcp-server port=9000 {server}");
    stage.keep(Endpoint::start(net, &net.watched, "server", &role));
    stage.begin();
    let role = format!("tcp-client host={WATCHED4} port=9000 {LONG} {client}");
    let mut client = Endpoint::start(net, &net.peer, "near", &role);
    client.go();
    stage.keep(client);
}

/// Bytes, each way, that make a subflow count; how many exchanges may be made for them.
const ENOUGH: u64 = 1_000_000;
const ATTEMPTS: usize = 8;

/// Second addresses of the watched namespace and of its peer.
const ADDRESSES: [&str; 2] = ["10.77.2.1", "10.77.2.2"];

/// The client gets a second address while its connection lives, and its kernel makes a subflow from there.
/// A `brief` client closes as soon as it has sent.
fn join(stage: &mut Stage<'_>, client_is_watched: bool, brief: bool) {
    let net = stage.net;
    net.watched.address("peer", &format!("{}/24", ADDRESSES[0]));
    net.peer.address("watched", &format!("{}/24", ADDRESSES[1]));
    // Subflows share their connection's window: connection tracking takes segments that are in it for such as are out
    // of their subflow's window, and does not count them.
    net.watched.set_sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", 1);
    for namespace in [&net.watched, &net.peer] {
        namespace.run("ip mptcp limits set subflows 2 add_addr_accepted 2");
    }
    let (name, ends, added, device, host) = if client_is_watched {
        ("client", [("daddr", "sport"), ("saddr", "dport")], ADDRESSES[0], "peer", PEER4)
    } else {
        ("server", [("saddr", "dport"), ("daddr", "sport")], ADDRESSES[1], "watched", WATCHED4)
    };
    let counts = [("first", "!="), ("second", "==")].map(|(name, comparison)| {
        let [received, sent] =
            ends.map(|(end, port)| format!("tcp {port} 9000 ip {end} {comparison} {added}"));
        Count::matching(name, &received, &sent)
    });
    stage.count(&counts);
    stage.owns(name, ["first", "second"]);
    let start = |name, role: &str| {
        let namespace = if name == "near" || name == "far" { &net.peer } else { &net.watched };
        Endpoint::start(net, namespace, name, role)
    };
    let names = if client_is_watched { ["client", "far"] } else { ["near", "server"] };
    stage.keep(start(names[1], "tcp-server port=9000 mptcp"));
    stage.begin();
    let bytes = "up=10000 down=10000 more=20000000 less=20000000";
    let role = format!("tcp-client host={host} port=9000 {bytes} mptcp");
    let mut client = start(names[0], &role);
    client.go();
    let near = if client_is_watched { &net.watched } else { &net.peer };
    near.run(&format!("ip mptcp endpoint add {added} dev {device} subflow"));
    await_subflow(near, added);
    // The kernel's scheduler decides how much goes this way.
    for _ in 0..ATTEMPTS {
        client.go();
        let carried = stage.counted("second");
        if carried.received.min(carried.sent) > ENOUGH {
            break;
        }
    }
    if brief {
        client.close();
    }
    let carried = stage.counted("second");
    assert!(carried.received.min(carried.sent) > ENOUGH, "the second subflow carried {carried}");
    stage.keep(client);
}

fn await_subflow(near: &Namespace, from: &str) {
    eventually("a second subflow", || {
        near.run("ss -Htn state established dport = :9000").contains(from)
    });
}
