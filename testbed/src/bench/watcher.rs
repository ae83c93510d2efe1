//! The programs that watch, and one of them at work.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use anyhow::{Context, bail};

use super::seen::Seen;
use super::usage::{self, Memory};
use crate::command::found;
use crate::netns::Namespace;
use crate::program::OWN;

/// Whoever has printed nothing for so long doesn't work.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that watches, or none.
pub struct Peer {
    /// For the table.
    pub name: &'static str,
    /// None for nobody.
    pub program: Option<&'static str>,
    /// Separated by spaces.
    pub arguments: &'static str,
    /// Whether it is `runmonitor`, which is to watch only the namespace in which it runs.
    pub is_ours: bool,
}

pub const BANDWHICH: Peer = Peer {
    name: "bandwhich",
    program: Some("bandwhich"),
    // Names would be asked for over the network.
    arguments: "--raw --processes --no-resolve",
    is_ours: false,
};
/// Nobody watches.
pub const UNWATCHED: Peer = Peer { name: NOBODY, program: None, arguments: "", is_ours: false };
/// What it is called if nobody watches.
pub const NOBODY: &str = "unwatched";

impl Peer {
    pub fn is_there(&self) -> bool {
        self.program.is_none_or(|program| program.starts_with('/') || found(program))
    }

    fn arguments(&self) -> impl Iterator<Item = &'static str> {
        let own = if self.is_ours { &OWN[..] } else { &[] };
        self.arguments.split_whitespace().chain(own.iter().copied())
    }

    /// Its name and arguments.
    pub fn called(&self) -> String {
        [self.name].into_iter().chain(self.arguments()).collect::<Vec<_>>().join(" ")
    }

    /// Starts it in a namespace; returns when it has printed something.
    pub fn start(&self, namespace: &Namespace) -> anyhow::Result<Watcher> {
        let Some(program) = self.program else { return Ok(Watcher(None)) };
        let mut child = namespace
            .command(program)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} can't be run"))?;
        let (said, wrong) = child.stdout.take().zip(child.stderr.take()).context("no pipes")?;
        // One word is enough for all that is printed before somebody listens.
        let (printed, prints) = sync_channel(1);
        let said = spawn(move || {
            let (mut said, mut line, mut seen) =
                (BufReader::new(said), Vec::new(), Seen::default());
            // Command lines may hold anything.
            while said.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let _ = printed.try_send(());
                seen.add(&String::from_utf8_lossy(&line));
                line.clear();
            }
            seen
        });
        let wrong = spawn(move || {
            let (mut all, mut wrong) = (Vec::new(), wrong);
            let _ = wrong.read_to_end(&mut all);
            String::from_utf8_lossy(&all).lines().map(str::to_owned).collect()
        });
        let begun = prints.recv_timeout(PATIENCE);
        let mut watcher = Watcher(Some(Process { child, said, wrong, prints }));
        if let Err(error) = begun {
            bail!("{}: {error}: {}", self.name, watcher.end().wrong.join("; "));
        }
        Ok(watcher)
    }
}

/// A program at work, or none.
pub struct Watcher(Option<Process>);

struct Process {
    child: Child,
    said: JoinHandle<Seen>,
    wrong: JoinHandle<Vec<String>>,
    prints: Receiver<()>,
}

/// What a program has printed.
#[derive(Default)]
pub struct Output {
    pub seen: Seen,
    /// On its standard error, line by line.
    pub wrong: Vec<String>,
}

impl Watcher {
    /// Seconds of CPU time until now.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        self.0.as_ref().map_or(Ok(f64::NAN), |process| usage::cpu(process.child.id()))
    }

    pub fn memory(&self) -> anyhow::Result<Memory> {
        let nothing = Memory { resident: f64::NAN, anonymous: f64::NAN, peak: f64::NAN };
        self.0.as_ref().map_or(Ok(nothing), |process| Memory::of(process.child.id()))
    }

    /// Until it prints something from now on.
    pub fn wait_until_it_prints(&self) -> anyhow::Result<()> {
        let Some(Process { prints, .. }) = &self.0 else { return Ok(()) };
        while prints.try_recv().is_ok() {}
        Ok(prints.recv_timeout(PATIENCE)?)
    }

    /// Ends it.
    pub fn end(&mut self) -> Output {
        let Some(Process { mut child, said, wrong, .. }) = self.0.take() else {
            return Output::default();
        };
        let _ = child.kill();
        let _ = child.wait();
        let seen = said.join().unwrap_or_default();
        Output { seen, wrong: wrong.join().unwrap_or_default() }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// Leaves out the programs that are not installed, and says which are and what they are called with.
pub fn keep_those_there(peers: &mut Vec<&'static Peer>) {
    peers.retain(|peer| {
        if !peer.is_there() {
            println!("LEFT OUT: {}: it is not installed", peer.name);
        }
        peer.is_there()
    });
    for peer in peers {
        println!("measured: {}", peer.called());
    }
}
