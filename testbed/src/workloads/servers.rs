//! Servers in the watched namespace, and both ends in it.

use super::clients::LONG;
use super::{Stage, Workload};
use crate::endpoint::{Endpoint, LIVE};
use crate::netns::{Net, WATCHED4, WATCHED6};
use crate::truth::Count;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("threaded", "threaded server, long connections", |stage| {
        long(stage, "server", "threaded");
    }),
    Workload::new("forking", "forking server, long connections", |stage| {
        long(stage, "srv-parent", "forking");
    }),
    Workload::new("preforked", "pre-forked server, long connections", |stage| {
        long(stage, "srv-parent", "preforked workers=3");
    }),
    Workload::new("reuseport", "SO_REUSEPORT workers, long connections", |stage| {
        long(stage, "srv-parent", "reuseport workers=3");
    }),
    Workload::new("threaded_short", "threaded server, short connections, 100/s", |stage| {
        short(stage, "server", "server", "thread", WATCHED4);
    })
    .delicate()
    .closes_first(),
    Workload::new("threaded_short6", "the same, IPv6", |stage| {
        short(stage, "server", "server", "thread", WATCHED6);
    })
    .ipv6()
    .delicate()
    .closes_first(),
    // Its children have the name of their parent, as most have.
    Workload::new("forking_short", "forking server, short connections, 100/s", |stage| {
        short(stage, "server", "server", "fork", WATCHED4);
    })
    .delicate()
    .closes_first(),
    Workload::new("preforked_short", "pre-forked server, short connections, 100/s", |stage| {
        short(stage, "srv-parent", "srv-worker", "prefork", WATCHED4);
    })
    .delicate()
    .closes_first(),
    Workload::new("reuseport_short", "SO_REUSEPORT workers, short connections, 100/s", |stage| {
        short(stage, "srv-parent", "srv-worker", "reuseport", WATCHED4);
    })
    .delicate()
    .closes_first(),
    Workload::new("mapped", "server on ::, IPv4 client", mapped),
    Workload::new("port_range", "UDP server on 50 ports", port_range),
    Workload::new("redirected", "redirected server", redirected),
    Workload::new("loopback", "loopback, both ends", |stage| loopback(stage, "127.0.0.1")),
    Workload::new("loopback6", "the same, IPv6", |stage| loopback(stage, "::1")).ipv6(),
];

fn client_of(net: &Net, port: u16, options: &str) -> Endpoint {
    let role = format!("tcp-client host={WATCHED4} port={port} {options}");
    Endpoint::start(net, &net.peer, "near", &role)
}

/// Three connections of different sizes, or a mix-up would not show.
fn long(stage: &mut Stage<'_>, name: &str, mode: &str) {
    const CLIENTS: [(&str, u16, &str); 3] = [
        ("first", 40001, LIVE),
        ("second", 40002, "up=700000 down=1500000 seconds=3.5"),
        ("third", 40003, "up=1800000 down=400000 seconds=3.5"),
    ];
    let net = stage.net;
    stage.count(&CLIENTS.map(|(name, port, _)| {
        let received = format!("tcp sport {port} tcp dport 9000");
        let sent = format!("tcp dport {port} tcp sport 9000");
        Count::matching(name, &received, &sent)
    }));
    let role = format!("tcp-server mode={mode} port=9000");
    let mut server = Endpoint::start(net, &net.watched, name, &role);
    stage.begin();
    let mut owned: Vec<(String, Vec<&str>)> = Vec::new();
    let mut clients = CLIENTS.map(|(count, local, exchange)| {
        let client = client_of(net, 9000, &format!("local={local} {exchange}"));
        // The server tells which child got it.
        let owner = match name.strip_suffix("parent") {
            Some(family) => {
                let accepted = server.wait_for("ACCEPTED");
                format!("{family}{}", accepted.split(' ').nth(1).unwrap())
            }
            None => name.to_owned(),
        };
        match owned.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, counts)) => counts.push(count),
            None => owned.push((owner, vec![count])),
        }
        client
    });
    clients.iter_mut().for_each(Endpoint::begin);
    for client in &mut clients {
        client.done();
    }
    for (owner, counts) in owned {
        stage.owns(owner, counts);
    }
    stage.keep((server, clients));
}

/// The server closes each as soon as it has answered.
fn short(stage: &mut Stage<'_>, name: &str, owner: &str, mode: &str, host: &str) {
    let net = stage.net;
    let exchange = "request=1000 reply=20000";
    stage.count(&[Count::server("server", "tcp", 9000)]);
    stage.owns(owner, ["server"]);
    let role = format!("server host={host} port=9000 mode={mode} {exchange}");
    stage.keep(Endpoint::start_short(net, &net.watched, name, &role));
    stage.begin();
    let count = stage.sized(500, 300);
    let role = format!("churn host={host} port=9000 count={count} rate=100 {exchange}");
    let mut client = Endpoint::start_short(net, &net.peer, "near", &role);
    client.go();
    stage.keep(client);
}

fn mapped(stage: &mut Stage<'_>) {
    let net = stage.net;
    stage.count(&[Count::server("server", "tcp", 9000)]);
    stage.owns("server", ["server"]);
    stage.keep(Endpoint::start(net, &net.watched, "server", "tcp-server host=:: dual port=9000"));
    stage.begin();
    let mut client = client_of(net, 9000, LONG);
    client.go();
    stage.keep(client);
}

fn port_range(stage: &mut Stage<'_>) {
    let net = stage.net;
    let (received, sent) = ("udp dport 9000-9049", "udp sport 9000-9049");
    stage.count(&[Count::matching("server", received, sent)]);
    stage.owns("server", ["server"]);
    let role = "udp-server port=9000 ports=50 reply=700";
    stage.keep(Endpoint::start(net, &net.watched, "server", role));
    stage.begin();
    let options = "port=9000 ports=50 count=500 size=300 reply=700 seconds=4";
    let role = format!("udp-client host={WATCHED4} {options}");
    let mut client = Endpoint::start(net, &net.peer, "near", &role);
    client.go();
    stage.keep(client);
}

fn redirected(stage: &mut Stage<'_>) {
    let net = stage.net;
    net.watched.nft(
        "table ip nat {\n chain prerouting {\n  type nat hook prerouting priority -100\n  \
         tcp dport 80 redirect to :9000\n }\n}\n",
    );
    stage.count(&[Count::server("server", "tcp", 9000)]);
    stage.owns("server", ["server"]);
    stage.keep(Endpoint::start(net, &net.watched, "server", "tcp-server port=9000"));
    stage.begin();
    let mut client = client_of(net, 80, LONG);
    client.go();
    stage.keep(client);
}

fn loopback(stage: &mut Stage<'_>, host: &str) {
    let net = stage.net;
    // Or packets larger than the device takes would be cut into two on the way, and where they arrive
    // there would be a header that nobody sent.
    net.watched.run("ip link set lo mtu 1500");
    stage.count(&[
        Count::client("client", "tcp", 9000).looped(),
        Count::server("server", "tcp", 9000).looped(),
    ]);
    stage.owns("client", ["client"]);
    stage.owns("server", ["server"]);
    stage.keep(Endpoint::start(net, &net.watched, "server", "tcp-server host=:: dual port=9000"));
    stage.begin();
    let role = format!("tcp-client host={host} port=9000 {LONG}");
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    client.go();
    stage.keep(client);
}
