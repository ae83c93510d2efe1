//! SIGHUP: the files are read again while traffic goes on.

use std::io::{Read, Write};

use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::leftovers::Dir;
use testbed::netns::{Net, PEER4, WATCHED4};
use testbed::streams::{finish, listens};
use testbed::truth::{Count, Truth};
use testbed::wait::eventually;

use super::{Aggregator, FILES, Piped, here, pipe, write, write_files};

const ANEW: &str = "runaggregator: the configuration was read again\n";
const AS_IT_WAS: &str = "runaggregator: the configuration stays as it was\n";
const MONITOR: &str = "[All]\ntype=monitor\n";
/// Another address of the peer.
const OTHER: &str = "10.77.0.3";

fn client(net: &Net, name: &str, port: u16, exchange: &str) -> Endpoint {
    let role = format!("tcp-client host={WATCHED4} port={port} {exchange}");
    Endpoint::start(net, &net.peer, name, &role)
}

fn server(net: &Net, name: &str, host: &str) -> Endpoint {
    let role = format!("tcp-server mode=forking host={host} port=9000");
    Endpoint::start(net, &net.peer, &format!("{name}-parent"), &role)
}

fn both(bytes: Bytes) -> [u64; 2] {
    [bytes.received, bytes.sent]
}

#[test]
fn everything_may_change_and_no_byte_is_lost_or_doubled() {
    let Some(net) = Net::new() else { return };
    net.peer.run(&format!("ip address add {OTHER}/24 dev watched"));
    let rule = |threshold| {
        format!("[Rule]\nprocess_filter=^Direct\nout_threshold={threshold}\nrepeat_interval=3600\n")
    };
    write_files(
        &net.dir,
        &format!("{MONITOR}{}{}", pipe(8001, PEER4, 9000), pipe(8002, PEER4, 9000)),
        "[Direct before]\na=workload\\.py direct\n",
        &rule(100_000),
    );
    let truth = Truth::start(&net.watched, &[Count::client("direct", "tcp", 9001)]);
    let _first = server(&net, "first", PEER4);
    let mut second = server(&net, "second", OTHER);
    let _direct_server =
        Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9001");
    let each_second = ["--interval", "1"];
    let mut program = Aggregator::watching(&net, &[&FILES[..], &each_second].concat());
    let exchange = "up=600000 down=300000 seconds=1.5";
    let mut moved = client(&net, "moved", 8001, exchange);
    let mut removed = client(&net, "removed", 8002, exchange);
    let role = format!("tcp-client host={PEER4} port=9001 up=2500000 down=1500000 seconds=8");
    let mut direct = Endpoint::start(&net, &net.watched, "direct", &role);
    program.settle();
    direct.begin();
    moved.begin();
    removed.begin();
    moved.done();
    removed.done();
    program.wait_for("Direct before");
    program.running.expect("an alert", program.running.stderr().contains("exceeding"), false);

    write_files(
        &net.dir,
        &format!("{MONITOR}{}", pipe(8001, OTHER, 9000)),
        "[Direct after]\na=workload\\.py direct\n",
        &rule(1),
    );
    program.reload(ANEW);
    program.said("Direct after exceeding 'out' bandwidth limit       1.00", 1);
    // Open connections go on to where they were, new ones to the other remote or nowhere.
    let new = client(&net, "new", 8001, exchange);
    second.wait_for("ACCEPTED");
    let is_listened_on = listens(program.running.pid(), 8002);
    program.running.expect("port 8002 is listened on", is_listened_on, false);
    let mut clients = [moved, removed, new];
    clients.iter_mut().for_each(Endpoint::begin);
    let payloads = clients.each_mut().map(Endpoint::done);
    clients.iter_mut().for_each(Endpoint::close);
    direct.done();
    let truth = truth.settled();
    program.settle();

    let names = [
        format!("pipe-8001:{PEER4}:9000"),
        format!("pipe-8002:{PEER4}:9000"),
        format!("pipe-8001:{OTHER}:9000"),
    ];
    for (expected, payload) in names.iter().zip(payloads) {
        program.expect_bytes(expected, |name| name == expected, both(payload.swapped()));
    }
    program.expect_bytes("both", |name| name.starts_with("Direct "), both(truth["direct"]));
    let last = program.lines().iter().rev().find(|line| line.name.starts_with("Direct ")).cloned();
    assert_eq!(last.map(|line| line.name).as_deref(), Some("Direct after"));
    let finished = program.running.stop();
    finished.expect("what was refused", finished.stderr.contains("was closed"), false);
}

/// Each of these is refused, and then everything is as before.
#[test]
fn a_bad_file_changes_nothing() {
    let Some(net) = Net::new() else { return };
    let monitors = format!("{MONITOR}{}", pipe(8001, PEER4, 9000));
    let application = "[Piped]\na=^pipe-\n";
    let rule = "[Rule]\nprocess_filter=^Piped$\nin_threshold=1\nrepeat_interval=0\n";
    let good = || write_files(&net.dir, &monitors, application, rule);
    good();
    let _server = server(&net, "server", PEER4);
    let _taken = Endpoint::start(&net, &net.watched, "taken", "tcp-server port=9005");
    let mut program = Aggregator::watching(&net, &FILES);
    let mut open = client(&net, "open", 8001, "up=100000");

    let wrong = [
        "monitors.cfg:4: [Other] type: bad value 'pip'; expected monitor or pipe; did you mean pipe?\n",
        "applications.cfg:2: [Changed] a: ",
        "notifications.cfg:4: [New] in_treshold: unknown key; did you mean in_threshold?\n",
        "notifications.cfg:5: [New] interval: bad value 'x'; ",
    ];
    let taken =
        ["runaggregator: [Pipe 9005]: port 9005 is in use; take another one, or end the program \
         that listens on it (ss -tlnp shows which)\n"];
    let vanished = ["runaggregator: applications.cfg: can't be read: No such file or directory"];
    let moved = [
        "runaggregator: [Pipe 8001]: the address that a port is listened on can't be changed while \
         it is; end the program and start it again\n",
    ];
    let changes: [(&[&str], &dyn Fn()); 4] = [
        (&wrong, &|| {
            write_files(
                &net.dir,
                &format!("{MONITOR}[Other]\ntype=pip\nport=8003\n"),
                "[Changed]\na=(\n",
                "[New]\nprocess_filter=x\nout_threshold=1\nin_treshold=1\ninterval=x\n",
            );
        }),
        (&taken, &|| {
            let more = [pipe(8003, PEER4, 9000), pipe(9005, PEER4, 9000)].concat();
            write(&net.dir, "monitors.cfg", &format!("{MONITOR}{more}"));
            write(&net.dir, "applications.cfg", "[Changed]\na=^pipe-\n");
        }),
        (&moved, &|| write(&net.dir, "monitors.cfg", &format!("{monitors}bind=127.0.0.1\n"))),
        (&vanished, &|| std::fs::remove_file(net.dir.join("applications.cfg")).unwrap()),
    ];
    for (round, (errors, change)) in changes.into_iter().enumerate() {
        good();
        change();
        program.reload(AS_IT_WAS);
        for error in errors {
            program.said(error, 1);
        }
        let pid = program.running.pid();
        program.running.expect("8001 is listened on", listens(pid, 8001), true);
        eventually("8003 is not listened on", || !listens(pid, 8003));
        let alerts = || program.running.stderr().matches("Piped exceeding 'in'").count();
        let before = alerts();
        open.go();
        let mut another = client(&net, "another", 8001, "up=100000");
        another.go();
        another.close();
        program.said("Piped exceeding 'in'", before + 1);
        program.running.expect(
            "round",
            program.running.stderr().matches(AS_IT_WAS).count(),
            round + 1,
        );
    }
    program.settle();
    let has_changed = program.lines().iter().any(|line| line.name == "Changed");
    program.running.expect("the applications have changed", has_changed, false);
    // Mended, it is taken.
    good();
    program.reload(ANEW);
    open.go();
    open.close();
    program.running.stop();
}

/// Nobody writes to it again, so reading it would wait for ever.
#[test]
fn a_pipe_keeps_nobody_waiting() {
    let dir = Dir::new();
    write_files(&dir.0, MONITOR, "", "");
    let fifo = dir.0.join("monitors.cfg");
    std::fs::remove_file(&fifo).unwrap();
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&fifo).status();
    assert!(made.unwrap().success());
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::write(fifo, MONITOR).unwrap()
    });
    let options = ["--interval", "0.2", "--source", "sockets", "--netns", "own"];
    let mut program = Aggregator::start(here(&dir, &[&FILES[..], &options].concat()));
    program.wait("the first refresh", |refreshes| !refreshes.is_empty());
    writer.join().unwrap();
    let begin = std::time::Instant::now();
    program.reload("monitors.cfg: is a pipe that did not end within 0.25 s; ");
    program.said(AS_IT_WAS, 1);
    program.settle();
    // The default interval of a look that is late by seconds would be seen.
    let took = begin.elapsed();
    program.running.expect("seconds until two refreshes", took.as_secs() < 10, true);
    let writer = std::thread::spawn(move || std::fs::write(fifo, MONITOR).unwrap());
    // A busy machine may need several tries to write in time.
    eventually("a pipe that delivers is read", || {
        program.running.signal(rustix::process::Signal::HUP);
        std::thread::sleep(std::time::Duration::from_millis(500));
        program.running.stderr().contains(ANEW)
    });
    writer.join().unwrap();
    program.running.stop();
}

#[test]
fn the_limit_of_open_connections_changes_too() {
    let Some(net) = Net::new() else { return };
    let section = pipe(8001, PEER4, 9000);
    write_files(&net.dir, &format!("{section}shape_threshold=10\n"), "", "");
    let _server = server(&net, "server", PEER4);
    let mut program = Aggregator::watching(&net, &FILES);
    // At 10 KiB/s it would take more than the two minutes that nothing here may last.
    let mut open = client(&net, "open", 8001, "up=4000000");
    open.begin();
    program.wait_for("pipe-8001:");
    write(&net.dir, "monitors.cfg", &section);
    program.reload(ANEW);
    open.done();
    open.close();
    program.running.stop();
}

/// The rule has the same name and another place; what else it says has changed as well.
#[test]
fn an_alert_goes_on_firing_and_its_new_command_is_started_when_it_is_over() {
    let rule = |interval, command| {
        format!(
            "[Rule]\nprocess_filter=^pipe\nin_threshold=1\nrepeat_interval=3600\n\
             interval={interval}\nresolved_command=/usr/bin/touch {command}\n"
        )
    };
    // Over an hour, of which little is over, the mean stays above the threshold.
    let mut piped = Piped::with("", "", &rule(3600, "old"), &["--interval", "0.2"]);
    let (client, remote) = piped.connect();
    (&client).write_all(&[0; 500_000]).unwrap();
    (&remote).read_exact(&mut [0; 500_000]).unwrap();
    piped.aggregator.said(" exceeding ", 1);
    let other = "[Other]\nprocess_filter=^pipe\nin_threshold=99999\n";
    write(&piped.dir.0, "notifications.cfg", &format!("{other}{}", rule(1, "new")));
    piped.aggregator.reload(ANEW);
    let has = |name: &str| piped.dir.0.join(name).exists();
    eventually("the new command was started", || has("new"));
    finish(client, remote);
    let stderr = piped.aggregator.running.stop().stderr;
    let [fired, over] =
        [": pipe", " no longer exceeding "].map(|part| stderr.matches(part).count());
    assert_eq!((fired, over, piped.dir.0.join("old").exists()), (2, 1, false), "{stderr}");
}
