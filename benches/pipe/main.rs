//! How fast `runpipe` forwards TCP beside other forwarders, in the same run: `cargo bench --bench
//! pipe`, as root.
//!
//! ```text
//!   bench ──┬── janitor      ends what is left in the namespace, and deletes it, when the bench is
//!           │                gone, however it went
//!           └── conduct ──┬── iperf3 -s, nginx      one at a time
//!                         ├── a forwarder           one at a time; `relay` is one of them
//!                         └── iperf3 -c, wrk        through it
//!               (all of this lives in a network namespace of the bench's own)
//! ```
//!
//! Each of these is this very program, started again with a role for its first argument, or a
//! program of the system's. Figures of different runs can't be compared on a machine that does
//! other things too; those of one round can. So the contestants take turns, every round begins with
//! another one, and ratios are those of the rounds.
//!
//! After `--`: what to measure (bulk, requests, idle), whom (names of contestants), `--rounds N`,
//! `--seconds S` for each figure, and `--hold NAME`, which keeps one of them for a profiler.

mod bulk;
mod figures;
mod hold;
mod idle;
mod options;
mod peers;
mod relay;
mod requests;
mod rounds;
mod stage;
mod table;

use std::process::ExitCode;

use clap::Parser;
use testbed::bench::tracked;
use testbed::program::Program;

use options::Options;

const RUNPIPE: Program = testbed::program!("runpipe");

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["janitor", ref what @ ..] => tracked::janitor(what)?,
        ["conduct", path, directory, ref words @ ..] => conduct(path, directory, words)?,
        ["relay", port, remote] => relay::serve(port.parse()?, remote.parse()?)?,
        _ if Options::parse().asked.is_measured("pipe") => return stage::run_inside(&words),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// In the namespace.
fn conduct(path: &str, directory: &str, words: &[&str]) -> anyhow::Result<()> {
    let stage = stage::Stage::prepare(path, directory)?;
    // What comes first is the program's name.
    let options = Options::try_parse_from([&["pipe"], words].concat())?;
    match options.hold {
        Some(peer) => hold::hold(&stage, peer),
        None => rounds::compare(&stage, &options),
    }
}
