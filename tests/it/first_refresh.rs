//! The first refresh is on time however much there is to read, and nothing is lost or told twice by that.

use std::process::{Child, Stdio};
use std::time::Instant;

use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::finished::Finished;
use testbed::netns::{Namespace, Net, PEER4};
use testbed::running::Running;
use testbed::wait::DEADLINE;

use crate::{RUNAGGREGATOR, RUNMONITOR};

/// Nowhere is so much read before the first refresh of this interval is due.
const SOON: [&str; 2] = ["--interval", "0.01"];
const NAMESPACES: usize = 8;
/// Idle sockets in each of them: a link to be read for each.
const IDLE: usize = 1500;

const SIZE: u64 = 1000;
/// The headers of IPv4 and UDP.
const HEADERS: u64 = 28;

/// Network namespaces with somebody in each of them.
struct Crowd {
    namespaces: Vec<Namespace>,
    inhabitants: Vec<Child>,
}

impl Crowd {
    fn new(net: &Net, tracking: bool) -> Crowd {
        let name = |index| format!("{}-{index}", net.watched.name);
        let namespaces: Vec<Namespace> =
            (0..NAMESPACES).map(|index| Namespace::new(name(index))).collect();
        let inhabitants = namespaces.iter().map(|namespace| {
            if tracking {
                namespace.track();
                namespace.set_sysctl("net.netfilter.nf_conntrack_acct", 1);
            }
            let mut sleep = namespace.command("sleep");
            sleep.arg("100").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
        });
        let inhabitants = inhabitants.collect();
        Crowd { namespaces, inhabitants }
    }

    /// One process that has sockets in all of them.
    fn workload(&self, net: &Net, protocol: &str) -> Endpoint {
        let names: Vec<&str> = self.namespaces.iter().map(|n| n.name.as_str()).collect();
        let names = names.join(",");
        let role = format!("everywhere {protocol} size={SIZE} idle={IDLE} in={names}");
        Endpoint::start(net, &net.watched, "crowd", &role)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for inhabitant in &mut self.inhabitants {
            let _ = inhabitant.kill();
            let _ = inhabitant.wait();
        }
    }
}

/// So many exchanges in every namespace, each end of them once.
fn carried(exchanges: u64, headers: u64) -> Bytes {
    let bytes = exchanges * NAMESPACES as u64 * (SIZE + headers);
    Bytes::new(bytes, bytes)
}

/// The first refresh came before everything was read: that is said, once, and the end of it as well.
fn expect_it_was_said(finished: &Finished) {
    let said: Vec<&str> = finished.still_reading.lines().collect();
    let is_right = matches!(said[..], [first, last] if first.contains(": still reading ") && last.ends_with(": everything is read"));
    finished.expect(&format!("messages of what is unread: {said:?}"), is_right, true);
}

/// One exchange is over before the program starts, and others take place while it reads and afterwards.
fn reads_on(source: &str, protocol: &str, headers: u64) {
    let Some(net) = Net::alone() else { return };
    let crowd = Crowd::new(&net, headers > 0);
    let mut workload = crowd.workload(&net, protocol);
    // Connection tracking has something in the program's own namespace, too.
    let ping = format!("ping host={PEER4} size=10 count=1");
    Endpoint::start(&net, &net.watched, "ping", &ping).go();
    workload.go();
    let args = [&["--source", source, "--unattributed", "--include", "crowd"], &SOON[..]].concat();
    let mut running = Running::start(RUNMONITOR.anywhere(&net.watched, &args));
    running.refreshes(1);
    for exchanges in [2, 3] {
        workload.go();
        let all = carried(exchanges, headers);
        running.wait_until("all bytes", |refresh| refresh.workload("crowd") == all);
    }
    // Nothing comes a second time when the rest is read.
    let refresh = running.wait_until("the end of reading", |refresh| {
        refresh.reason("(not read yet)") == Bytes::default()
    });
    running.expect("all bytes, once", refresh.workload("crowd"), carried(3, headers));
    running.has_read();
    expect_it_was_said(&running.stop());
}

#[test]
fn ebpf_starts_with_what_is_there() {
    reads_on("ebpf", "udp", HEADERS);
}

#[test]
fn conntrack_starts_with_what_is_there() {
    reads_on("conntrack", "udp", HEADERS);
}

#[test]
fn sockets_start_with_what_is_there() {
    reads_on("sockets", "tcp", 0);
}

/// Whoever asks for one refresh wants it complete.
#[test]
fn the_last_refresh_waits_until_all_is_read() {
    let Some(net) = Net::alone() else { return };
    let crowd = Crowd::new(&net, false);
    let mut workload = crowd.workload(&net, "tcp");
    workload.go();
    let args = [&["--source", "sockets", "--count", "1"], &SOON[..]].concat();
    let finished = Running::start(RUNMONITOR.anywhere(&net.watched, &args)).finish();
    let refresh = finished.single_refresh();
    finished.expect("all bytes", refresh.workload("crowd"), carried(1, 0));
    expect_it_was_said(&finished);
}

#[test]
fn the_aggregator_starts_with_what_is_there() {
    let Some(net) = Net::alone() else { return };
    let crowd = Crowd::new(&net, false);
    let mut workload = crowd.workload(&net, "tcp");
    workload.go();
    let mut command = net.watched.command(RUNAGGREGATOR.path);
    command.args(["--source", "sockets", "--all"]).args(SOON).current_dir(&net.dir);
    let running = Running::start(command);
    let shows = |part: &str| String::from_utf8_lossy(&running.stdout()).contains(part);
    running.eventually("a line", || shows("\n"));
    // What is read only now is of before the start, for all that is known, and no rate. So it goes on.
    let deadline = Instant::now() + DEADLINE;
    while !String::from_utf8_lossy(&running.stdout()).contains("workload.py crowd ") {
        if Instant::now() > deadline {
            running.fail("the crowd has no line");
        }
        workload.go();
    }
    // The line is there as soon as one of the namespaces is read.
    running.has_read();
    expect_it_was_said(&running.stop());
}
