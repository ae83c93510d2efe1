//! Remote ends and interfaces of each process, and rows that are grouped by them.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::machine::{Snapshot, bytes, snapshots};
use testbed::netns::{Net, PEER4, PEER6};
use testbed::remotes::{SCENES, ends_of, fits};
use testbed::running::Running;
use testbed::truth::{Count, Truth};
use testbed::wait::{DEADLINE, until};

use crate::RUNMONITOR;

/// Datagrams to each remote host, and the bytes of each, and of each reply.
const EACH: u64 = 30;
const SIZE: u64 = 700;
const REPLY: u64 = 300;
const HEADERS4: u64 = 28;
const HEADERS6: u64 = 48;

/// The interface of the watched namespace.
const LINK: &str = "peer";
/// A second address of the peer.
const OTHER4: &str = "10.77.0.3";

fn carried(headers: u64) -> Bytes {
    Bytes::new(EACH * (REPLY + headers), EACH * (SIZE + headers))
}

/// The last snapshot of a program that prints JSON.
fn last(running: &Running) -> Option<Snapshot> {
    snapshots(&running.stdout()).pop()
}

/// A remote end, as text: protocol, address, port, interface.
fn remote_end(detail: &Value) -> String {
    let part = |key: &str| match &detail[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        number => number.to_string(),
    };
    ["protocol", "remote_address", "remote_port", "interface"].map(part).join(" ")
}

/// The bytes of each remote end of a row, all local ports together. They add up to the row's.
fn remote_ends(row: &Value) -> BTreeMap<String, Bytes> {
    for what in ["total", "recent"] {
        let details = row["details"].as_array().unwrap().iter();
        let sum = details.fold(Bytes::default(), |sum, of| sum + bytes(&of[what]));
        assert_eq!(sum, bytes(&row[what]), "{what}: {row}");
    }
    let mut ends: BTreeMap<String, Bytes> = BTreeMap::new();
    for detail in row["details"].as_array().unwrap() {
        let sum = ends.entry(remote_end(detail)).or_default();
        *sum = *sum + bytes(&detail["total"]);
    }
    ends
}

/// Waits until the row of the client has these remote ends.
fn expect(running: &Running, expected: &[(String, Bytes)]) {
    let expected: BTreeMap<String, Bytes> = expected.iter().cloned().collect();
    let mut found = BTreeMap::new();
    let is_there = until(DEADLINE, || {
        let snapshot = last(running);
        let row = snapshot.as_ref().and_then(|snapshot| snapshot.row("workload.py client "));
        found = row.map(remote_ends).unwrap_or_default();
        found == expected
    });
    assert!(is_there, "expected {expected:#?}\ngot {found:#?}\n{}", running.stderr());
}

fn start(net: &Net, source: &str, more: &[&str]) -> Running {
    start_as(source, more, |args| RUNMONITOR.inside(&net.watched, args))
}

fn start_as(source: &str, more: &[&str], command: impl FnOnce(&[&str]) -> Command) -> Running {
    let args = ["--source", source, "--interval", "0.2", "--format", "json"];
    let running = Running::start(command(&[&args, more].concat()));
    running.eventually("the first line", || last(&running).is_some());
    running.has_read();
    running
}

/// One socket without a peer that talks to two hosts over one interface, and to this host over another, by both
/// families.
fn one_socket_has_many_remotes(source: &str) {
    let Some(net) = Net::new() else { return };
    net.peer.address("watched", &format!("{OTHER4}/24"));
    let servers = [
        (&net.peer, PEER4.to_owned()),
        (&net.peer, OTHER4.to_owned()),
        (&net.peer, PEER6.to_owned()),
        (&net.watched, "127.0.0.2".to_owned()),
    ];
    let _servers: Vec<Endpoint> = servers
        .iter()
        .map(|(namespace, host)| {
            let role = format!("udp-server host={host} port=9000 reply={REPLY}");
            Endpoint::start(&net, namespace, "server", &role)
        })
        .collect();
    let mapped =
        |host: &str| if host.contains(':') { host.to_owned() } else { format!("::ffff:{host}") };
    let hosts: Vec<String> = servers.iter().map(|(_, host)| mapped(host)).collect();
    let count = EACH * hosts.len() as u64;
    let role = format!(
        "udp-client host={} port=9000 count={count} size={SIZE} reply={REPLY}",
        hosts.join(",")
    );
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let running = start(&net, source, &["--details"]);
    client.go();
    let interface = match source {
        "ebpf" => LINK.to_owned(),
        _ => "-".to_owned(),
    };
    let end = |host: &str, interface: &str, headers| {
        (format!("udp {host} 9000 {interface}"), carried(headers))
    };
    expect(
        &running,
        &[
            end(PEER4, &interface, HEADERS4),
            end(OTHER4, &interface, HEADERS4),
            end(PEER6, &interface, HEADERS6),
            end("127.0.0.2", "lo", HEADERS4),
        ],
    );
    // Nothing comes a second time.
    client.go();
    let twice = |(end, all): (String, Bytes)| (end, all + all);
    expect(
        &running,
        &[
            twice(end(PEER4, &interface, HEADERS4)),
            twice(end(OTHER4, &interface, HEADERS4)),
            twice(end(PEER6, &interface, HEADERS6)),
            twice(end("127.0.0.2", "lo", HEADERS4)),
        ],
    );
    // The other end of it, under the server's name.
    let snapshot = last(&running).unwrap();
    let server = remote_ends(snapshot.row("workload.py server ").unwrap());
    let of_client: Vec<_> = server.keys().filter(|end| end.starts_with("udp 127.0.0.1 ")).collect();
    assert_eq!(of_client.len(), 1, "{server:?}");
    running.stop();
}

/// Each remote host and interface has its bytes, as nft counts them.
fn remote_ends_are_those_of_the_scenes(source: &str) {
    for scene in SCENES {
        let Some(net) = Net::new() else { return };
        let mut running = None;
        let played = scene.play(&net, || {
            running = Some(match scene.elsewhere {
                true => {
                    start_as(source, &["--details"], |args| RUNMONITOR.anywhere(&net.watched, args))
                }
                false => start(&net, source, &["--details"]),
            });
        });
        let running = running.unwrap();
        let expected = played.ends_by(source);
        let mut found = BTreeMap::new();
        let is_there = until(DEADLINE, || {
            let snapshot = last(&running);
            let row = snapshot.as_ref().and_then(|snapshot| snapshot.row(&played.process));
            found = row.map(ends_of).unwrap_or_default();
            fits(&found, &expected)
        });
        let title = scene.title;
        assert!(is_there, "{title}: expected {expected:#?}\ngot {found:#?}\n{}", running.stderr());
        running.stop();
    }
}

#[test]
fn ebpf_gives_each_remote_its_bytes() {
    remote_ends_are_those_of_the_scenes("ebpf");
}

#[test]
fn conntrack_gives_each_remote_its_bytes() {
    remote_ends_are_those_of_the_scenes("conntrack");
}

#[test]
fn ebpf_tells_the_remotes_of_one_socket_apart() {
    one_socket_has_many_remotes("ebpf");
}

#[test]
fn conntrack_tells_the_remotes_of_one_socket_apart() {
    one_socket_has_many_remotes("conntrack");
}

/// A connection, made and accepted: its handshake is its remote end's as well.
fn a_connection_has_one_remote(source: &str) {
    let Some(net) = Net::new() else { return };
    for (accepts, connects) in [(&net.peer, &net.watched), (&net.watched, &net.peer)] {
        let host = if std::ptr::eq(accepts, &net.peer) { PEER4 } else { testbed::netns::WATCHED4 };
        let name = |is_client: bool, of| match std::ptr::eq(of, &net.watched) {
            true => "client",
            false if is_client => "maker",
            false => "acceptor",
        };
        let server = name(false, accepts);
        let _server = Endpoint::start(&net, accepts, server, "tcp-server mode=threaded port=9000");
        let role = format!("tcp-client host={host} port=9000 up=300000 down=200000");
        // First: nobody knows over which interface came what was before.
        let running = start(&net, source, &["--details"]);
        let mut client = Endpoint::start(&net, connects, name(true, connects), &role);
        client.go();
        running.eventually("the row", || {
            last(&running).is_some_and(|snapshot| snapshot.row("workload.py client ").is_some())
        });
        client.close();
        running.eventually("the connection's remote end", || {
            let Some(snapshot) = last(&running) else { return false };
            let Some(row) = snapshot.row("workload.py client ") else { return false };
            let ends = remote_ends(row);
            let interface = if source == "ebpf" { LINK } else { "-" };
            ends.len() == 1
                && ends.keys().all(|end| {
                    end.starts_with(&format!("tcp {PEER4} ")) && end.ends_with(interface)
                })
                && ends.values().all(|bytes| bytes.received >= 200_000 && bytes.sent >= 200_000)
        });
        running.stop();
    }
}

#[test]
fn ebpf_tells_a_connection_s_remote() {
    a_connection_has_one_remote("ebpf");
}

#[test]
fn conntrack_tells_a_connection_s_remote() {
    a_connection_has_one_remote("conntrack");
}

#[test]
fn sockets_tell_a_connection_s_remote() {
    a_connection_has_one_remote("sockets");
}

/// What conntrack has counted before the start has a remote end, but no interface.
#[test]
fn what_was_before_the_start_has_its_remote_end() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=300000 down=200000");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    client.go();
    let before = truth.settled()["client"];
    let running = start(&net, "ebpf", &["--details"]);
    let end = |interface: &str, bytes| (format!("tcp {PEER4} 9000 {interface}"), bytes);
    expect(&running, &[end("-", before)]);
    client.go();
    let all = truth.settled()["client"];
    let since = Bytes::new(all.received - before.received, all.sent - before.sent);
    expect(&running, &[end("-", before), end(LINK, since)]);
    running.stop();
}

/// As many remote ends as there is no room for: nothing is lost, the rest stands in one sum.
#[test]
fn remote_ends_are_bounded_and_add_up() {
    let Some(net) = Net::new() else { return };
    let (ports, sockets) = (100, 5);
    let role = format!("udp-server port=9000 ports={ports} reply={REPLY}");
    let _server = Endpoint::start(&net, &net.peer, "server", &role);
    let count = ports * sockets;
    let role = format!(
        "udp-client host={PEER4} port=9000 ports={ports} sockets={sockets} count={count} size={SIZE} reply={REPLY}"
    );
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let running = start(&net, "ebpf", &["--details"]);
    client.go();
    let all = Bytes::new(count * (REPLY + HEADERS4), count * (SIZE + HEADERS4));
    running.eventually("all bytes", || {
        let snapshot = last(&running);
        let row = snapshot.as_ref().and_then(|snapshot| snapshot.row("workload.py client "));
        row.is_some_and(|row| {
            let ends = remote_ends(row);
            bytes(&row["total"]) == all && ends.len() <= 257 && ends.contains_key("- - - -")
                || bytes(&row["total"]) == all && ends.len() == ports as usize
        })
    });
    running.stop();
}

/// One who talks to more remote ends than the kernel keeps apart, in another namespace: others have theirs all the same.
#[test]
fn a_flood_of_remote_ends_takes_nobody_else_s() {
    let Some(net) = Net::new() else { return };
    let _server =
        Endpoint::start(&net, &net.peer, "server", &format!("udp-server port=9000 reply={REPLY}"));
    let hosts = "127.0.0.1,127.0.0.2,127.0.0.3";
    let role = format!("udp-client host={hosts} port=20000 ports=29999 count=89997 size=1");
    let mut flood = Endpoint::start(&net, &net.peer, "flood", &role);
    let role = format!("udp-client host={PEER4} port=9000 count={EACH} size={SIZE} reply={REPLY}");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    // All between two looks.
    let running = start(&net, "ebpf", &["--details", "--interval", "5"]);
    flood.go();
    client.go();
    expect(&running, &[(format!("udp {PEER4} 9000 {LINK}"), carried(HEADERS4))]);
    running.stop();
}

/// Rows by what is asked for, with the same bytes.
#[test]
fn rows_are_grouped_by_remotes_interfaces_and_users() {
    let Some(net) = Net::new() else { return };
    let server = format!("udp-server host=:: dual port=9000 reply={REPLY}");
    let _servers = [
        Endpoint::start(&net, &net.peer, "server", &server),
        Endpoint::start(&net, &net.watched, "near", &format!("udp-server port=9001 reply={REPLY}")),
    ];
    let exchange = format!("count={EACH} size={SIZE} reply={REPLY}");
    let start_client = |name: &str, host: &str, port: u16| {
        let role = format!("udp-client host={host} port={port} {exchange}");
        Endpoint::start(&net, &net.watched, name, &role)
    };
    let mut clients = [
        start_client("first", PEER4, 9000),
        start_client("second", PEER4, 9000),
        start_client("third", "127.0.0.1", 9001),
    ];
    let by = |by: &str| start(&net, "ebpf", &["--by", by, "--include", "(first|second|third)"]);
    let views = ["remote", "interface,remote-port", "user,protocol", "process"].map(by);
    clients.iter_mut().for_each(|client| _ = client.go());
    let once = carried(HEADERS4);
    let twice = once + once;
    let expected: [Vec<(String, Bytes)>; 3] = [
        vec![(PEER4.to_owned(), twice), ("127.0.0.1".to_owned(), once)],
        vec![(format!("{LINK}, udp/9000"), twice), ("lo, udp/9001".to_owned(), once)],
        vec![("root, udp".to_owned(), twice + once)],
    ];
    for (running, expected) in views.iter().zip(expected) {
        let expected: BTreeMap<String, Bytes> = expected.into_iter().collect();
        running.eventually(&format!("{expected:?}"), || {
            let snapshot = last(running).unwrap();
            let rows = snapshot.rows().iter();
            let rows =
                rows.map(|row| (row["name"].as_str().unwrap().to_owned(), bytes(&row["total"])));
            rows.collect::<BTreeMap<_, _>>() == expected
        });
    }
    let [.., processes] = &views;
    processes.eventually("three rows", || last(processes).unwrap().rows().len() == 3);
    for row in last(processes).unwrap().rows() {
        let pid = row["processes"][0]["pid"].to_string();
        assert!(row["name"].as_str().unwrap().starts_with(&format!("{pid} ")), "{row}");
        assert_eq!(row["group"]["process"], row["name"]);
    }
    views.into_iter().for_each(|running| drop(running.stop()));
}

/// Only the processes that are asked for; the bytes of the others are left out.
#[test]
fn processes_are_filtered_by_pid_and_user() {
    let Some(net) = Net::new() else { return };
    let _server =
        Endpoint::start(&net, &net.peer, "server", &format!("udp-server port=9000 reply={REPLY}"));
    let role = format!("udp-client host={PEER4} port=9000 count={EACH} size={SIZE} reply={REPLY}");
    let mut clients =
        ["first", "second"].map(|name| Endpoint::start(&net, &net.watched, name, &role));
    let pid = clients[0].pid().to_string();
    let by_pid = start(&net, "ebpf", &["-p", &pid]);
    let by_user = start(&net, "ebpf", &["--user", "0"]);
    let by_nobody = start(&net, "ebpf", &["--user", "nobody", "--unattributed"]);
    clients.iter_mut().for_each(|client| _ = client.go());
    let (once, all) = (carried(HEADERS4), carried(HEADERS4) + carried(HEADERS4));
    let names = |running: &Running| {
        let snapshot = last(running).unwrap();
        let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
        let names: Vec<String> = snapshot.rows().iter().map(name).collect();
        (names, bytes(&snapshot.0["left_out"]["total"]), snapshot.0["unattributed"].clone())
    };
    by_pid.eventually("one row", || {
        let (names, left_out, _) = names(&by_pid);
        names.len() == 1 && names[0].contains(" first ") && left_out == once
    });
    by_user.eventually("two rows", || names(&by_user).0.len() == 2);
    by_nobody.eventually("no row", || {
        let (names, left_out, unattributed) = names(&by_nobody);
        names.is_empty() && left_out == all && unattributed.as_array().unwrap().is_empty()
    });
    [by_pid, by_user, by_nobody].into_iter().for_each(|running| drop(running.stop()));
}

#[test]
fn wrong_values_are_one_line() {
    for (args, expected) in [
        (&["--details"][..], "runmonitor: --details is for --format json"),
        (&["--by", "colour"], "possible values: process, command"),
        (&["-p", "0"], "runmonitor: invalid value '0' for '--pid <PID>'"),
        (&["--user", "nobody-has-this-name"], "there is no such user"),
    ] {
        let mut command = std::process::Command::new(RUNMONITOR.path);
        command.args(args);
        let finished = Running::start(command).finish();
        finished.expect_status(2);
        let is_right = finished.stderr.lines().count() == 1 && finished.stderr.contains(expected);
        assert!(is_right && finished.stdout.is_empty(), "{args:?}: {}", finished.stderr);
    }
}
