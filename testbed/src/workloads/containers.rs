//! Processes in a namespace of their own, behind the watched one, which translates their addresses.
//!
//! ```text
//!   container ──────────────────── watched ──────────────────── peer
//!   10.78.N.2/24        10.78.N.1/24   10.77.0.1        10.77.0.2
//! ```

use std::process;

use super::clients::LONG;
use super::{Stage, Workload};
use crate::endpoint::Endpoint;
use crate::netns::{Namespace, Net, PEER4, WATCHED4};
use crate::truth::Count;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("container_client", "client in a container, masqueraded", |stage| {
        client(stage, false);
    })
    .elsewhere(),
    Workload::new("container_tracks", "the same, tracked in the container as well", |stage| {
        client(stage, true);
    })
    .elsewhere(),
    Workload::new("container_server", "server in a container, DNAT", |stage| server(stage, false))
        .elsewhere(),
    Workload::new("container_server_short", "the same, short connections, 100/s", |stage| {
        server(stage, true);
    })
    .elsewhere()
    .closes_first(),
    Workload::new("container_brief", "container that is gone before the next refresh", brief)
        .elsewhere()
        .every("5"),
];

pub(crate) struct Container {
    pub(crate) namespace: Namespace,
    /// What its process is called. No other process on this host, in whichever namespace, is.
    pub(crate) name: String,
    address: String,
}

impl Container {
    pub(crate) fn new(net: &Net) -> Container {
        let (number, process) = (net.number, process::id());
        // No other test has it, also not of a run beside this one.
        let subnet = format!("10.{}.{}", 78 + process % 100, number % 256);
        let name = net.watched.name.replace("watched", "container");
        let container = Container {
            namespace: Namespace::new(name),
            name: format!("in-{process}-{number}"),
            address: format!("{subnet}.2"),
        };
        net.join(&container.namespace, "container");
        net.watched.address("container", &format!("{subnet}.1/24"));
        container.namespace.address("watched", &format!("{subnet}.2/24"));
        container.namespace.run(&format!("ip route add default via {subnet}.1"));
        container
    }
}

/// The watched namespace forwards for the container.
pub(crate) fn forward(net: &Net, rules: &str) {
    net.watched.set_sysctl("net.ipv4.ip_forward", 1);
    net.watched.nft(rules);
}

pub(crate) const MASQUERADE: &str = "table ip nat {\n chain postrouting {\n  \
    type nat hook postrouting priority 100\n  oifname \"peer\" masquerade\n }\n}\n";

fn client(stage: &mut Stage<'_>, tracks: bool) {
    let net = stage.net;
    stage.count(&[Count::forwarded("client", "tcp", 9000)]);
    forward(net, MASQUERADE);
    let container = Container::new(net);
    if tracks {
        container.namespace.track();
        container.namespace.set_sysctl("net.netfilter.nf_conntrack_acct", 1);
    }
    stage.owns(&*container.name, ["client"]);
    stage.keep(Endpoint::start(net, &net.peer, "far", "tcp-server port=9000"));
    stage.begin();
    let role = format!("tcp-client host={PEER4} port=9000 {LONG}");
    let mut client = Endpoint::start(net, &container.namespace, &container.name, &role);
    client.go();
    stage.keep((client, container.namespace));
}

fn server(stage: &mut Stage<'_>, short: bool) {
    let net = stage.net;
    stage.count(&[Count::forwarded_server("server", "tcp", 9000)]);
    let container = Container::new(net);
    let rules = format!(
        "table ip nat {{\n chain prerouting {{\n  type nat hook prerouting priority -100\n  \
         tcp dport 80 dnat to {}:9000\n }}\n}}\n",
        container.address
    );
    forward(net, &rules);
    stage.owns(&*container.name, ["server"]);
    let (role, options) = ("port=9000", "request=500 reply=8000");
    let start = if short { Endpoint::start_short } else { Endpoint::start };
    let server = match short {
        true => format!("server mode=thread {role} {options}"),
        false => format!("tcp-server {role}"),
    };
    stage.keep(start(net, &container.namespace, &container.name, &server));
    stage.begin();
    let connections = stage.sized(300, 300);
    let client = match short {
        true => format!("churn host={WATCHED4} port=80 count={connections} rate=100 {options}"),
        false => format!("tcp-client host={WATCHED4} port=80 {LONG}"),
    };
    let mut client = start(net, &net.peer, "near", &client);
    client.go();
    stage.keep((client, container.namespace));
}

fn brief(stage: &mut Stage<'_>) {
    let net = stage.net;
    stage.count(&[Count::forwarded("client", "tcp", 9000)]);
    forward(net, MASQUERADE);
    stage.serve_at_peer("mode=loop request=1000 reply=200000 think=5000");
    stage.begin();
    let container = Container::new(net);
    stage.owns(&*container.name, ["client"]);
    let role = format!("churn host={PEER4} port=9000 count=1 request=1000 reply=200000");
    let mut client = Endpoint::start_short(net, &container.namespace, &container.name, &role);
    client.go();
    client.quit();
}
