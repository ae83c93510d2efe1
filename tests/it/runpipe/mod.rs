//! The program `runpipe`: a process of its own, between clients and a remote that are the test's.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use testbed::ports::free_port;
use testbed::running::Running;
use testbed::streams::{LOCAL, MOMENT, Remote, connect, listens};
use testbed::wait::eventually;

mod crowd;
mod faults;
mod screen;
mod starved;

const PROGRAM: &str = crate::RUNPIPE.path;

/// The program through a command that executes what it is given.
fn through(wrapper: &[&str]) -> Command {
    let mut words = wrapper.iter().chain([&PROGRAM]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// The program with these arguments.
fn started(args: &[&str]) -> Running {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    Running::start(command)
}

/// A remote, and the program in front of it.
struct Piped {
    running: Running,
    remote: Remote,
    port: u16,
}

impl Piped {
    fn new(options: &[&str]) -> Piped {
        Piped::through(&[], options)
    }

    fn through(wrapper: &[&str], options: &[&str]) -> Piped {
        let remote = Remote::new();
        let port = free_port();
        let mut command = through(wrapper);
        let remote_port = remote.address().port().to_string();
        command.args(options).args([&port.to_string(), "127.0.0.1", &remote_port]);
        let running = Running::start(command);
        eventually("the program listens", || listens(running.pid(), port));
        Piped { running, remote, port }
    }

    fn entrance(&self) -> SocketAddr {
        (LOCAL, self.port).into()
    }

    fn client(&self) -> TcpStream {
        connect(self.entrance())
    }

    /// Both ends of a new connection.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        (client, self.remote.accept())
    }

    /// The name of its line.
    fn name(&self) -> String {
        format!("pipe-{}:127.0.0.1:{}", self.port, self.remote.address().port())
    }

    /// How many descriptors it has open.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.running.pid())).unwrap().count()
    }

    /// The same, once that doesn't change any more.
    fn descriptors_at_rest(&self) -> usize {
        let mut last = 0;
        eventually("the number of descriptors rests", || {
            let before = std::mem::replace(&mut last, self.descriptors());
            std::thread::sleep(MOMENT);
            before == last
        });
        last
    }

    fn expect_said(&self, part: &str) {
        eventually(&format!("{part:?} on stderr"), || self.running.stderr().contains(part));
    }
}
