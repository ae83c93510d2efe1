//! Programs that capture packets, and what they print of each process.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use testbed::bytes::Bytes;
use testbed::command::found;
use testbed::lines::{Line, Refresh};
use testbed::netns::Net;
use testbed::peers::{Shown, bandwhich, nethogs};
use testbed::running::Running;
use testbed::workloads::comparison::Unit;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Nethogs,
    Bandwhich,
}

impl Peer {
    /// Whether it can be measured; said if it can't.
    pub(crate) fn is_installed(self) -> bool {
        let name = match self {
            Peer::Nethogs => "nethogs",
            Peer::Bandwhich => "bandwhich",
        };
        let there = found(name);
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
            Peer::Nethogs => of_nethogs(&text),
            Peer::Bandwhich => of_bandwhich(&text),
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

/// Bytes so far: the last of each process.
fn of_nethogs(text: &str) -> Vec<Line> {
    let shown = text.lines().filter_map(nethogs::line);
    let processes: BTreeMap<&str, Shown<'_>> = shown.map(|shown| (shown.name, shown)).collect();
    let line = |shown: &Shown<'_>| Line {
        bytes: bytes(shown),
        command: format!("{} ", nethogs::command(shown.name)),
    };
    processes.values().map(line).collect()
}

/// A refresh each second, each second's bytes in five of them: their sum.
fn of_bandwhich(text: &str) -> Vec<Line> {
    let line = |shown: Shown<'_>| Line { bytes: bytes(&shown), command: shown.name.to_owned() };
    text.lines().filter_map(bandwhich::line).map(line).collect()
}

fn bytes(shown: &Shown<'_>) -> Bytes {
    Bytes::new(shown.received as u64, shown.sent as u64)
}
