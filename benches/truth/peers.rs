//! Programs that capture packets, and what they print of each process.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::netns::Net;
use crate::rows::verdict::Unit;
use crate::run::Running;
use crate::screen::{Line, Refresh};
use crate::truth::Bytes;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Nethogs,
    Bandwhich,
}

impl Peer {
    /// Whether it can be measured; said if it can't.
    pub(crate) fn is_installed(self) -> bool {
        let (name, version) = match self {
            Peer::Nethogs => ("nethogs", "-V"),
            Peer::Bandwhich => ("bandwhich", "--version"),
        };
        let there = Command::new(name).arg(version).output().is_ok();
        if !there {
            println!("LEFT OUT: {name} is not installed");
        }
        there
    }

    /// What it takes for the bytes of a packet: nethogs the frame, also on loopback, bandwhich what
    /// comes after the IP header.
    pub(crate) fn unit(self) -> Unit {
        const ETHERNET: u64 = 14;
        match self {
            Peer::Nethogs => |bytes, packets, _| bytes + packets * ETHERNET,
            Peer::Bandwhich => |bytes, packets, header| bytes - packets * header,
        }
    }

    /// How long it needs before the first packet and after the last one. bandwhich shows the mean of
    /// the last five seconds, of fewer at first.
    fn seconds(self) -> (u64, u64) {
        match self {
            Peer::Nethogs => (2, 3),
            Peer::Bandwhich => (6, 6),
        }
    }

    /// Starts it in the watched namespace, at all devices.
    pub(crate) fn watch(self, net: &Net) -> Running {
        let command = match self {
            Peer::Nethogs => {
                let mut command = net.watched.command("nethogs");
                // All devices, UDP too; command lines; bytes since the start. Rates can't be added
                // up: it goes on showing the last one of a process that has fallen silent.
                command.args(["-t", "-a", "-C", "-l", "-v", "2", "-d", "1"]);
                command
            }
            Peer::Bandwhich => {
                let mut command = net.watched.command("bandwhich");
                command.args(["--raw", "--processes", "--no-resolve"]);
                command
            }
        };
        let mut running = Running::start(command);
        sleep(Duration::from_secs(self.seconds().0));
        running.expect_running();
        running
    }

    /// Every process and its bytes, when it has had the time to show all.
    pub(crate) fn shown(self, mut running: Running) -> Refresh {
        sleep(Duration::from_secs(self.seconds().1));
        running.expect_running();
        let text = running.stdout();
        let text = String::from_utf8_lossy(&text);
        let lines = match self {
            Peer::Nethogs => nethogs(&text),
            Peer::Bandwhich => bandwhich(&text),
        };
        Refresh { lines }
    }

    /// What it gives to the processes of this name.
    pub(crate) fn of(self, shown: &Refresh, name: &str) -> Bytes {
        match self {
            Peer::Nethogs => shown.named(name),
            Peer::Bandwhich => {
                // What the kernel keeps of what a process calls itself.
                let name = &name[..name.len().min(15)];
                let lines = shown.lines.iter().filter(|line| line.command == name);
                lines.map(|line| line.bytes).sum()
            }
        }
    }
}

/// Lines `COMMAND LINE/PID/UID<tab>SENT<tab>RECEIVED`, bytes so far: the last of each process.
fn nethogs(text: &str) -> Vec<Line> {
    let mut processes = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.rsplitn(3, '\t');
        let (Some(received), Some(sent), Some(process)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // In six digits, like 3.01204e+06.
        let (Ok(received), Ok(sent)) = (received.parse::<f64>(), sent.parse::<f64>()) else {
            continue;
        };
        processes.insert(process, Bytes::new(received as u64, sent as u64));
    }
    let line = |(process, bytes): (&str, Bytes)| {
        let command = process.rsplitn(3, '/').last().unwrap_or_default();
        Line { bytes, command: format!("{command} ") }
    };
    processes.into_iter().map(line).collect()
}

/// Lines `process: <TIME> "NAME" up/down Bps: UP/DOWN connections: N`, a refresh each second, each
/// second's bytes in five of them: their sum.
fn bandwhich(text: &str) -> Vec<Line> {
    let parse = |line: &str| {
        let (name, rest) = line.strip_prefix("process: <")?.split_once("\" up/down Bps: ")?;
        let (_, name) = name.split_once('"')?;
        let (sent, received) = rest.split(' ').next()?.split_once('/')?;
        let bytes = Bytes::new(received.parse().ok()?, sent.parse().ok()?);
        Some(Line { bytes, command: name.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}
