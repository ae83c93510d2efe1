//! The list as it is written: which lines there are, in which form, and when.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use testbed::endpoint::Endpoint;
use testbed::leftovers::Dir;
use testbed::netns::{FAR4, Net, PEER4, WATCHED4};
use testbed::running::Running;

use super::{Aggregator, here, inside};

const SERVER: &str = "tcp-server mode=threaded port=9000";

/// A client of the server.
fn client(net: &Net, name: impl AsRef<OsStr>, exchange: &str) -> Endpoint {
    let role = format!("tcp-client host={PEER4} port=9000 {exchange}");
    Endpoint::start_as(net, &net.watched, &[], name, &role)
}

#[test]
fn only_what_is_busy_is_shown_unless_all_is_asked_for() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", SERVER);
    // Fewer than 200 bytes each way, in whatever time.
    let mut quiet = client(&net, "quiet", "up=0");
    let mut busy = client(&net, "busy", "up=500000 down=250000 seconds=2");
    let mut other = client(&net, "other", "down=900000 seconds=2");
    let mut programs = [&[][..], &["--all"]].map(|args| Aggregator::watching(&net, args));
    busy.begin();
    other.begin();
    quiet.go();
    busy.done();
    other.done();
    for (program, is_all) in programs.iter_mut().zip([false, true]) {
        program.wait_for("/usr/bin/python3 workload.py busy ");
        program.wait_for("/usr/bin/python3 workload.py other ");
        program.settle();
        let lines = program.lines();
        let has = |name: &str| lines.iter().any(|line| line.name.contains(name));
        program.running.expect("the quiet one is shown", has("quiet"), is_all);
        // What is rounded to 1.00 may be more than that.
        let is_busy = lines.iter().all(|line| line.received >= 1.0 || line.sent >= 1.0);
        program.running.expect("every line is busy", is_busy, !is_all);
    }
    for program in programs {
        program.running.stop();
    }
}

#[test]
fn a_hostile_command_line_arrives_escaped() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", SERVER);
    // The parser refuses control characters, and lines that are not of the form.
    let name = OsStr::from_bytes(b"h-\x1b[2J\n1 KiB\xff");
    let mut client = client(&net, name, "up=50000");
    let mut program = Aggregator::watching(&net, &[]);
    client.go();
    program.wait_for(r"/usr/bin/python3 workload.py h-\x1b[2J\n1 KiB\xff tc");
    program.running.stop();
}

#[test]
fn nothing_comes_before_one_interval_and_what_was_before_has_no_rate() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", SERVER);
    let mut client = client(&net, "before", "up=3000000");
    client.go();
    let begin = Instant::now();
    let args = ["--source", "conntrack", "--interval", "1.5", "--all", "--count", "2"];
    let mut program = Aggregator::start(inside(&net, &args));
    program.wait("the first refresh", |refreshes| !refreshes.is_empty());
    let first = program.running.stdout_arrival(1);
    assert!(first - begin >= Duration::from_millis(1500), "after {:?}", first - begin);
    let shown = program.lines();
    // An acknowledgement may have been late.
    assert!(shown.iter().all(|line| line.sent < 10.0), "{shown:?}");
    program.running.finish().expect_status(0);
}

#[test]
fn a_count_ends_after_so_many_refreshes() {
    let dir = Dir::new();
    let args = ["--source", "sockets", "--interval", "0.05", "--count", "3"];
    let finished = Running::start(here(&dir, &args)).finish();
    finished.expect_status(0);
    let refreshes =
        super::screen::parse(&finished.stdout).unwrap_or_else(|why| finished.fail(&why));
    finished.expect("refreshes", refreshes.len(), 3);
}

#[test]
fn bytes_without_a_process_have_lines_where_they_are_asked_for() {
    let Some(net) = Net::routed() else { return };
    let far = net.far.as_ref().unwrap();
    let _server = Endpoint::start(&net, far, "server", SERVER);
    let mut programs = [&["--unattributed"][..], &[]].map(|args| Aggregator::watching(&net, args));
    let role = format!("tcp-client host={FAR4} port=9000 up=100000 down=300000");
    let mut through = Endpoint::start(&net, &net.peer, "through", &role);
    let role = format!("ping host={WATCHED4} size=1000 count=50");
    let mut ping = Endpoint::start(&net, &net.peer, "ping", &role);
    through.go();
    ping.go();
    let [with, without] = &mut programs;
    with.wait_for("(forwarded)");
    with.wait_for("(kernel)");
    without.settle();
    let shown = without.lines();
    assert!(shown.is_empty(), "{shown:?}");
    for program in programs {
        program.running.stop();
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let dir = Dir::new();
    for (flag, part) in [("--help", "--notification-config"), ("--version", "runaggregator ")] {
        // Whatever the files are.
        let finished = Running::start(here(&dir, &["--app-config", "missing", flag])).finish();
        finished.expect_status(0);
        finished.expect("stderr", finished.stderr.as_str(), "");
        finished.expect(part, String::from_utf8_lossy(&finished.stdout).contains(part), true);
    }
}
