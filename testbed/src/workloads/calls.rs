//! Other ways to send and to receive than `send` and `recv`.

use super::clients::{LONG, SHORT, THINKING, client, count, server};
use super::{Stage, Workload};
use crate::netns::PEER4;
use crate::requirements::io_uring_is_missing;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload::new("sendfile", "TCP, sent by sendfile", |stage| tcp(stage, "sendfile")),
    Workload::new("splice", "TCP, spliced both ways", |stage| tcp(stage, "splice")),
    Workload::new("mmsg", "UDP by sendmmsg and recvmmsg", mmsg),
    Workload::new("io_uring", "short connections by io_uring, 100/s", |stage| ring(stage, ""))
        .delicate()
        .unless(io_uring_is_missing),
    Workload::new("io_uring_direct", "the same, sockets without descriptors", |stage| {
        ring(stage, " direct");
    })
    .delicate()
    .unless(io_uring_is_missing),
];

fn tcp(stage: &mut Stage<'_>, way: &str) {
    count(stage, "tcp");
    server(stage, "tcp-server");
    stage.begin();
    let role = format!("tcp-client host={PEER4} port=9000 by={way} {LONG}");
    let mut client = client(stage.net, &role);
    client.go();
    stage.keep(client);
}

fn mmsg(stage: &mut Stage<'_>) {
    count(stage, "udp");
    server(stage, "udp-server reply=400");
    stage.begin();
    let mut client = stage.short_client("client", "mmsg", "count=4000 request=1200 reply=400");
    client.go();
    stage.keep(client);
}

fn ring(stage: &mut Stage<'_>, how: &str) {
    count(stage, "tcp");
    stage.serve_at_peer(&format!("mode=thread {SHORT}{THINKING}"));
    stage.begin();
    let options = format!("count={} rate=100 {SHORT}{how}", stage.sized(500, 300));
    let mut client = stage.short_client("client", "ring", &options);
    client.go();
    stage.keep(client);
}
