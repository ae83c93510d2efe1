//! Workloads of which the true bytes and their processes are known, each defined once: for the
//! floors under what `runmonitor` has to see (`floors`), and for the table of
//! `cargo bench --bench truth`.
//!
//! A workload sets its stage in namespaces of its own, lets the program under measure begin, and plays.
//! What it says afterwards is whose the bytes of which counter were.

mod calls;
mod clients;
pub mod comparison;
pub(crate) mod containers;
mod ends;
mod late;
mod mptcp;
mod protocols;
mod servers;

use std::any::Any;
use std::collections::BTreeMap;

use crate::bytes::Bytes;
use crate::endpoint::Endpoint;
use crate::netns::{Gate, Net, PEER4, Turn};
use crate::processors::Processors;
use crate::program::Program;
use crate::requirements::mptcp_is_missing;
use crate::running::Running;
use crate::truth::{Count, Truth};

/// All workloads, in the order of the table.
pub const WORKLOADS: [&[Workload]; 8] = [
    clients::WORKLOADS,
    ends::WORKLOADS,
    calls::WORKLOADS,
    servers::WORKLOADS,
    late::WORKLOADS,
    mptcp::WORKLOADS,
    protocols::WORKLOADS,
    containers::WORKLOADS,
];

/// A TCP header with timestamps, and one that acknowledges MPTCP's data as well.
const BARE: u64 = 32;
const BARE_MPTCP: u64 = 44;

/// One workload.
#[derive(Clone, Copy)]
pub struct Workload {
    /// For the code.
    pub name: &'static str,
    /// For the table.
    pub title: &'static str,
    /// Whether it says something only while nothing else disturbs it.
    pub delicate: bool,
    /// Whether some process under measure is in another network namespace than the program.
    elsewhere: bool,
    /// Whether a recording of it may have other tests' traffic.
    crowded: bool,
    /// Whether the process under measure closes its connections first, and so has the TIME_WAIT.
    closes_first: bool,
    /// The length of an IP header.
    header: u64,
    /// The length of the TCP header of a packet without data.
    bare: u64,
    /// Seconds between two refreshes.
    interval: &'static str,
    /// Whether it may be played once more: where the kernel itself loses a packet now and then.
    pub loses: bool,
    /// Whether this kernel lacks what the workload is about.
    missing: fn() -> bool,
    play: fn(&mut Stage<'_>),
}

impl Workload {
    const fn new(name: &'static str, title: &'static str, play: fn(&mut Stage<'_>)) -> Workload {
        Workload {
            name,
            title,
            delicate: false,
            elsewhere: false,
            crowded: false,
            closes_first: false,
            header: 20,
            bare: BARE,
            interval: "1",
            loses: false,
            missing: || false,
            play,
        }
    }

    const fn ipv6(self) -> Workload {
        Workload { header: 40, ..self }
    }

    const fn mptcp(self) -> Workload {
        Workload { bare: BARE_MPTCP, missing: mptcp_is_missing, ..self }
    }

    const fn delicate(self) -> Workload {
        Workload { delicate: true, ..self }
    }

    const fn elsewhere(self) -> Workload {
        Workload { elsewhere: true, ..self }
    }

    /// Disturbed by other tests, for those who don't look at its shares.
    pub const fn crowded(self) -> Workload {
        Workload { delicate: false, crowded: true, ..self }
    }

    const fn closes_first(self) -> Workload {
        Workload { closes_first: true, ..self }
    }

    const fn every(self, interval: &'static str) -> Workload {
        Workload { interval, ..self }
    }

    const fn loses(self) -> Workload {
        Workload { loses: true, ..self }
    }

    const fn unless(self, missing: fn() -> bool) -> Workload {
        Workload { missing, ..self }
    }

    /// Sets the stage, calls `begin` for the program to be started and ready, and plays. `None`
    /// where there can't be such a stage. `source` is the program's, if it has one.
    pub fn play(
        &self,
        size: Size,
        source: Option<&str>,
        mut begin: impl FnMut(&Net),
    ) -> Option<Played> {
        if (self.missing)() {
            return None;
        }
        // Counters in the kernel miss nothing, whatever else goes on.
        // A recording of what is elsewhere has nobody else's.
        let alone = self.elsewhere && size == Size::Tiny && !self.crowded;
        let delicate = self.delicate && source != Some("ebpf");
        let net = match (alone, delicate) {
            (true, _) => Net::alone(),
            (false, true) => Net::still(),
            (false, false) => Net::new(),
        }?;
        let mut stage = Stage {
            net: &net,
            delicate: delicate && !alone,
            turn: None,
            processors: None,
            size,
            begin: &mut begin,
            truth: None,
            owners: Vec::new(),
            kept: Vec::new(),
            note: None,
        };
        (self.play)(&mut stage);
        let counters = stage.truth.expect("a workload counts");
        let (truth, packets) = (counters.settled(), counters.packets());
        let families = counters.families();
        let idle = stage.processors.map_or(0.0, Processors::idle_since);
        // Whoever waits to be alone need not wait until the figures are read.
        drop(stage.turn);
        let Stage { owners, kept, note, .. } = stage;
        let Workload { elsewhere, closes_first, header, bare, .. } = *self;
        Some(Played {
            truth,
            packets,
            families,
            owners,
            note,
            idle,
            elsewhere,
            closes_first,
            header,
            bare,
            _kept: kept,
            net,
        })
    }

    /// Starts `runmonitor` as it is to be run for this workload, its first refresh done.
    pub fn monitor(&self, runmonitor: Program, net: &Net, source: &str) -> Running {
        self.monitor_with(runmonitor, net, source, &[])
    }

    /// The same with further arguments.
    pub fn monitor_with(
        &self,
        runmonitor: Program,
        net: &Net,
        source: &str,
        more: &[&str],
    ) -> Running {
        let args = ["--source", source, "--unattributed", "--interval", self.interval];
        let args = [&args, more].concat();
        // What helps the test is on this host as well: other namespaces are others' hosts here.
        let command = if self.elsewhere { Program::anywhere } else { Program::inside };
        let mut running = Running::start(command(runmonitor, &net.watched, &args));
        running.begun();
        running
    }
}

/// How much of everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// For recordings, which have kilobytes.
    Tiny,
    /// For tests, which have seconds.
    Small,
    /// For the table.
    Full,
}

/// Whose the bytes of some counters are: a process's name, or a reason in parentheses.
struct Owner {
    name: String,
    counts: Vec<String>,
}

/// What a workload works with.
pub struct Stage<'a> {
    net: &'a Net,
    /// Whether no other test has namespaces from the first packet to the last.
    delicate: bool,
    turn: Option<Turn>,
    /// Since the program under measure has looked once.
    processors: Option<Processors>,
    size: Size,
    begin: &'a mut dyn FnMut(&Net),
    truth: Option<Truth<'a>>,
    owners: Vec<Owner>,
    kept: Vec<Box<dyn Any>>,
    note: Option<String>,
}

impl<'a> Stage<'a> {
    /// The true bytes of this workload are these.
    fn count(&mut self, counts: &[Count<'_>]) {
        self.truth = Some(Truth::start(&self.net.watched, counts));
    }

    /// The stage is set: the program under measure is started, and has looked once. What is delicate then waits
    /// until no other test has namespaces.
    fn begin(&mut self) {
        let gate = self.delicate.then(|| Gate::take(true));
        (self.begin)(self.net);
        self.turn = gate.map(Gate::pass);
        self.processors = Some(Processors::now());
    }

    /// The processes of this name have the bytes of these counters.
    fn owns<S: Into<String>>(
        &mut self,
        name: impl Into<String>,
        counts: impl IntoIterator<Item = S>,
    ) {
        let counts = counts.into_iter().map(Into::into).collect();
        self.owners.push(Owner { name: name.into(), counts });
    }

    /// What has to be there until the figures are read.
    fn keep(&mut self, kept: impl Any) {
        self.kept.push(Box::new(kept));
    }

    /// What was counted so far under this name.
    fn counted(&self, name: &str) -> Bytes {
        self.truth.as_ref().expect("a workload counts").so_far()[name]
    }

    /// One size for the table, another for tests, and a quarter of that for recordings.
    fn sized(&self, full: u32, small: u32) -> u32 {
        match self.size {
            Size::Full => full,
            Size::Small => small,
            Size::Tiny => small / 4,
        }
    }

    /// A server at the peer's port 9000 that serves one connection after the other.
    fn serve_at_peer(&mut self, role: &str) {
        let net = self.net;
        self.keep(Endpoint::start_short(
            net,
            &net.peer,
            "far",
            &format!("server port=9000 {role}"),
        ));
    }

    /// A client of `short.c` here, of the peer's server.
    fn short_client(&self, name: &str, role: &str, options: &str) -> Endpoint {
        let net = self.net;
        let role = format!("{role} host={PEER4} port=9000 {options}");
        Endpoint::start_short(net, &net.watched, name, &role)
    }
}

impl Played {
    /// The true bytes of each owner, a process's name or a reason in parentheses.
    pub fn owned(&self) -> Vec<(String, Bytes)> {
        let of = |owner: &Owner| owner.counts.iter().map(|count| self.truth[count]).sum();
        self.owners.iter().map(|owner| (owner.name.clone(), of(owner))).collect()
    }

    /// All true bytes, if the program shows nothing else.
    pub fn all(&self) -> Option<Bytes> {
        (!self.elsewhere).then(|| self.truth.values().copied().sum())
    }
}

/// A workload after it was played; its processes and namespaces are there as long as this is.
pub struct Played {
    truth: BTreeMap<String, Bytes>,
    packets: BTreeMap<String, Bytes>,
    /// Of the tables that count.
    families: Vec<&'static str>,
    owners: Vec<Owner>,
    /// Something to be said of this time.
    pub note: Option<String>,
    /// The share of their time that all processors of this host were idle while it was played, from 0 to 1.
    pub idle: f64,
    elsewhere: bool,
    closes_first: bool,
    header: u64,
    bare: u64,
    _kept: Vec<Box<dyn Any>>,
    net: Net,
}
