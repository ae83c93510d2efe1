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

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/measured.rs"]
mod measured;

mod bulk;
mod figures;
#[path = "../common/found.rs"]
mod found;
mod hold;
mod idle;
#[path = "../common/iperf3.rs"]
mod iperf3;
#[path = "../common/members.rs"]
mod members;
mod options;
mod peers;
mod relay;
mod requests;
mod rounds;
#[path = "../common/server.rs"]
mod server;
mod stage;
mod table;
mod usage;
#[path = "../common/web.rs"]
mod web;

use std::process::ExitCode;

use options::Options;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["janitor", name, directory] => stage::janitor(name, directory)?,
        ["conduct", path, directory, ref words @ ..] => conduct(path, directory, words)?,
        ["relay", port, remote] => relay::serve(port.parse()?, remote.parse()?)?,
        _ => return bench(&words),
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(words: &[&str]) -> anyhow::Result<ExitCode> {
    let options = Options::parse(words)?;
    if measured::is_measured("pipe", options.asked) {
        return stage::run_inside(words);
    }
    Ok(ExitCode::SUCCESS)
}

/// In the namespace.
fn conduct(path: &str, directory: &str, words: &[&str]) -> anyhow::Result<()> {
    let stage = stage::Stage::prepare(path, directory)?;
    let options = Options::parse(words)?;
    match options.hold {
        Some(peer) => hold::hold(&stage, peer),
        None => rounds::compare(&stage, &options),
    }
}
