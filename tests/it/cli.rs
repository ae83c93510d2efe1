//! Wrong input, closed pipes, signals.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use testbed::endpoint::Endpoint;
use testbed::finished::Finished;
use testbed::netns::{Net, PEER4};
use testbed::running::Running;

use crate::RUNMONITOR;

fn run(args: &[&str]) -> Finished {
    Running::start(RUNMONITOR.here(args)).finish()
}

#[test]
fn version_and_help_are_told_on_stdout() {
    let version = run(&["--version"]);
    version.expect_status(0);
    let expected = format!("runmonitor {}\n", env!("CARGO_PKG_VERSION"));
    version.expect("stdout", String::from_utf8_lossy(&version.stdout).as_ref(), expected.as_str());

    let help = run(&["--help"]);
    help.expect_status(0);
    help.expect("stderr", help.stderr.as_str(), "");
    let text = String::from_utf8_lossy(&help.stdout);
    for flag in [
        "--include",
        "--exclude",
        "--bandwidth",
        "--no-lookback",
        "--ignore-local",
        "--source",
        "--interval",
        "--count",
        "--unattributed",
        "--enable-accounting",
        "--check",
        "--version",
    ] {
        help.expect(flag, text.contains(flag), true);
    }
}

/// Each is refused before anything is done, with a word on what is wrong.
#[test]
fn wrong_usage_ends_with_status_2() {
    for (args, word) in [
        (&["--include", "("][..], "--include"),
        (&["--exclude", "a{2,1}"], "--exclude"),
        (&["--include", r"a(?=b)"], "--include"),
        (&["--include"], "--include"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--in", "1"], "--in"),
        (&["--interval", "0"], "--interval"),
        (&["--interval", "-1"], "--interval"),
        (&["--interval", "nan"], "--interval"),
        (&["--interval", "inf"], "--interval"),
        (&["--interval", "1e300"], "--interval"),
        (&["--interval", "x"], "--interval"),
        (&["--count", "0"], "--count"),
        (&["--count", "-1"], "-1"),
        (&["--count", "1.5"], "--count"),
        (&["--count", "99999999999999999999999"], "--count"),
        (&["--source", "ebpf-or-so"], "--source"),
        (&["a-word"], "a-word"),
    ] {
        let finished = run(args);
        finished.expect_status(2);
        finished.expect("stdout", finished.stdout.len(), 0);
        finished.expect(&format!("{word:?} in stderr"), finished.stderr.contains(word), true);
        finished.expect("a panic", finished.stderr.contains("panicked"), false);
    }
}

#[test]
fn count_is_the_number_of_refreshes() {
    let finished = run(&["--source", "sockets", "--count", "3", "--interval", "0.05"]);
    finished.expect_status(0);
    finished.expect("refreshes", finished.refreshes().len(), 3);
}

/// A client's traffic, so that there are lines.
fn with_traffic(test: impl Fn(&Net)) {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=5000");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    client.go();
    test(&net);
}

#[test]
fn a_pipe_that_its_reader_closes_is_a_normal_end() {
    with_traffic(|net| {
        for source in ["conntrack", "sockets"] {
            let (reader, writer) = std::io::pipe().unwrap();
            let command =
                RUNMONITOR.inside(&net.watched, &["--source", source, "--interval", "0.05"]);
            let running = Running::start_to(command, Stdio::from(writer));
            // Like `head -n 1` or, where the first refresh is due before everything is read, a few lines more.
            let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
            let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
            drop(lines);
            let finished = running.finish();
            finished.expect_status(0);
            finished.expect("stderr", finished.stderr.as_str(), "");
            finished.expect("the line is the client's", line.contains(" client "), true);
        }
    });
}

#[test]
fn a_full_disk_is_an_error() {
    with_traffic(|net| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let command = RUNMONITOR.inside(&net.watched, &["--source", "sockets", "--count", "1"]);
        let finished = Running::start_to(command, Stdio::from(full)).finish();
        finished.expect_status(1);
        finished.expect("messages", finished.messages("").len(), 1);
    });
}

fn ends_cleanly_on(signal: Signal) {
    with_traffic(|net| {
        // The long interval: the end may not wait for the next refresh.
        for (source, interval) in [("conntrack", "0.1"), ("sockets", "0.1"), ("sockets", "3600")] {
            let args = ["--source", source, "--interval", interval];
            let mut running = Running::start(RUNMONITOR.inside(&net.watched, &args));
            running.refreshes(1);
            running.signal(signal);
            let finished = running.finish();
            finished.expect_status(0);
            finished.expect("stderr", finished.stderr.as_str(), "");
            // One that came before anything was read is empty.
            let whole = finished.stdout.ends_with(b"\n\n") || finished.stdout == b"\n";
            finished.expect("whole refreshes only", whole, true);
        }
    });
}

#[test]
fn sigint_is_a_clean_end() {
    ends_cleanly_on(Signal::INT);
}

#[test]
fn sigterm_is_a_clean_end() {
    ends_cleanly_on(Signal::TERM);
}
