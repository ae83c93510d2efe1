//! The program `runpipe`: a process of its own, between clients and a remote that are the test's.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::pipe::rig::{LOCAL, MOMENT, Remote, connect, eventually, read_some};
use crate::ports::free_port;
use crate::run::Running;

mod crowd;
mod faults;
mod screen;
mod starved;

const PROGRAM: &str = env!("CARGO_BIN_EXE_runpipe");

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

/// Whether the process, in its network namespace, has a listener on this port. All that it listens
/// on it opens before it accepts.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let lines = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        lines.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some("0A")
        })
    })
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

/// How the stream ends, after any bytes: `None` by an ordinary end.
pub(crate) fn last_error(stream: &TcpStream) -> Option<ErrorKind> {
    let mut buffer = [0; 4096];
    loop {
        match read_some(stream, &mut buffer) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}
