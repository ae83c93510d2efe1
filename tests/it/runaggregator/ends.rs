//! How the program ends, and what it waits for.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testbed::leftovers::Dir;
use testbed::running::Running;
use testbed::streams::{exchange, expect_reset, finish, last_error, reset};
use testbed::wait::eventually;

use super::{Piped, here};

const WAIT: &str = "Please wait...\n";

#[test]
fn signals_let_open_connections_run_to_their_end() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut piped = Piped::new(&["--interval", "0.1"]);
        let (client, remote) = piped.connect();
        exchange(&client, &remote);
        piped.aggregator.running.signal(signal);
        piped.aggregator.said(WAIT, 1);
        eventually("new clients are refused", || {
            // A client that came in after all must not stay.
            TcpStream::connect(piped.entrance())
                .map(reset)
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        exchange(&client, &remote);
        piped.aggregator.running.expect_running();
        finish(client, remote);
        let finished = piped.aggregator.running.finish();
        finished.expect_status(0);
        finished.expect("stderr", finished.stderr.as_str(), WAIT);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut piped = Piped::new(&[]);
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    piped.aggregator.running.signal(Signal::INT);
    piped.aggregator.said(WAIT, 1);
    piped.aggregator.running.signal(Signal::INT);
    piped.aggregator.running.finish().expect_status(0);
    for end in [&client, &remote] {
        let how = last_error(end);
        assert!(matches!(how, None | Some(ErrorKind::ConnectionReset)), "{how:?}");
    }
}

#[test]
fn the_drain_timeout_cuts() {
    let piped = Piped::new(&["--drain-timeout", "0.3"]);
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    let begin = Instant::now();
    piped.aggregator.running.signal(Signal::INT);
    expect_reset(&client);
    let lasted = begin.elapsed();
    expect_reset(&remote);
    assert!(lasted >= Duration::from_millis(290), "cut after {lasted:?}");
    let finished = piped.aggregator.running.finish();
    finished.expect_status(0);
    let said = "runaggregator: 1 connection was cut after the drain timeout\n";
    finished.expect("what is said", finished.stderr.contains(said), true);
}

#[test]
fn a_command_that_runs_is_waited_for_until_the_drain_timeout() {
    let rule = "[Rule]\nprocess_filter=.\nin_threshold=0.001\nrepeat_interval=3600\n\
                notification_command=/bin/sleep 5\n";
    let options = ["--interval", "0.1", "--drain-timeout", "0.2"];
    let mut piped = Piped::with("", "", rule, &options);
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    finish(client, remote);
    piped.aggregator.said("exceeding", 1);
    let finished = piped.aggregator.running.stop();
    let said = "runaggregator: 1 command still runs after the drain timeout\n";
    finished.expect("what is said", finished.stderr.contains(said), true);
}

#[test]
fn a_count_waits_for_open_connections_too() {
    // Long enough for a client to come in before the end, on a busy machine too.
    let mut piped = Piped::new(&["--interval", "1", "--count", "4"]);
    let (client, remote) = piped.connect();
    piped.aggregator.said(WAIT, 1);
    exchange(&client, &remote);
    finish(client, remote);
    let finished = piped.aggregator.running.finish();
    finished.expect_status(0);
    let refreshes = super::screen::parse(&finished.stdout).unwrap();
    finished.expect("refreshes", refreshes.len(), 4);
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let dir = Dir::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let command = here(&dir, &["--source", "sockets", "--interval", "0.1"]);
    let running = Running::start_to(command, Stdio::from(writer));
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    let finished = running.finish();
    finished.expect_status(0);
    finished.expect("stderr", finished.stderr.replace(WAIT, "").as_str(), "");
}

#[test]
fn a_full_disk_is_one_message_and_all_else_goes_on() {
    let dir = Dir::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let command = here(&dir, &["--source", "sockets", "--interval", "0.1", "--count", "5"]);
    let finished = Running::start_to(command, Stdio::from(full)).finish();
    finished.expect_status(1);
    let said = "runaggregator: standard output: No space left on device (os error 28); what can't be \
                written is left out, and all else goes on\n";
    finished.expect("stderr", finished.stderr.replace(WAIT, "").as_str(), said);
}
