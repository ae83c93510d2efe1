//! How much of what is true each program shows under the right name: `cargo bench --bench truth`, as
//! root.
//!
//! The workloads are those of the tests (`testbed/src/workloads`), each played once for each program, in a
//! namespace of its own and with nothing else running; the true bytes are nft's. A cell is the share
//! of them, received / sent, that the program gives to the right process, in percent: one number
//! where both are the same; above 100 where it shows more than there was. "conserved" tells whether
//! all lines of `runmonitor --unattributed` together are the true bytes.
//!
//! `-- --busy` plays every workload beside a busy loop for each processor.
//!
//! `-- WORD...` plays only workloads that hold one of the words, and for the programs that are named:
//! ebpf, conntrack, sockets (`runmonitor` with that source), nethogs, bandwhich. The last two are left out
//! where they are not installed (`apt-get install nethogs`, `cargo install bandwhich`). Each is
//! taken as exact in its own unit: frames for nethogs, what comes after the IP header for bandwhich.
//! `-- details` plays them with `--details` instead, and compares the remote ends of each row with the row; `-- remotes`
//! plays scenes of which the bytes of each remote host and interface are known.
//!
//! `--source sockets` counts payload, which is less than IP bytes and shows as that.

mod details;
mod peers;
mod remotes;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use clap::Parser;
use testbed::bench::options::Asked;
use testbed::busy::Busy;
use testbed::program::Program as Built;
use testbed::workloads::comparison::Share;
use testbed::workloads::{Size, WORKLOADS, Workload};

use peers::Peer;

const RUNMONITOR: Built = testbed::program!("runmonitor");

/// How long `runmonitor` may take to show what it has.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Ebpf,
    Conntrack,
    Sockets,
    Peer(Peer),
}

impl Program {
    /// Whether all its lines together are to be the true bytes.
    fn is_whole(self) -> bool {
        matches!(self, Program::Ebpf | Program::Conntrack)
    }
}

const PROGRAMS: [(&str, &str, Program); 5] = [
    ("ebpf", "runmonitor --source ebpf", Program::Ebpf),
    ("conntrack", "runmonitor --source conntrack", Program::Conntrack),
    ("sockets", "runmonitor --source sockets", Program::Sockets),
    ("nethogs", "nethogs", Program::Peer(Peer::Nethogs)),
    ("bandwhich", "bandwhich", Program::Peer(Peer::Bandwhich)),
];

#[derive(Parser)]
#[command(
    bin_name = "cargo bench --bench truth --",
    about = "How much of what is true each program shows under the right name"
)]
struct Options {
    #[command(flatten)]
    asked: Asked,
    /// Play every workload beside a busy loop for each processor
    #[arg(long)]
    busy: bool,
    /// Measure these programs (ebpf, conntrack, sockets, nethogs, bandwhich), and play only workloads that hold one of
    /// the other words; all of them by default
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

fn main() {
    let Options { asked, busy, words } = Options::parse();
    if !asked.is_measured("truth") {
        return;
    }
    let (tables, words): (Vec<String>, Vec<String>) =
        words.into_iter().partition(|word| word == "details" || word == "remotes");
    let is_program = |word: &str| PROGRAMS.iter().any(|(name, ..)| *name == word);
    let (names, parts): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| is_program(word));
    let chosen = |workload: &&Workload| {
        let has = |part: &&str| workload.name.contains(part) || workload.title.contains(part);
        parts.is_empty() || parts.iter().any(has)
    };
    let workloads: Vec<&Workload> = WORKLOADS.iter().copied().flatten().filter(chosen).collect();
    if let Some(table) = tables.first() {
        let source = names.first().copied().unwrap_or("ebpf");
        return match table.as_str() {
            "remotes" => remotes::table(source),
            _ => details::table(&workloads, source),
        };
    }
    let programs: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(name, ..)| names.is_empty() || names.contains(name))
        .filter(|(.., program)| match program {
            Program::Peer(peer) => peer.is_installed(),
            _ => true,
        })
        .collect();
    table(&workloads, &programs, busy);
}

/// Prints each line as soon as it is known, and then what holds for all of them.
fn table(workloads: &[&Workload], programs: &[(&str, &str, Program)], busy: bool) {
    let mut heads = vec!["in / out, percent"];
    for (_, title, program) in programs {
        heads.push(title);
        if program.is_whole() {
            heads.push("conserved");
        }
    }
    line(&heads);
    line(&vec!["---"; heads.len()]);
    let mut notes = Vec::new();
    let mut summaries: Vec<Summary> = programs.iter().map(|_| Summary::default()).collect();
    for workload in workloads {
        let mut cells = vec![workload.title.to_owned()];
        for ((name, _, program), summary) in programs.iter().zip(&mut summaries) {
            let _busy = busy.then(Busy::shared);
            // What went wrong is on stderr; the others can be measured all the same.
            let cell = catch_unwind(AssertUnwindSafe(|| measure(workload, *program)))
                .unwrap_or_else(|_| Cell { shown: "failed".to_owned(), ..Cell::default() });
            summary.add(workload, &cell);
            cells.push(cell.shown);
            if program.is_whole() {
                cells.push(cell.conserved);
            }
            notes.extend(cell.note.map(|note| format!("- {}, {name}: {note}", workload.title)));
        }
        line(&cells);
    }
    println!();
    for note in notes {
        println!("{note}");
    }
    for ((name, _, program), summary) in programs.iter().zip(&summaries) {
        if program.is_whole() {
            println!("{name}: {summary}");
        }
    }
}

fn line(cells: &[impl AsRef<str>]) {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    println!("| {} |", cells.join(" | "));
}

/// One program and all workloads.
#[derive(Default)]
struct Summary {
    workloads: usize,
    /// The smallest share, of either direction, and its workload.
    smallest: Option<(f64, &'static str)>,
    /// The workloads that failed, and those that were not conserved exactly.
    failed: Vec<&'static str>,
    unconserved: Vec<&'static str>,
}

impl Summary {
    fn add(&mut self, workload: &Workload, cell: &Cell) {
        let Some(share) = cell.share else {
            // An empty cell is a workload that can't be played here.
            if !cell.shown.is_empty() {
                self.failed.push(workload.name);
            }
            return;
        };
        self.workloads += 1;
        let least = share.received.min(share.sent);
        if self.smallest.is_none_or(|(smallest, _)| least < smallest) {
            self.smallest = Some((least, workload.name));
        }
        if cell.conserved != EXACTLY {
            self.unconserved.push(workload.name);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((smallest, workload)) = self.smallest else {
            return write!(f, "no workload was played");
        };
        write!(
            f,
            "{} workloads, the smallest share by full name {smallest:.2} % ({workload}), ",
            self.workloads
        )?;
        match &*self.unconserved {
            [] => write!(f, "all conserved exactly")?,
            workloads => {
                write!(f, "{} NOT conserved exactly ({})", workloads.len(), workloads.join(", "))?
            }
        }
        match &*self.failed {
            [] => Ok(()),
            workloads => write!(f, ", {} FAILED ({})", workloads.len(), workloads.join(", ")),
        }
    }
}

/// The word for a workload of which no byte is missing or told twice.
const EXACTLY: &str = "exactly";

/// One program and one workload.
#[derive(Default)]
struct Cell {
    shown: String,
    /// As it is shown; the table's empty and failed cells have none.
    share: Option<Share>,
    conserved: String,
    note: Option<String>,
}

fn measure(workload: &Workload, program: Program) -> Cell {
    let source = match program {
        Program::Ebpf => "ebpf",
        Program::Conntrack => "conntrack",
        Program::Sockets => "sockets",
        Program::Peer(peer) => return measure_peer(workload, peer),
    };
    let mut running = None;
    let played = workload.play(Size::Full, Some(source), |net| {
        running = Some(workload.monitor(RUNMONITOR, net, source));
    });
    let (Some(mut played), Some(mut running)) = (played, running) else { return Cell::default() };
    let comparison = played.compare(&mut running, 100.0.into(), source, PATIENCE);
    running.stop();
    let conserved = if comparison.is_conserved() {
        EXACTLY.to_owned()
    } else {
        let difference = |sum: u64, truth: u64| i128::from(sum) - i128::from(truth);
        format!(
            "{:+} / {:+} bytes",
            difference(comparison.sum.received, comparison.expected.received),
            difference(comparison.sum.sent, comparison.expected.sent)
        )
    };
    let share = comparison.right;
    Cell { shown: share.to_string(), share: Some(share), conserved, note: played.note }
}

fn measure_peer(workload: &Workload, peer: Peer) -> Cell {
    let mut watching = None;
    let played = workload.play(Size::Full, None, |net| watching = Some(peer.watch(net)));
    let (Some(played), Some(watching)) = (played, watching) else { return Cell::default() };
    let shown = peer.shown(watching);
    let share = played.right(peer.unit(), |name| peer.of(&shown, name));
    Cell { shown: share.to_string(), share: Some(share), note: played.note, ..Cell::default() }
}
