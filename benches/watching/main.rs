//! What watching costs, beside other programs that show which process uses the network, in the same
//! run: `cargo bench --bench watching`, as root.
//!
//! ```text
//!   bench ──┬── janitor × 2          delete the namespaces when the bench is gone, however it went
//!           ├── server               answers, with threads or with four workers that are called the
//!           │                        same (workers) or each its own way (numbered)
//!           ├── connect              makes 2,000 connections a second, or
//!           │   processes ── brief   starts 500 processes a second, a connection each
//!           └── a program that watches, one at a time
//!               (the two ends live in a network namespace each; one of them is watched)
//! ```
//!
//! Each of these is this very program, started again with a role for its first argument, or a
//! program of the system's.
//!
//! After `--`: what to measure (births, bulk, memory), at which end births are watched (client,
//! server, workers, numbered), whom (names of contestants), `--seconds S` of births, and `--rounds N`
//! of bulk.

mod births;
mod bulk;
mod ends;
mod memory;
mod options;
mod pace;
mod peers;
mod scene;
// Here the ends are measured without the kernel's threads.
#[allow(dead_code)]
use testbed::bench::{tracked, watcher};
use testbed::program::Program;

use ends::Serving;
use options::{Options, Part};

const RUNMONITOR: Program = testbed::program!("runmonitor");

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // Some choices are called like roles; this is the word that cargo adds.
        [.., "--bench"] => bench(Options::parse())?,
        ["janitor", ref what @ ..] => tracked::janitor(what)?,
        ["server"] => ends::serve(Serving::Threads)?,
        ["workers"] => ends::serve(Serving::Workers)?,
        ["numbered"] => ends::serve(Serving::Numbered)?,
        ["worker", _] => ends::work()?,
        ["connect", rate] => ends::connect(rate.parse()?)?,
        ["processes", rate, program] => ends::start_processes(rate.parse()?, program)?,
        _ => bench(Options::parse())?,
    }
    Ok(())
}

fn bench(mut options: Options) -> anyhow::Result<()> {
    if !options.asked.is_measured("watching") {
        return Ok(());
    }
    watcher::keep_those_there(&mut options.peers);
    for part in &options.parts {
        match part {
            Part::Births => births::compare(&options)?,
            Part::Bulk => bulk::compare(&options)?,
            Part::Memory => memory::compare(&options)?,
        }
    }
    Ok(())
}
