//! The program `runaggregator`: a process of its own, with files that the tests write. Where only
//! pipes matter, they stand between sockets of the test; else there are namespaces.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::Signal;
use testbed::leftovers::Dir;
use testbed::netns::Net;
use testbed::ports::free_port;
use testbed::program::OWN;
use testbed::running::Running;
use testbed::streams::{LOCAL, Remote, connect, listens};
use testbed::wait::{DEADLINE, eventually};

mod alerts;
mod commands;
mod ends;
mod groups;
mod labels;
mod nobody;
mod output;
mod page;
mod reload;
mod screen;
mod terminal;
mod wrong;

use screen::{Line, Refresh};

const PROGRAM: &str = crate::RUNAGGREGATOR.path;

/// Options for all three files, which have these names in the program's working directory.
pub(crate) const FILES: [&str; 6] = [
    "--monitor-config",
    "monitors.cfg",
    "--app-config",
    "applications.cfg",
    "--notification-config",
    "notifications.cfg",
];

/// Writes a configuration file.
fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}

/// Writes the three of [`FILES`].
pub(crate) fn write_files(dir: &Path, monitors: &str, applications: &str, notifications: &str) {
    write(dir, "monitors.cfg", monitors);
    write(dir, "applications.cfg", applications);
    write(dir, "notifications.cfg", notifications);
}

/// A section of a pipe.
pub(crate) fn pipe(port: u16, host: &str, remote_port: u16) -> String {
    format!("[Pipe {port}]\ntype=pipe\nport={port}\nnewhost={host}\nnewport={remote_port}\n")
}

/// The program in the watched namespace, its files beside the workloads' script.
fn inside(net: &Net, args: &[&str]) -> Command {
    let mut command = net.watched.command(PROGRAM);
    command.args(OWN).args(args).current_dir(&net.dir);
    command
}

/// The program where no namespace matters.
fn here(dir: &Dir, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(&dir.0);
    command
}

/// The running program.
struct Aggregator {
    running: Running,
    /// Seconds between two refreshes.
    interval: f64,
}

impl Aggregator {
    fn start(command: Command) -> Aggregator {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let interval = words.windows(2).rev().find(|pair| pair[0] == "--interval");
        let interval = interval.map_or(1.0, |pair| pair[1].parse().unwrap());
        Aggregator { running: Running::start(command), interval }
    }

    /// In the watched namespace, its first refresh done: what comes now is seen.
    fn watching(net: &Net, args: &[&str]) -> Aggregator {
        let mut all = vec!["--source", "conntrack", "--interval", "0.5"];
        all.extend(args);
        let mut started = Aggregator::start(inside(net, &all));
        started.wait("the first refresh", |refreshes| !refreshes.is_empty());
        started
    }

    /// All complete refreshes so far.
    fn refreshes(&self) -> Vec<Refresh> {
        let parsed = screen::parse(&self.running.stdout());
        parsed.unwrap_or_else(|why| self.running.fail(&why))
    }

    /// The lines of all refreshes so far.
    fn lines(&self) -> Vec<Line> {
        self.refreshes().into_iter().flat_map(|refresh| refresh.lines).collect()
    }

    /// Waits until it is so for all refreshes so far.
    fn wait(&mut self, what: &str, mut fulfilled: impl FnMut(&[Refresh]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !fulfilled(&self.refreshes()) {
            if Instant::now() > deadline {
                self.running.fail(&format!("never came: {what}"));
            }
            self.running.expect_running();
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until some refresh has a line whose name begins so.
    fn wait_for(&mut self, beginning: &str) {
        self.wait(beginning, |refreshes| refreshes.iter().any(|r| r.line(beginning).is_some()));
    }

    /// Waits for two further refreshes: the second one began after this call.
    fn settle(&mut self) {
        let so_far = self.refreshes().len();
        self.wait("two more refreshes", |refreshes| refreshes.len() >= so_far + 2);
    }

    /// Waits until stderr holds this so many times.
    fn said(&mut self, part: &str, times: usize) {
        self.running.eventually(&format!("{part:?}, said {times} times"), || {
            self.running.stderr().matches(part).count() >= times
        });
    }

    /// Asks it to read its files again, and waits until it has said what came of it.
    fn reload(&mut self, outcome: &str) {
        let before = self.running.stderr().matches(outcome).count();
        self.running.signal(Signal::HUP);
        self.said(outcome, before + 1);
    }

    /// The bytes received and sent that the lines so chosen stand for: rates times the time between
    /// refreshes. Where that is about the interval, it is the interval: looks begin regularly, and
    /// only how long each takes is to be seen here.
    fn bytes(&self, chosen: impl Fn(&str) -> bool) -> [f64; 2] {
        let refreshes = self.refreshes();
        let mut sums = [0.0; 2];
        for pair in refreshes.windows(2) {
            let [begin, end] = [&pair[0], &pair[1]].map(|r| self.running.stdout_arrival(r.end));
            let seen = (end - begin).as_secs_f64();
            let is_regular = (seen / self.interval - 1.0).abs() < 0.1;
            let seconds = if is_regular { self.interval } else { seen };
            for line in pair[1].lines.iter().filter(|line| chosen(&line.name)) {
                sums[0] += line.received * 1024.0 * seconds;
                sums[1] += line.sent * 1024.0 * seconds;
            }
        }
        sums
    }

    /// Fails unless the lines so chosen stand for about these bytes: whatever is lost or stands twice
    /// is far more than a refresh that comes a little late.
    fn expect_bytes(&self, what: &str, chosen: impl Fn(&str) -> bool, expected: [u64; 2]) {
        let got = self.bytes(chosen);
        let near = |(got, expected): (f64, u64)| {
            (got - expected as f64).abs() <= expected as f64 * 0.15 + 2_000.0
        };
        if !got.into_iter().zip(expected).all(near) {
            self.running.fail(&format!("{what}: expected about {expected:?} bytes, got {got:.0?}"));
        }
    }
}

/// A remote, and the program with a pipe to it that knows of nothing else.
struct Piped {
    aggregator: Aggregator,
    remote: Remote,
    port: u16,
    dir: Dir,
}

impl Piped {
    fn new(options: &[&str]) -> Piped {
        Piped::with("", "", "", options)
    }

    /// With further keys of the pipe's section, applications and notifications.
    fn with(keys: &str, applications: &str, notifications: &str, options: &[&str]) -> Piped {
        let (remote, port, dir) = (Remote::new(), free_port(), Dir::new());
        let monitors = pipe(port, "127.0.0.1", remote.address().port()) + keys;
        write_files(&dir.0, &monitors, applications, notifications);
        let aggregator = Aggregator::start(here(&dir, &[&FILES, options].concat()));
        eventually("the program listens", || listens(aggregator.running.pid(), port));
        Piped { aggregator, remote, port, dir }
    }

    fn entrance(&self) -> SocketAddr {
        (LOCAL, self.port).into()
    }

    /// Both ends of a new connection.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.entrance());
        (client, self.remote.accept())
    }
}
