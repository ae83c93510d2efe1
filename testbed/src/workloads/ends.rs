//! Processes that are hard to name: copies of others, and those that end.

use super::clients::{SHORT, count, server};
use super::{Stage, Workload};
use crate::endpoint::Endpoint;
use crate::netns::PEER4;
use crate::truth::Count;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("forked", "children that execute nothing, one connection each", |stage| {
        forked(stage, "");
    })
    .delicate()
    .closes_first(),
    Workload::new("forked_orphans", "the same, forked by a process that has ended", |stage| {
        forked(stage, " orphans");
    })
    .delicate()
    .closes_first(),
    Workload::new("ending", "11 clients that end between refreshes", ending)
        .every("0.2")
        .closes_first(),
    Workload::new(
        "silent_end",
        "processes that are silent for 2 s, connect once and end",
        |stage| {
            silent_end(stage, "");
        },
    )
    .delicate()
    .every("0.2"),
    Workload::new("silent_end_early", "the same, connected from the beginning", |stage| {
        silent_end(stage, " early");
    })
    .delicate()
    .every("0.2"),
];

/// The parent, whose command line they have, has no socket.
fn forked(stage: &mut Stage<'_>, how: &str) {
    let net = stage.net;
    count(stage, "tcp");
    server(stage, "tcp-server mode=threaded");
    let number = stage.sized(100, 30);
    let exchange = "up=20000 down=8000";
    let role = format!("tcp-forks host={PEER4} port=9000 {exchange} count={number} rate=20{how}");
    // Orphans are there before the program is.
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    stage.begin();
    client.go();
    stage.keep(client);
}

/// They begin and end while the program runs, and live for more than ten refreshes.
fn ending(stage: &mut Stage<'_>) {
    const TCP: usize = 6;
    const ALL: usize = 11;
    let net = stage.net;
    let names: Vec<String> = (0..ALL).map(|index| format!("client{index}")).collect();
    let counts: Vec<Count<'_>> = names
        .iter()
        .enumerate()
        .map(|(index, name)| match index < TCP {
            true => Count::matching(
                name,
                &format!("tcp sport 9000 tcp dport {}", 41000 + index),
                &format!("tcp dport 9000 tcp sport {}", 41000 + index),
            ),
            false => Count::client(name, "udp", 9100 + index as u16),
        })
        .collect();
    stage.count(&counts);
    for name in &names {
        stage.owns(name, [name]);
    }
    server(stage, "tcp-server mode=threaded");
    let role = format!("udp-server port={} ports={}", 9100 + TCP, ALL - TCP);
    stage.keep(Endpoint::start(net, &net.peer, "far", &role));
    stage.begin();
    let mut clients: Vec<Endpoint> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            // A third of a refresh between two ends, so that they fall everywhere in one.
            let hundredths = 220 + 7 * index;
            if index < TCP {
                let exchange = format!("up=300000 down=200000 seconds={hundredths}e-2");
                let local = 41000 + index;
                let role =
                    format!("tcp-client host={PEER4} port=9000 local={local} {exchange} ends");
                Endpoint::start(net, &net.watched, name, &role)
            } else {
                let (port, number) = (9100 + index, 2 * hundredths);
                let role =
                    format!("steady host={PEER4} port={port} count={number} rate=200 request=900");
                Endpoint::start_short(net, &net.watched, name, &role)
            }
        })
        .collect();
    clients.iter_mut().for_each(Endpoint::begin);
    for mut client in clients {
        client.done();
        // As a shell would, at once.
        client.quit();
    }
}

/// All of them live at once, and the oldest connects next. The server takes a fifth of a millisecond: long enough to
/// ask those that are known for the socket, and too short to open each of them first.
fn silent_end(stage: &mut Stage<'_>, how: &str) {
    stage.count(&[Count::client("kid", "tcp", 9000)]);
    stage.owns("kid", ["kid"]);
    stage.serve_at_peer(&format!("mode=thread {SHORT} think=200"));
    stage.begin();
    let number = stage.sized(100, 30);
    let options = format!("count={number} rate=20 wait=2000000 child=kid {SHORT}{how}");
    let mut spawner = stage.short_client("spawner", "spawn", &options);
    spawner.go();
    stage.keep(spawner);
}
