//! The programs that watch, and one of them at work.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::common::{inside, output};
use crate::found::found;
use crate::seen::Seen;
use crate::tracked::Namespace;
use crate::usage::{self, Memory};

/// Whoever has printed nothing for so long doesn't work.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that watches, or none.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: Option<&'static str>,
    arguments: &'static str,
}

pub(crate) const OURS: &str = "runmonitor";
pub(crate) const NOBODY: &str = "unwatched";

pub(crate) static PEERS: [Peer; 4] = [
    Peer {
        name: OURS,
        program: Some(env!("CARGO_BIN_EXE_runmonitor")),
        arguments: "--source conntrack --unattributed",
    },
    Peer { name: "nethogs", program: Some("nethogs"), arguments: "-t" },
    // Names would be asked for over the network.
    Peer {
        name: "bandwhich",
        program: Some("bandwhich"),
        arguments: "--raw --processes --no-resolve",
    },
    Peer { name: NOBODY, program: None, arguments: "" },
];

impl Peer {
    pub(crate) fn is_there(&self) -> bool {
        self.program.is_none_or(|program| program.starts_with('/') || found(program))
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name == OURS
    }

    /// How it is called, but for where it is.
    fn arguments(&self) -> anyhow::Result<String> {
        let mut arguments = self.arguments.to_owned();
        if let (true, Some(program)) = (self.is_ours(), self.program)
            && output(Command::new(program).arg("--help"))?.contains("--netns")
        {
            arguments += " --netns own";
        }
        Ok(arguments)
    }

    pub(crate) fn called(&self) -> anyhow::Result<String> {
        Ok(format!("{} {}", self.name, self.arguments()?).trim_end().to_owned())
    }

    /// Starts it in a namespace; returns when it has printed something.
    pub(crate) fn start(&self, namespace: &Namespace) -> anyhow::Result<Watcher> {
        let Some(program) = self.program else { return Ok(Watcher(None)) };
        let mut child = inside(&namespace.path, program)
            .args(self.arguments()?.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{program} can't be run"))?;
        let (said, wrong) = child.stdout.take().zip(child.stderr.take()).context("no pipes")?;
        let (begun, begin) = channel();
        let said = spawn(move || {
            let (mut said, mut line, mut seen) =
                (BufReader::new(said), Vec::new(), Seen::default());
            // Command lines may hold anything.
            while said.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let _ = begun.send(());
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
        let mut watcher = Watcher(Some(Process { child, said, wrong }));
        if let Err(error) = begin.recv_timeout(PATIENCE) {
            bail!("{}: {error}: {}", self.name, watcher.end().wrong.join("; "));
        }
        Ok(watcher)
    }
}

/// A program at work, or none.
pub(crate) struct Watcher(Option<Process>);

struct Process {
    child: Child,
    said: JoinHandle<Seen>,
    wrong: JoinHandle<Vec<String>>,
}

/// What a program has printed.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) seen: Seen,
    /// On its standard error, line by line.
    pub(crate) wrong: Vec<String>,
}

impl Watcher {
    /// Seconds of CPU time until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        self.0.as_ref().map_or(Ok(f64::NAN), |process| usage::cpu(process.child.id()))
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let nothing = Memory { resident: f64::NAN, anonymous: f64::NAN, peak: f64::NAN };
        self.0.as_ref().map_or(Ok(nothing), |process| Memory::of(process.child.id()))
    }

    /// Ends it.
    pub(crate) fn end(&mut self) -> Output {
        let Some(Process { mut child, said, wrong }) = self.0.take() else {
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
