//! What watching costs those who are watched, and what it takes itself when much goes on, beside other
//! programs and nobody, in the same run: `cargo bench --bench overhead`, as root.
//!
//! ```text
//!   bench ──┬── janitor × 2        delete the namespaces when the bench is gone, however it went
//!           ├── paired             connections to itself, with and without programs in the kernel
//!           ├── iperf3 × 2         throughput: as many bytes as go through one connection
//!           ├── packets            small packets, which it sends to itself
//!           ├── nginx, wrk         requests: a connection for each
//!           ├── holder × 8         sockets: have 100,000 of them
//!           ├── reader             reads the counters of these, and does nothing else
//!           └── a program that watches, one at a time
//! ```
//!
//! Each of these is this very program, started again with a role for its first argument, or a
//! program of the system's. Figures of different runs can't be compared on a machine that does other
//! things too. So the contestants take turns, every round begins with another one, and nobody watches
//! before and after each of them: every figure stands beside the median of all that is unwatched in the
//! same run, and beside the mean of what came right before and after.
//!
//! Over `veth` the ends live in a namespace each, with a link between them as the kernel makes it; over
//! `loopback` both live in one. One namespace is watched, and connections are tracked there, whoever
//! watches: what that costs is in none of the ratios. What counts in the kernel counts for all
//! namespaces, and so at both ends, which elsewhere are on two hosts: it is charged twice.
//!
//! One contestant does nothing: `hooks` has programs at the hooks in the kernel that return at once, which
//! clang-14 makes of `hooks.bpf.c`. Nobody who counts there can cost less.
//!
//! After `--`: what to measure (connections, pieces, throughput, packets, requests, sockets), where (veth,
//! loopback), whom (names of contestants), `--seconds S` for each figure, `--rounds N`, and `--sockets N`.

mod holders;
mod hooks;
mod options;
mod packets;
mod paired;
mod peers;
mod reading;
mod requests;
mod rounds;
mod scene;
mod sockets;
mod throughput;

use testbed::bench::{tracked, watcher};
use testbed::program::Program;

use options::{Options, Part};

const RUNMONITOR: Program = testbed::program!("runmonitor");

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // Some choices are called like roles; this is the word that cargo adds.
        [.., "--bench"] => bench(Options::parse())?,
        ["janitor", ref what @ ..] => tracked::janitor(what)?,
        ["packets", seconds, ref there @ ..] => {
            packets::send(seconds.parse()?, there.first().copied())?;
        }
        ["holder", first, count] => holders::hold(first.parse()?, count.parse()?)?,
        ["hooks", ..] => hooks::hold()?,
        ["paired", work, rounds] => paired::measure(work, rounds.parse()?)?,
        ["reader"] => reading::read()?,
        _ => bench(Options::parse())?,
    }
    Ok(())
}

fn bench(mut options: Options) -> anyhow::Result<()> {
    if !options.asked.is_measured("overhead") {
        return Ok(());
    }
    watcher::keep_those_there(&mut options.peers);
    for part in &options.parts {
        match part {
            Part::Load(load) => rounds::compare(load, &options)?,
            Part::Paired(work) => paired::compare(work, &options)?,
            Part::Sockets => sockets::compare(&options)?,
        }
    }
    Ok(())
}
