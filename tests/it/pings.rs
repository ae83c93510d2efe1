//! Raw and ping sockets of processes that live for some milliseconds: sock_diag doesn't know them.

use testbed::bytes::Bytes;
use testbed::netns::{Namespace, Net, PEER4, PEER6};
use testbed::programs;

use crate::RUNMONITOR;

fn send(net: &Net, namespace: &Namespace, name: &str, kind: &str, host: &str, size: u64) {
    programs::PING_ONCE.put(&net.dir);
    let mut command = namespace.command("/usr/bin/python3");
    let size = size.to_string();
    let words = ["ping_once.py", name, kind, host, &size];
    let status = command.args(words).current_dir(&net.dir).status().unwrap();
    assert!(status.success(), "{words:?}: {status}");
}

/// How often it may be tried: names of short processes are lost where the machine is busy.
const ATTEMPTS: usize = 6;

/// How many of twelve have to be named at the best attempt. Beside fifteen others that want two processors it is
/// mostly ten or more.
const FLOOR: usize = 9;

/// Twelve of each kind; an echo has a header of eight bytes, and is answered by the same.
fn all_are_named(kind: &str, host: &str, header: u64) {
    let mut named_ones = Vec::new();
    while named_ones.len() < ATTEMPTS {
        let Some(named) = named(kind, host, header) else { return };
        println!("{kind} to {host}: {named} of 12 have their names");
        if named >= FLOOR {
            return;
        }
        named_ones.push(named);
    }
    panic!("{kind} to {host}: so many of 12 have their names: {named_ones:?}");
}

/// How many have their names. All bytes have to be told in any case.
fn named(kind: &str, host: &str, header: u64) -> Option<usize> {
    let net = Net::new()?;
    net.watched.run("sysctl -q -w net.ipv4.ping_group_range=0\t0");
    let mut running = RUNMONITOR.watch(&net, "conntrack", &["--unattributed", "--interval", "2"]);
    for number in 0..12 {
        send(&net, &net.watched, &format!("ping{number}"), kind, host, 56);
    }
    let each = header + 8 + 56;
    running.wait_until("all are counted", |all| all.total() == 12 * 2 * each);
    let refresh = running.settled();
    running.stop();
    let of =
        |number| refresh.starting_with(&format!("/usr/bin/python3 ping_once.py ping{number} "));
    Some((0..12).filter(|number| of(*number) == Bytes::new(each, each)).count())
}

#[test]
fn short_pings_through_a_raw_socket_have_their_names() {
    all_are_named("raw", PEER4, 20);
}

#[test]
fn short_pings_through_a_ping_socket_have_their_names() {
    all_are_named("dgram", PEER4, 20);
}

#[test]
fn short_pings_over_ipv6_have_their_names() {
    all_are_named("raw", PEER6, 40);
    all_are_named("dgram", PEER6, 40);
}

/// Which have no ports: all senders between two addresses have one flow.
#[test]
fn a_short_sender_of_another_protocol_has_its_name() {
    let line = "/usr/bin/python3 ping_once.py sender ";
    for protocol in ["253", "254"] {
        let mut named = false;
        for _ in 0..ATTEMPTS {
            if named {
                break;
            }
            let Some(net) = Net::new() else { return };
            let mut running =
                RUNMONITOR.watch(&net, "conntrack", &["--unattributed", "--interval", "2"]);
            send(&net, &net.watched, "sender", protocol, PEER4, 500);
            running.wait_until("it is counted", |all| {
                all.lines.iter().map(|line| line.bytes.sent).sum::<u64>() == 520
            });
            named |= running.settled().starting_with(line).sent == 520;
            running.stop();
        }
        assert!(named, "protocol {protocol}");
    }
}
