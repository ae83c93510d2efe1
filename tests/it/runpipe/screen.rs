//! What the program shows, says and logs, and how it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::process::Signal;
use testbed::bytes::Bytes;
use testbed::lines::{Line, Refresh};
use testbed::ports::free_port;
use testbed::programs::PYTHON;
use testbed::running::Running;
use testbed::streams::{
    LOCAL, Remote, connect, exchange, expect_reset, finish, last_error, listens, reset,
};
use testbed::terminal::{Seen, on_terminal};
use testbed::wait::eventually;

use super::{PROGRAM, Piped};
use crate::RUNPIPE;

const WAITING: &str = "Waiting for threads to finish...";
const QUICK: [&str; 2] = ["--interval", "0.1"];

/// Moves so many bytes and waits until they came.
fn send(mut from: &TcpStream, mut to: &TcpStream, length: usize) {
    from.write_all(&vec![b'x'; length]).unwrap();
    to.read_exact(&mut vec![0; length]).unwrap();
}

/// The refresh with the pipe's line alone.
fn only(piped: &Piped, received: u64, sent: u64) -> Refresh {
    let bytes = Bytes::new(received, sent);
    Refresh { lines: vec![Line { bytes, command: piped.name() }] }
}

#[test]
fn nothing_is_shown_until_there_are_bytes_and_then_one_line() {
    let mut piped = Piped::new(&QUICK);
    let (client, remote) = piped.connect();
    let empty = piped.running.refreshes(2);
    assert!(empty.iter().all(|refresh| refresh.lines.is_empty()), "{empty:?}");
    send(&client, &remote, 1_000);
    send(&remote, &client, 10);
    let expected = only(&piped, 1_000, 10);
    piped.running.wait_until("the line", |refresh| *refresh == expected);
    finish(client, remote);
    assert_eq!(piped.running.stop().refreshes().last(), Some(&expected));
}

#[test]
fn ctrl_c_lets_open_connections_run_to_their_end() {
    let piped = Piped::new(&QUICK);
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    piped.running.signal(Signal::INT);
    piped.expect_said(WAITING);
    eventually("new clients are refused", || {
        // A client that came in after all must not stay: its end at the remote is never accepted.
        TcpStream::connect(piped.entrance())
            .map(reset)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    exchange(&client, &remote);
    send(&remote, &client, 100_000);
    let last = only(&piped, 18, 100_018);
    finish(client, remote);
    let finished = piped.running.finish();
    finished.expect_status(0);
    assert_eq!(finished.refreshes().last(), Some(&last));
    finished.expect("stderr", finished.stderr.as_str(), &format!("{WAITING}\n"));
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let piped = Piped::new(&QUICK);
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    piped.running.signal(Signal::INT);
    piped.expect_said(WAITING);
    exchange(&client, &remote);
    piped.running.signal(Signal::INT);
    piped.running.finish().expect_status(0);
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
    piped.running.signal(Signal::INT);
    expect_reset(&client);
    let lasted = begin.elapsed();
    expect_reset(&remote);
    assert!(lasted >= Duration::from_millis(290), "cut after {lasted:?}");
    let finished = piped.running.finish();
    finished.expect_status(0);
    finished.expect("what is said", finished.stderr.contains("1 connection was cut"), true);
}

#[test]
fn a_count_ends_after_so_many_refreshes() {
    let piped = Piped::new(&["--interval", "8", "--count", "2"]);
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    finish(client, remote);
    let expected = only(&piped, 9, 9);
    let finished = piped.running.finish();
    finished.expect_status(0);
    let refreshes = finished.refreshes();
    finished.expect("refreshes", refreshes.len(), 2);
    assert_eq!(refreshes[1], expected);
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    let port = free_port().to_string();
    let mut command = Command::new(PROGRAM);
    command.args(QUICK).args([port.as_str(), "127.0.0.1", "9"]);
    let running = Running::start_to(command, Stdio::from(writer));
    let mut reader = reader;
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    let finished = running.finish();
    finished.expect_status(0);
    finished.expect("a word on it", finished.stderr.contains("roken pipe"), false);
}

/// Fails unless the only line of the log is of this connection, and ended so.
fn expect_logged(piped: Piped, client: SocketAddr, bytes: (u64, u64), end: &str) {
    piped.expect_said("end=");
    let remote = piped.remote.address();
    let finished = piped.running.stop();
    let (received, sent) = bytes;
    let form = format!(
        r"\A\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}[+-]\d\d:\d\d client={} remote={} in={received} out={sent} seconds=\d+\.\d{{3}} end={end}\n{}\n\z",
        regex::escape(&client.to_string()),
        regex::escape(&remote.to_string()),
        regex::escape(WAITING),
    );
    if !Regex::new(&form).unwrap().is_match(&finished.stderr) {
        finished.fail(&form);
    }
}

#[test]
fn the_log_has_a_connection_that_was_closed() {
    let piped = Piped::new(&["--log"]);
    let (client, remote) = piped.connect();
    let address = client.local_addr().unwrap();
    send(&client, &remote, 123);
    send(&remote, &client, 100_456);
    finish(client, remote);
    expect_logged(piped, address, (123, 100_456), "closed");
}

#[test]
fn the_log_has_connections_that_were_reset() {
    for by_client in [true, false] {
        let piped = Piped::new(&["--log"]);
        let (client, remote) = piped.connect();
        let address = client.local_addr().unwrap();
        send(&client, &remote, 7);
        send(&remote, &client, 8);
        let (breaks, other, end) = match by_client {
            true => (client, remote, "reset-by-client"),
            false => (remote, client, "reset-by-remote"),
        };
        reset(breaks);
        expect_reset(&other);
        expect_logged(piped, address, (7, 8), end);
    }
}

#[test]
fn a_terminal_is_cleared_before_the_line() {
    let remote = Remote::new();
    let (port, remote_port) = (free_port(), remote.address().port());
    let mut command = Command::new(PYTHON);
    on_terminal(&mut command, [[24, 80], [20, 70]], RUNPIPE);
    command.args(["--interval", "0.7", &port.to_string(), "127.0.0.1", &remote_port.to_string()]);
    let hold = std::env::temp_dir().join(format!("bwmon-it-{}-hold{port}", std::process::id()));
    command.env("HOLD", &hold);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the program listens", || listens(child.id(), port));
    let client = connect((LOCAL, port).into());
    let served = remote.accept();
    exchange(&client, &served);
    finish(client, served);
    std::fs::write(&hold, "").unwrap();
    let output = child.wait_with_output().unwrap();
    std::fs::remove_file(&hold).unwrap();
    let seen = Seen::of(&output);
    let line = format!("         9 /          9 -- pipe-{port}:127.0.0.1:{remote_port}\r\n");
    // A frame is what comes between two clear sequences. The first ones may be older than the
    // bytes.
    let frames = seen.frames.concat();
    assert!(frames.len() >= 4, "{frames:#?}");
    assert!(frames[frames.len() - 2..].iter().all(|frame| *frame == line), "{line:?}\n{frames:#?}");
    seen.expect_clean_end();
}
