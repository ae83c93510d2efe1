//! What can go wrong before and beyond the pipe, and which words there are for it.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::finished::Finished;
use testbed::netns::{Net, PEER4, WATCHED4};
use testbed::ports::free_port;
use testbed::running::Running;
use testbed::streams::{LOCAL, Remote, connect, exchange, expect_reset, finish, listens, patient};
use testbed::wait::eventually;

use super::{PROGRAM, started};

/// The one line that a program which could not begin has said.
fn only_line(finished: &Finished) -> &str {
    finished.expect("stdout", finished.stdout.len(), 0);
    let line = finished.stderr.strip_suffix('\n').unwrap_or_default();
    if line.contains('\n') || !line.starts_with("runpipe: ") {
        finished.fail("expected one line of the program");
    }
    line
}

/// The lines on stderr about clients that were sent away.
fn closings(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains(" was closed: ")).collect()
}

#[test]
fn a_wrong_number_of_arguments_shows_the_two_forms() {
    for args in [&[][..], &["8080"], &["8080", "localhost", "80", "81"], &["--log"]] {
        let finished = started(args).finish();
        finished.expect_status(2);
        finished.expect("stdout", finished.stdout.len(), 0);
        finished.expect(
            "stderr",
            finished.stderr.as_str(),
            "usage: runpipe [OPTIONS] PORT HOST\n       \
             runpipe [OPTIONS] LOCALPORT HOST REMOTEPORT\n",
        );
    }
}

#[test]
fn wrong_arguments_are_told_in_one_line() {
    for (args, word) in [
        (&["0", "localhost"][..], "port"),
        (&["65536", "localhost"], "65536"),
        (&["http", "localhost"], "http"),
        (&["8080", "localhost", "-1"], "-1"),
        (&["8080", "localhost", "0"], "port"),
        (&["8080", ""], "host"),
        (&["8080", "example.com:80"], "example.com:80"),
        (&["8080", "a b"], "host"),
        (&["--bind", "somewhere", "8080", "localhost"], "--bind"),
        (&["--shape", "-1", "8080", "localhost"], "--shape"),
        (&["--shape", "fast", "8080", "localhost"], "--shape"),
        (&["--max-connections", "0", "8080", "localhost"], "--max-connections"),
        (&["--connect-timeout", "-1", "8080", "localhost"], "--connect-timeout"),
        (&["--count", "0", "8080", "localhost"], "--count"),
        (&["--frob", "8080", "localhost"], "--frob"),
    ] {
        let finished = started(args).finish();
        finished.expect_status(2);
        finished.expect(word, only_line(&finished).contains(word), true);
    }
}

#[test]
fn what_can_not_be_listened_on_is_told_in_one_line() {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    let free = free_port().to_string();
    for (args, word) in [
        (["--bind=127.0.0.1", taken.as_str()], format!("port {taken} is in use")),
        (["--interval=1", &taken], format!("port {taken} is in use")),
        (["--bind=192.0.2.1", &free], "192.0.2.1 is no address of this host".to_owned()),
    ] {
        let finished = started(&[args[0], args[1], "127.0.0.1"]).finish();
        finished.expect_status(1);
        finished.expect(&word, only_line(&finished).contains(&word), true);
    }
}

#[test]
fn a_refusing_remote_is_told_once_a_second_and_served_when_it_is_back() {
    let port = free_port();
    let remote: SocketAddr = (LOCAL, free_port()).into();
    let running = started(&[
        "--connect-timeout=1",
        &port.to_string(),
        "127.0.0.1",
        &remote.port().to_string(),
    ]);
    eventually("the program listens", || listens(running.pid(), port));
    let begin = Instant::now();
    for _ in 0..50 {
        match TcpStream::connect((LOCAL, port)) {
            Ok(client) => expect_reset(&patient(client)),
            // It can come before the call looks.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    let lasted = begin.elapsed();
    eventually("a line", || !closings(&running.stderr()).is_empty());
    let said = running.stderr();
    let lines = closings(&said);
    let reason = format!(" was closed: {remote}: ");
    assert!(lines[0].starts_with("runpipe: 127.0.0.1:") && lines[0].contains(&reason), "{said}");
    // One at once, and one for each second that is over.
    let most = 2 + begin.elapsed().as_secs() as usize;
    assert!(lines.len() <= most, "{} lines after {lasted:?}\n{said}", lines.len());

    let remote = Remote::at(remote);
    let client = connect((LOCAL, port).into());
    let served = remote.accept();
    exchange(&client, &served);
    finish(client, served);
    let finished = running.stop();
    // All fifty are accounted for: a line stands for itself and those that it says.
    let told: usize = closings(&finished.stderr)
        .iter()
        .map(|line| match line.rsplit_once(" (and ") {
            Some((_, rest)) => 1 + rest.trim_end_matches(" more)").parse::<usize>().unwrap(),
            None => 1,
        })
        .sum();
    finished.expect("clients that were told of", told, 50);
}

#[test]
fn a_name_that_does_not_resolve() {
    let Some(net) = Net::new() else { return };
    let port = free_port();
    let mut command = net.watched.command(PROGRAM);
    command.args([&port.to_string(), "nowhere.invalid"]);
    let running = Running::start(command);
    eventually("the program listens", || listens(running.pid(), port));
    reset_from(&net, port);
    eventually("a line", || !closings(&running.stderr()).is_empty());
    let finished = running.stop();
    let lines = closings(&finished.stderr);
    finished.expect("lines", lines.len(), 1);
    finished.expect("its words", lines[0].contains("nowhere.invalid does not resolve"), true);
}

/// A client in the peer, which has to be reset: while it reads, or as early as it connects.
fn reset_from(net: &Net, port: u16) {
    let script = format!(
        "import socket\ntry:\n client = socket.create_connection(('{WATCHED4}', {port}), 20)\n \
         print('end', client.recv(1))\nexcept ConnectionResetError:\n print('reset')\n"
    );
    let output = net.peer.command("/usr/bin/python3").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "reset\n", "{output:?}");
}

#[test]
fn a_remote_that_is_silent_is_given_up() {
    let Some(net) = Net::new() else { return };
    net.peer.nft(
        "table inet hole {\n chain input {\n  type filter hook input priority 0\n  \
         tcp dport 9 tcp flags syn drop\n }\n}\n",
    );
    let port = free_port();
    let mut command = net.watched.command(PROGRAM);
    command.args(["--connect-timeout", "0.3", &port.to_string(), PEER4, "9"]);
    let running = Running::start(command);
    eventually("the program listens", || listens(running.pid(), port));
    let begin = Instant::now();
    reset_from(&net, port);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    eventually("a line", || !closings(&running.stderr()).is_empty());
    let finished = running.stop();
    let lines = closings(&finished.stderr);
    finished.expect("lines", lines.len(), 1);
    finished.expect("its words", lines[0].contains("timed out"), true);
    finished.expect("its address", lines[0].contains(&format!(" {PEER4}:9: ")), true);
}

#[test]
fn of_several_addresses_the_one_that_answers_is_used() {
    // The mount needs root, as namespaces do.
    let Some(net) = Net::new() else { return };
    let remote = Remote::at(([127, 0, 0, 4], 0).into());
    let hosts = net.dir.join("hosts");
    let names: String = (2..5).map(|last| format!("127.0.0.{last} several.test\n")).collect();
    fs::write(&hosts, names).unwrap();
    let port = free_port();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(&hosts).arg(PROGRAM);
    command.args(["--log", &port.to_string(), "several.test"]);
    command.arg(remote.address().port().to_string());
    let running = Running::start(command);
    eventually("the program listens", || listens(running.pid(), port));
    // With an answer that is known the second time.
    for _ in 0..2 {
        let client = connect((LOCAL, port).into());
        let served = remote.accept();
        exchange(&client, &served);
        finish(client, served);
    }
    let finished = running.stop();
    let way = format!(" remote={} in=9 out=9 ", remote.address());
    let ways = finished.stderr.lines().filter(|line| line.contains(&way)).count();
    finished.expect("connections of the log", ways, 2);
}

/// Who vanishes without a word is found out on both sides.
#[test]
fn both_sockets_of_an_idle_connection_are_kept_alive() {
    let Some(net) = Net::new() else { return };
    let port = free_port();
    let mut command = net.watched.command(PROGRAM);
    command.args([&port.to_string(), PEER4, "9000"]);
    let running = Running::start(command);
    eventually("the program listens", || listens(running.pid(), port));
    let script = format!(
        "import socket, sys\nremote = socket.create_server(('', 9000))\n\
         client = socket.create_connection(('{WATCHED4}', {port}), 20)\n\
         served = remote.accept()[0]\nsys.stdin.read()\n"
    );
    let mut python = net.peer.command("/usr/bin/python3");
    let mut ends = python.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    eventually("keepalive on both sockets", || {
        let sockets = net.watched.run("ss -tnoH");
        let kept = |line: &&str| line.starts_with("ESTAB") && line.contains("timer:(keepalive");
        sockets.lines().filter(kept).count() == 2
    });
    drop(ends.stdin.take());
    assert!(ends.wait().unwrap().success());
    running.stop();
}
