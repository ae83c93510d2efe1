//! A standard output or a standard error that nobody reads: a pager, Ctrl-S, a full pipe. It delays nobody: neither
//! what is counted and forwarded, nor alerts, nor the end.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rustix::fs::{OFlags, fcntl_setfl};
use testbed::endpoint::Endpoint;
use testbed::leftovers::Dir;
use testbed::lines;
use testbed::netns::{Net, PEER4};
use testbed::ports::free_port;
use testbed::running::Running;
use testbed::streams::{LOCAL, Remote, connect, exchange, finish, listens};
use testbed::wait::eventually;

use crate::runaggregator::{FILES, pipe, write_files};
use crate::{RUNAGGREGATOR, RUNMONITOR, RUNPIPE};

const RUNMONITOR_SAYS: &str = "runmonitor: standard output is not read fast enough: refreshes are left out, each as a \
                               whole\n";

/// Both ends of a pipe that is full.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b' '; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

/// What was read so far, but for the bytes that filled the pipe.
fn read(mut reader: PipeReader) -> Arc<Mutex<Vec<u8>>> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let read = bytes.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            let mut bytes = read.lock().unwrap();
            // Nothing that the programs show begins with a blank.
            let filling = if bytes.is_empty() {
                buffer[..length].iter().take_while(|byte| **byte == b' ').count()
            } else {
                0
            };
            bytes.extend_from_slice(&buffer[filling..length]);
        }
    });
    bytes
}

/// A process of the test's, with the programs' ends of the streams.
fn start(command: Command, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Running {
    Running::start_on(command, stdout.into(), stderr.into())
}

#[test]
fn runmonitor_goes_on_and_the_newest_refreshes_are_read_whole() {
    let Some(net) = Net::new() else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let (reader, writer) = full();
    let command = RUNMONITOR.inside(&net.watched, &["--source", "sockets", "--interval", "0.05"]);
    let mut running = start(command, writer, Stdio::piped());
    eventually("refreshes are left out", || running.stderr().contains(RUNMONITOR_SAYS));
    let role = format!("tcp-client host={PEER4} port=9000 up=50000");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let payload = client.go();
    let bytes = read(reader);
    let newest = || lines::parse(&bytes.lock().unwrap()).unwrap().last().cloned();
    eventually("the newest refresh", || {
        newest().is_some_and(|refresh| refresh.workload("client") == payload)
    });
    running.expect_running();
    let finished = running.stop();
    finished.expect("times", finished.stderr.matches(RUNMONITOR_SAYS).count(), 1);
}

#[test]
fn runmonitor_ends_although_nobody_reads() {
    let (_reader, writer) = full();
    let mut command = Command::new(RUNMONITOR.path);
    command.args(["--source", "sockets", "--netns", "own", "--interval", "0.05"]);
    let running = start(command, writer, Stdio::piped());
    eventually("refreshes are left out", || running.stderr().contains(RUNMONITOR_SAYS));
    running.stop();
}

#[test]
fn runmonitor_shows_although_nobody_reads_what_it_says() {
    let (_reader, writer) = full();
    let mut command = Command::new(RUNMONITOR.path);
    // What `auto` has found is said at the start.
    command.args(["--source", "auto", "--netns", "own", "--interval", "0.1"]);
    let mut running = start(command, Stdio::piped(), writer);
    running.refreshes(3);
    running.stop();
}

/// A remote, the port before it, and a file that has a line for each command that was started.
struct Aggregated {
    remote: Remote,
    port: u16,
    dir: Dir,
}

impl Aggregated {
    fn new() -> Aggregated {
        let (remote, port, dir) = (Remote::new(), free_port(), Dir::new());
        let monitors = pipe(port, "127.0.0.1", remote.address().port());
        // One exchange is enough for ten minutes: on a busy machine commands are slow to start.
        let rule = "[Rule]\nprocess_filter=.\nin_threshold=0.00001\ninterval=600\nrepeat_interval=0\n\
                    notification_command=/bin/sh -c 'echo >> started'\n";
        write_files(&dir.0, &monitors, "", rule);
        Aggregated { remote, port, dir }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(RUNAGGREGATOR.path);
        command.args(FILES).args(["--interval", "0.05"]).current_dir(&self.dir.0);
        command
    }

    fn started(&self) -> usize {
        fs::read(self.dir.0.join("started")).map_or(0, |lines| lines.len())
    }

    /// Forwards, and sets off the alert.
    fn forward(&self, running: &Running) {
        eventually("the program listens", || listens(running.pid(), self.port));
        let client = connect((LOCAL, self.port).into());
        let remote = self.remote.accept();
        exchange(&client, &remote);
        finish(client, remote);
    }

    /// Commands are started again and again while nobody reads, and connections forwarded; it ends when it is asked.
    fn expect_undisturbed(&self, running: Running) {
        self.forward(&running);
        eventually("commands are started", || self.started() > 0);
        let before = self.started();
        eventually("and go on to be", || self.started() > before + 5);
        self.forward(&running);
        running.stop();
    }
}

#[test]
fn runaggregator_alerts_and_forwards_although_nobody_reads() {
    let here = Aggregated::new();
    let (_reader, writer) = full();
    here.expect_undisturbed(start(here.command(), writer, Stdio::piped()));
}

#[test]
fn runaggregator_alerts_and_forwards_although_nobody_reads_what_it_says() {
    let here = Aggregated::new();
    let (_reader, writer) = full();
    here.expect_undisturbed(start(here.command(), Stdio::piped(), writer));
}

#[test]
fn runpipe_forwards_although_nobody_reads() {
    for of_stdout in [true, false] {
        let (remote, port) = (Remote::new(), free_port());
        let mut command = Command::new(RUNPIPE.path);
        let remote_port = remote.address().port().to_string();
        command.args(["--log", "--interval", "0.05", &port.to_string(), "127.0.0.1", &remote_port]);
        let (_reader, writer) = full();
        let running = match of_stdout {
            true => start(command, writer, Stdio::piped()),
            false => start(command, Stdio::piped(), writer),
        };
        eventually("the program listens", || listens(running.pid(), port));
        for _ in 0..3 {
            let client = connect((LOCAL, port).into());
            let accepted = remote.accept();
            exchange(&client, &accepted);
            finish(client, accepted);
        }
        running.stop();
    }
}

#[test]
fn runpipe_forwards_although_the_disk_is_full_and_says_so_once() {
    let (remote, port) = (Remote::new(), free_port());
    let mut command = Command::new(RUNPIPE.path);
    let remote_port = remote.address().port().to_string();
    command.args(["--interval", "0.05", &port.to_string(), "127.0.0.1", &remote_port]);
    let disk = fs::File::options().write(true).open("/dev/full").unwrap();
    let running = start(command, disk, Stdio::piped());
    let said = "runpipe: standard output: No space left on device (os error 28); what can't be written is left out, \
                and all else goes on\n";
    eventually("it is said", || running.stderr().contains(said));
    let client = connect((LOCAL, port).into());
    let accepted = remote.accept();
    exchange(&client, &accepted);
    finish(client, accepted);
    running.signal(rustix::process::Signal::TERM);
    let finished = running.finish();
    // Not all that it had to show was written.
    finished.expect_status(1);
    finished.expect("times", finished.stderr.matches(said).count(), 1);
}
