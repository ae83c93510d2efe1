//! `--format json` and `--format csv`, as programs read them.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::leftovers::Dir;
use testbed::machine::{Snapshot, bytes, snapshots};
use testbed::netns::{Net, PEER4};
use testbed::ports::free_port;
use testbed::program::Program;
use testbed::running::Running;
use testbed::streams::{LOCAL, Remote, connect, exchange, finish, listens};
use testbed::truth::{Count, Truth};
use testbed::wait::eventually;

use crate::runaggregator::{FILES, write_files};
use crate::{RUNAGGREGATOR, RUNMONITOR, RUNPIPE};

const PROGRAMS: [Program; 3] = [RUNMONITOR, RUNPIPE, RUNAGGREGATOR];

/// What the program has printed so far, which has to be as the schema says.
fn printed(running: &Running) -> Vec<Snapshot> {
    snapshots(&running.stdout())
}

/// Has a client exchange bytes with a server in the peer's namespace.
fn client(net: &Net) -> (Endpoint, Endpoint) {
    let server = Endpoint::start(net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=300000 down=200000");
    (server, Endpoint::start(net, &net.watched, "client", &role))
}

/// Each source counts what it counts, and says whose it is.
fn counts(source: &str) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let (_server, mut client) = client(&net);
    let args = ["--source", source, "--interval", "0.2", "--format", "json", "--unattributed"];
    let running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    eventually("the first line", || !printed(&running).is_empty());
    // What moves to its process because that was read later is not recent any more.
    running.has_read();
    let payload = client.go();
    let truth = truth.settled()["client"];
    let expected = if source == "sockets" { payload } else { truth };
    let total = |snapshot: &Snapshot| snapshot.row("client").map(|row| bytes(&row["total"]));
    let last = || printed(&running).pop().unwrap();
    running.eventually("all bytes", || total(&last()) == Some(expected));
    let all = printed(&running);
    for (number, snapshot) in all.iter().enumerate() {
        assert_eq!(snapshot.seq(), number as u64 + 1);
        assert_eq!(snapshot.0["source"], source);
        for what in ["total", "recent"] {
            assert_eq!(snapshot.sum(what), bytes(&snapshot.0["counted"][what]), "{what}");
        }
    }
    // What is recent adds up to the total, beside what was there at the start.
    let recent = all[1..].iter().filter_map(|snapshot| snapshot.row("client"));
    let recent = recent.fold(Bytes::default(), |sum, row| sum + bytes(&row["recent"]));
    assert_eq!(recent + total(&all[0]).unwrap_or_default(), expected);
    let row = last();
    let row = row.row("client").unwrap();
    assert_eq!(row["kind"], "process");
    let [process] = &row["processes"].as_array().unwrap()[..] else { panic!("{row}") };
    assert_eq!(process["pid"], client.pid());
    assert_eq!(process["user"], "root");
    assert_eq!(process["cmdline"][1], "workload.py");
    let link = fs::read_link(format!("/proc/{}/ns/net", client.pid())).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("net:[{}]", process["netns"]));
    let exe = fs::read_link(format!("/proc/{}/exe", client.pid())).unwrap();
    assert_eq!(process["exe"], exe.to_str().unwrap());
    running.stop();
}

#[test]
fn ebpf_as_json() {
    counts("ebpf");
}

#[test]
fn conntrack_as_json() {
    counts("conntrack");
}

#[test]
fn sockets_as_json() {
    counts("sockets");
}

/// `--count 1 --format json` is all that a script needs.
#[test]
fn one_snapshot_is_complete() {
    let Some(net) = Net::new() else { return };
    let (_server, mut client) = client(&net);
    client.go();
    let args = ["--source", "sockets", "--count", "1", "--format", "json"];
    let finished = Running::start(RUNMONITOR.inside(&net.watched, &args)).finish();
    finished.expect_status(0);
    let [snapshot] = &snapshots(&finished.stdout)[..] else { finished.fail("one line") };
    assert!(snapshot.row("client").is_some(), "{}", snapshot.0);
}

/// A pipe, and a remote behind it.
fn piped(args: &[&str]) -> (Running, Remote, u16) {
    let (remote, port) = (Remote::new(), free_port());
    let mut command = Command::new(RUNPIPE.path);
    let remote_port = remote.address().port().to_string();
    command.args(["--interval", "0.1"]).args(args);
    command.args([&port.to_string(), "127.0.0.1", &remote_port]);
    let running = Running::start(command);
    eventually("the program listens", || listens(running.pid(), port));
    (running, remote, port)
}

#[test]
fn a_pipe_as_json() {
    let (running, remote, port) = piped(&["--format", "json"]);
    let client = connect((LOCAL, port).into());
    let accepted = remote.accept();
    exchange(&client, &accepted);
    let row = || printed(&running).pop()?.rows().first().cloned();
    running.eventually("the pipe's row", || {
        row().is_some_and(|row| row["kind"] == "pipe" && row["total"]["rx_bytes"] != 0)
    });
    finish(client, accepted);
    let finished = running.stop();
    let all = snapshots(&finished.stdout);
    assert_eq!(all[0].0["source"], Value::Null);
    assert!(all.windows(2).all(|pair| pair[1].seq() == pair[0].seq() + 1));
}

/// The clients of a pipe are its remote ends. Those that have left stay.
#[test]
fn a_pipe_tells_its_clients() {
    let (running, remote, port) = piped(&["--format", "json", "--details", "--by", "remote"]);
    let hosts = [LOCAL, Ipv6Addr::LOCALHOST.into()];
    for (host, times) in hosts.into_iter().zip([2, 1]) {
        let client = connect((host, port).into());
        let accepted = remote.accept();
        (0..times).for_each(|_| exchange(&client, &accepted));
        finish(client, accepted);
    }
    let last = || printed(&running).pop();
    let client = |host: IpAddr| {
        let last = last()?;
        let is_it = |row: &&Value| row["group"]["remote"] == host.to_string();
        last.rows().iter().find(is_it).cloned()
    };
    for (host, bytes) in hosts.into_iter().zip([18, 9]) {
        let total = json!({"rx_bytes": bytes, "tx_bytes": bytes});
        running.eventually("its bytes", || client(host).is_some_and(|row| row["total"] == total));
        let detail = client(host).unwrap()["details"][0].clone();
        assert_eq!(detail["remote_address"], host.to_string());
        assert_eq!((&detail["local_port"], &detail["remote_port"]), (&json!(port), &Value::Null));
        assert_eq!(detail["total"], total);
    }
    assert_eq!(last().unwrap().rows().len(), 2, "a row for each client");
    running.stop();
}

#[test]
fn the_aggregator_as_json_tells_alerts() {
    let Some(net) = Net::new() else { return };
    let dir = Dir::new();
    let monitors = "[Host]\ntype=monitor\nsource=sockets\n";
    let rule = "[Busy]\nprocess_filter=client\nin_threshold=0.001\ninterval=1\n\
                notification_command=/bin/true\n";
    write_files(&dir.0, monitors, "", rule);
    let (_server, mut client) = client(&net);
    let mut command =
        RUNAGGREGATOR.inside(&net.watched, &["--interval", "0.2", "--format", "json"]);
    command.args(FILES).current_dir(&dir.0);
    let running = Running::start(command);
    eventually("the first line", || !printed(&running).is_empty());
    client.go();
    let alert = || printed(&running).into_iter().find_map(|s| s.0["alerts"].get(0).cloned());
    running.eventually("an alert", || alert().is_some());
    let alert = alert().unwrap();
    assert_eq!((&alert["rule"], &alert["state"]), (&"Busy".into(), &"firing".into()));
    running.stop();
}

#[test]
fn csv_has_one_header_and_the_same_figures() {
    let Some(net) = Net::new() else { return };
    let (_server, mut client) = client(&net);
    let args = ["--source", "sockets", "--interval", "0.2", "--format", "csv"];
    let running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    let payload = client.go();
    let (received, sent) = (payload.received.to_string(), payload.sent.to_string());
    let records = || -> Vec<csv::StringRecord> {
        let output = running.stdout();
        let end = output.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        csv::Reader::from_reader(&output[..end]).records().map(Result::unwrap).collect()
    };
    let is_it =
        |record: &csv::StringRecord| record[5] == *"process" && record[6].contains("client");
    running.eventually("all bytes", || {
        records().iter().any(|record| is_it(record) && record[7] == received && record[8] == sent)
    });
    let pid = client.pid().to_string();
    assert!(records().iter().filter(|record| is_it(record)).all(|record| record[11] == pid));
    let finished = running.stop();
    let text = String::from_utf8(finished.stdout).unwrap();
    assert_eq!(text.matches("total_rx_bytes").count(), 1);
    assert!(text.starts_with("seq,at,") && text.ends_with("\r\n"), "{text}");
}

/// A name that is no text, would do something to a terminal, or looks like a formula.
#[test]
fn hostile_names_are_data() {
    let Some(net) = Net::new() else { return };
    let (_server, _client) = client(&net);
    let script = "import os, socket, sys\n\
                  s = socket.create_connection((sys.argv[1], 9000)); s.send(b'x'); sys.stdin.read()";
    let name = b"=cmd\x1b]0;x\x07\xff\xc2\x9b,\"\n";
    let mut command = net.watched.command("python3");
    command.args(["-c", script, PEER4]).arg(OsStr::from_bytes(name)).stdin(Stdio::piped());
    let mut hostile = command.spawn().unwrap();
    for format in ["json", "csv"] {
        let args = ["--source", "sockets", "--interval", "0.2", "--format", format];
        let running = Running::start(RUNMONITOR.inside(&net.watched, &args));
        running.eventually("the name", || {
            String::from_utf8_lossy(&running.stdout()).contains("=cmd")
                || running.stdout().windows(8).any(|at| at == b"61,99,10")
        });
        let output = running.stop().stdout;
        let text = String::from_utf8(output).expect("it is UTF-8");
        let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r');
        assert!(text.chars().all(is_plain), "{text:?}");
    }
    hostile.kill().unwrap();
    hostile.wait().unwrap();
}

/// Long enough for a timeout to show, if there were one.
const PAUSE: Duration = Duration::from_secs(30);

/// A reader that pauses misses whole refreshes, which `seq` shows and standard error says once.
#[test]
fn a_reader_that_pauses_misses_whole_snapshots() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(RUNMONITOR.path);
    command.args(["--source", "sockets", "--netns", "own", "--interval", "0.01"]);
    command.args(["--format", "json"]);
    let running = Running::start_on(command, writer.into(), Stdio::piped());
    let said = "runmonitor: standard output is not read fast enough: refreshes are left out, each as a whole\n";
    let mut lines = BufReader::new(reader).split(b'\n').map(Result::unwrap);
    let mut last = lines.next().map(|line| Snapshot::read(&line).seq());
    std::thread::sleep(PAUSE);
    eventually("refreshes are left out", || running.stderr().contains(said));
    let jumped = lines.by_ref().take(10_000).any(|line| {
        let seq = Snapshot::read(&line).seq();
        let before = last.replace(seq);
        before.is_some_and(|before| seq > before + 1)
    });
    assert!(jumped, "no snapshot is missing");
    // From then on it is read as it comes.
    let next: Vec<u64> = lines.by_ref().take(3).map(|line| Snapshot::read(&line).seq()).collect();
    assert!(next.is_sorted());
    running.signal(rustix::process::Signal::TERM);
    lines.for_each(drop);
    let finished = running.finish();
    finished.expect_status(0);
    assert_eq!(finished.stderr.matches(said).count(), 1);
}

/// Who reads no more ends it: a pipe to `head`, or a reader that is killed.
#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    for format in ["json", "csv"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(RUNMONITOR.path);
        command.args(["--source", "sockets", "--netns", "own", "--interval", "0.05"]);
        command.args(["--format", format, "--unattributed"]);
        let running = Running::start_on(command, writer.into(), Stdio::piped());
        if format == "json" {
            reader.read_exact(&mut [0]).unwrap();
        }
        drop(reader);
        // Something has to be written to notice.
        let remote = Remote::new();
        let client = connect(remote.address());
        exchange(&client, &remote.accept());
        let finished = running.finish();
        finished.expect_status(0);
        assert_eq!(finished.stderr, "");
    }
}

#[test]
fn a_full_disk_is_said() {
    let disk = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(RUNMONITOR.path);
    command.args(["--source", "sockets", "--netns", "own", "--interval", "0.05"]);
    command.args(["--format", "json"]);
    let finished = Running::start_on(command, disk.into(), Stdio::piped()).finish();
    finished.expect_status(1);
    finished.expect_one_message("standard output: No space left on device");
}

#[test]
fn wrong_flags_are_one_line() {
    for program in PROGRAMS {
        for (args, part) in [
            (&["--format", "xml"][..], "invalid value 'xml' for '--format <FORMAT>'"),
            (&["--format", "json", "--units", "si-bits"], "--units si-bits is for --format text"),
            (&["--units", "bytes"], "invalid value 'bytes' for '--units <FAMILY>'"),
        ] {
            let mut command = Command::new(program.path);
            command.args(args);
            if program.path == RUNPIPE.path {
                command.args(["1", "127.0.0.1"]);
            }
            let finished = Running::start(command).finish();
            finished.expect_status(2);
            assert!(finished.stderr.contains(part), "{args:?}: {}", finished.stderr);
            assert_eq!(finished.stdout, b"");
        }
    }
}

#[test]
fn units_are_shown() {
    let (running, remote, port) = piped(&["--units", "bin-bits"]);
    let client = connect((LOCAL, port).into());
    let accepted = remote.accept();
    exchange(&client, &accepted);
    running.eventually("bits", || String::from_utf8_lossy(&running.stdout()).contains("bit / "));
    finish(client, accepted);
    running.stop();
}

/// The manual's examples do what it says, in their order.
#[test]
fn examples_of_the_manual_work() {
    let Some(net) = Net::new() else { return };
    let (_server, mut client) = client(&net);
    client.go();
    let manual = include_str!("../../doc/user-manual.md");
    let chapter = manual.split("## Output for programs").nth(1).unwrap();
    let examples: Vec<String> = chapter
        .split("\n\n")
        .filter(|block| block.lines().all(|line| line.starts_with("    ")))
        .filter(|block| block.contains("| jq") || block.contains("|\n        jq"))
        .map(|block| block.replace("sudo runmonitor", "\"$RUNMONITOR\" --netns own --source ebpf"))
        .collect();
    assert!(examples.len() == 4, "{examples:?}");
    // Without -a jq prints the control characters of a name raw.
    for example in &examples[..3] {
        assert!(example.contains("jq -ac '"), "{example}");
    }
    let run = |example: &String| {
        let mut command = net.watched.command("sh");
        command.args(["-ec", example]).env("RUNMONITOR", RUNMONITOR.path);
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{example}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&examples[0]).contains("workload.py client"));
    let end = format!(r#""to":"{PEER4}","over":"peer","name":""#);
    for (example, expected) in
        examples[1..].iter().zip([r#"{"user":"root","rx_bytes_per_second":"#, &end])
    {
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run(example));
            while !running.is_finished() {
                client.go();
                std::thread::sleep(Duration::from_millis(50));
            }
            let printed = running.join().unwrap();
            assert!(printed.contains(expected), "{example}\n{printed}");
        });
    }
    assert_eq!(run(&examples[3]), "true\n");
}
