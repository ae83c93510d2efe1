//! What passes through has no socket: connection tracking is read for it beside the programs.

use std::time::{Duration, Instant};

use testbed::endpoint::Endpoint;
use testbed::netns::{FAR4, Net};
use testbed::running::Running;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

const SILENCE: &str = "table inet silence {\n chain input {\n  type filter hook input priority -300\n  \
                       meta l4proto udp drop\n }\n}\n";

/// A router whose flows end after two seconds, and a program that refreshes every five.
fn router() -> Option<(Net, Running)> {
    let net = Net::routed()?;
    net.watched.set_sysctl("net.netfilter.nf_conntrack_udp_timeout", 2);
    net.far.as_ref()?.nft(SILENCE);
    let args = ["--source", "ebpf", "--unattributed", "--interval", "5"];
    let mut running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    running.begun();
    Some((net, running))
}

/// Sends so many datagrams, each a flow of its own.
fn flows(net: &Net, count: u32, seconds: u32) -> Endpoint {
    let role = format!(
        "udp-client host={FAR4} port=20000 ports={count} count={count} size=100 seconds={seconds}"
    );
    Endpoint::start(net, &net.peer, "client", &role)
}

fn count(net: &Net) -> Truth<'_> {
    // By the address, as the client's own port may be one of these.
    let [received, sent] = ["saddr", "daddr"].map(|end| format!("ip protocol udp ip {end} {FAR4}"));
    Truth::start(&net.watched, &[Count::forwarded_matching("flows", &received, &sent)])
}

#[test]
fn flows_that_begin_and_end_between_two_refreshes_are_all_counted() {
    let Some((net, mut running)) = router() else { return };
    let truth = count(&net);
    flows(&net, 12_000, 6).go();
    let truth = truth.settled()["flows"];
    assert!(truth.sent >= 12_000 * 128, "only {truth} passed through");
    // On a busy machine the beginning of some is told late, and the next refresh but one has them.
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let got = running.settled().reason("(forwarded)");
        if got == truth {
            break;
        }
        if Instant::now() > deadline {
            running.expect("(forwarded)", got, truth);
        }
    }
    running.stop();
}

/// The bytes of announcements that wait in the kernel for the program to take them.
fn waiting(net: &Net) -> u64 {
    // sk, Eth (the protocol: NETLINK_NETFILTER), Pid, Groups, Rmem
    let sockets = net.watched.run("cat /proc/net/netlink");
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let netfilter = fields.filter(|fields| fields.get(1) == Some(&"12"));
    netfilter.map(|fields| fields[4].parse::<u64>().unwrap()).sum()
}

/// There is room for some ten thousand announcements, and a busy router has more than that in five seconds.
#[test]
fn announced_ends_of_what_passes_through_do_not_wait_for_the_refresh() {
    let Some((net, mut running)) = router() else { return };
    // On a busy machine all of it may take longer than the look is away; that proves nothing.
    for attempt in 1.. {
        let mut client = flows(&net, 3000, 0);
        // From here on the next look is five seconds away.
        running.settled();
        let refreshed = Instant::now();
        client.go();
        net.watched.run("conntrack -F");
        let flushed = waiting(&net);
        while waiting(&net) > 0 && refreshed.elapsed() < Duration::from_secs(4) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if refreshed.elapsed() < Duration::from_secs(4) {
            break;
        }
        if attempt == 8 {
            running.expect("bytes of announcements that wait", waiting(&net), 0);
            running.fail(&format!("{flushed} bytes of announcements waited for a look"));
        }
    }
    running.stop();
}
