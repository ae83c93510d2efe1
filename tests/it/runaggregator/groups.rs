//! Monitors, pipes and applications together: every byte once.

use testbed::bytes::Bytes;
use testbed::endpoint::{Endpoint, LIVE};
use testbed::netns::{Net, PEER4, WATCHED4};
use testbed::streams::listens;
use testbed::truth::{Count, Truth};
use testbed::wait::eventually;

use super::{Aggregator, FILES, pipe, write_files};

/// Where rates are summed up: what a refresh is late is little of it.
const EACH_SECOND: [&str; 2] = ["--interval", "1"];

fn both(bytes: Bytes) -> [u64; 2] {
    [bytes.received, bytes.sent]
}

/// What a pipe counts of its client's payload: what the client sent came in.
fn through_pipe(payload: Bytes) -> [u64; 2] {
    both(payload.swapped())
}

#[test]
fn monitors_and_pipes_together_count_every_byte_once() {
    let Some(net) = Net::new() else { return };
    let start = |namespace, name: &str, role: &str| Endpoint::start(&net, namespace, name, role);
    // Both monitors select all workloads; only the first one what stays on this host.
    let monitors = "[Own]\ntype=monitor\ninclude=workload\\.py\n\
                    [Rest]\ntype=monitor\nignorelocal=true\n";
    write_files(
        &net.dir,
        &format!("{monitors}{}{}", pipe(8001, PEER4, 9000), pipe(8002, PEER4, 9000)),
        "[Direct]\na=workload\\.py direct\n[Piped]\na=^pipe-8001:\n[Near]\na=near-\n",
        "",
    );
    let truth = Truth::start(
        &net.watched,
        &[
            Count::client("direct", "tcp", 9001),
            Count::client("local", "tcp", 8002),
            Count::client("near", "tcp", 9002),
        ],
    );
    let _servers = [
        start(&net.peer, "far", "tcp-server mode=threaded port=9000"),
        start(&net.peer, "far-too", "tcp-server mode=threaded port=9001"),
        start(&net.watched, "near-server", "tcp-server mode=threaded port=9002"),
    ];
    let options = ["--all", "--unattributed", "--interval", "1"];
    let mut program = Aggregator::watching(&net, &[&FILES[..], &options].concat());
    let mut clients = [
        start(&net.watched, "direct", &format!("tcp-client host={PEER4} port=9001 {LIVE}")),
        start(&net.watched, "local", &format!("tcp-client host=127.0.0.1 port=8002 {LIVE}")),
        start(&net.watched, "near-client", &format!("tcp-client host=127.0.0.1 port=9002 {LIVE}")),
        start(&net.peer, "remote", &format!("tcp-client host={WATCHED4} port=8001 {LIVE}")),
    ];
    // Whoever has the sockets is known before they carry anything.
    program.settle();
    clients.iter_mut().for_each(Endpoint::begin);
    let [_, local, _, remote] = clients.each_mut().map(Endpoint::done);
    let truth = truth.settled();
    program.settle();

    let pipes_name = format!("pipe-8002:{PEER4}:9000");
    let local_name = "/usr/bin/python3 workload.py local ";
    let near = truth["near"] + truth["near"].swapped();
    let expected = [
        ("Direct", both(truth["direct"])),
        (local_name, both(truth["local"])),
        ("Near", both(near)),
        ("Piped", through_pipe(remote)),
        (&pipes_name, through_pipe(local)),
    ];
    for (beginning, bytes) in expected {
        program.expect_bytes(beginning, |name| name.starts_with(beginning), bytes);
    }
    let others: Vec<_> = program
        .lines()
        .into_iter()
        .filter(|line| !expected.iter().any(|(beginning, _)| line.name.starts_with(beginning)))
        // What it took to connect.
        .filter(|line| line.received + line.sent > 5.0)
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    let own = program
        .lines()
        .into_iter()
        .find(|line| line.name.contains("runaggregator") || line.name.contains("own pipe"));
    assert_eq!(own, None, "what a pipe carries stands on its own line only");
    drop(clients);
    program.running.stop();
}

#[test]
fn monitors_of_two_sources_count_a_process_once() {
    let Some(net) = Net::new() else { return };
    let monitors = "[Sockets]\ntype=monitor\ninclude=direct\nsource=sockets\n\
                    [Conntrack]\ntype=monitor\n";
    write_files(&net.dir, monitors, "[Direct]\na=direct\n", "");
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let mut program = Aggregator::watching(&net, &[&FILES[..], &EACH_SECOND].concat());
    let start = |name| {
        let role = format!("tcp-client host={PEER4} port=9000 {LIVE}");
        Endpoint::start(&net, &net.watched, name, &role)
    };
    let mut clients = [start("direct"), start("other")];
    // Whoever has the sockets is known before they carry anything.
    program.settle();
    clients.iter_mut().for_each(Endpoint::begin);
    let [direct, other] = clients.each_mut().map(Endpoint::done);
    program.settle();
    program.expect_bytes("Direct", |name| name == "Direct", both(direct));
    program.expect_bytes("other", |name| name.contains("other"), both(other));
    program.running.stop();
}

#[test]
fn a_file_without_monitors_shows_only_pipes() {
    let Some(net) = Net::new() else { return };
    write_files(&net.dir, &pipe(8001, PEER4, 9000), "", "");
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let mut program = Aggregator::watching(&net, &[&FILES[..], &["--all"]].concat());
    eventually("the program listens", || listens(program.running.pid(), 8001));
    let role = |host, port| format!("tcp-client host={host} port={port} up=100000");
    let mut direct = Endpoint::start(&net, &net.watched, "direct", &role(PEER4, 9000));
    let mut piped = Endpoint::start(&net, &net.peer, "piped", &role(WATCHED4, 8001));
    direct.go();
    piped.go();
    let name = format!("pipe-8001:{PEER4}:9000");
    program.wait_for(&name);
    program.settle();
    assert!(program.lines().iter().all(|line| line.name == name), "{:#?}", program.lines());
    piped.quit();
    program.running.stop();
}

#[test]
fn an_application_may_have_processes_and_pipes() {
    let Some(net) = Net::new() else { return };
    let monitors = format!("[All]\ntype=monitor\n{}", pipe(8001, PEER4, 9000));
    write_files(&net.dir, &monitors, "[Together]\na=workload\\.py\nb=^pipe-8001:\n", "");
    let truth = Truth::start(&net.watched, &[Count::client("direct", "tcp", 9001)]);
    let start = |namespace, name: &str, role: &str| Endpoint::start(&net, namespace, name, role);
    let _servers = [9000, 9001]
        .map(|port| start(&net.peer, "server", &format!("tcp-server mode=threaded port={port}")));
    let mut program = Aggregator::watching(&net, &[&FILES[..], &EACH_SECOND].concat());
    let role = |host, port| format!("tcp-client host={host} port={port} {LIVE}");
    let mut direct = start(&net.watched, "direct", &role(PEER4, 9001));
    let mut piped = start(&net.peer, "piped", &role(WATCHED4, 8001));
    program.settle();
    direct.begin();
    piped.begin();
    direct.done();
    let piped_payload = piped.done();
    let sum = truth.settled()["direct"] + piped_payload.swapped();
    program.settle();
    program.expect_bytes("Together", |name| name == "Together", both(sum));
    program.expect_bytes("all", |_| true, both(sum));
    piped.quit();
    program.running.stop();
}

/// Whose process is gone before anybody looks has a reason for a line.
#[test]
fn processes_that_come_and_go_between_two_refreshes_are_counted() {
    let Some(net) = Net::new() else { return };
    write_files(&net.dir, "[All]\ntype=monitor\n", "[Short]\na=workload\n", "");
    let truth = Truth::start(&net.watched, &[Count::client("short", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let options = ["--interval", "3", "--unattributed", "--all"];
    let mut program = Aggregator::watching(&net, &[&FILES[..], &options].concat());
    for number in 0..5 {
        let role = format!("tcp-client host={PEER4} port=9000 up=300000 down=200000");
        let mut client = Endpoint::start(&net, &net.watched, &format!("short-{number}"), &role);
        client.go();
        client.quit();
    }
    let truth = truth.settled();
    program.settle();
    program.expect_bytes("all", |_| true, both(truth["short"]));
    program.running.stop();
}
