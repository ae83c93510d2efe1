//! The programs on real traffic, a file for each subject. Where a test belongs says `tests/README.md`; what tests
//! share is the crate `testbed`.
//!
//! `pipe` and `runpipe` forward between sockets of the tests' own, as does `runaggregator` where only
//! its pipes matter. All others are `runmonitor`'s and `runaggregator`'s, in network namespaces: every
//! test builds its own, counts the true bytes with nft, lets processes of known name move a known
//! payload, and compares what the program shows. They need root, `ip`, `nft`, `conntrack`, `nsenter`
//! and `/usr/bin/python3`; where one is missing a test prints `SKIPPED` and why, and with
//! `BWMON_REQUIRE_NETNS=1` it fails instead. `floors`, one test for each of the workloads
//! that the bench `truth` plays too, also needs `cc` and the C library's static half when it is
//! built. `top` needs `tmux`.

// The lint's exemption for tests knows functions marked #[test], not what stands around them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod conservation;
mod details;
mod documents;
mod ebpf;
mod filters;
mod first_refresh;
mod floors;
mod formats;
mod harness;
mod hostile;
mod lookback;
mod loopback;
mod mptcp;
mod names;
mod namespaces;
mod nat;
mod pages;
mod pings;
mod pipe;
mod recordings;
mod runaggregator;
mod runpipe;
mod servers;
mod snapshots;
mod sources;
mod tcp;
mod terminal;
mod top;
mod udp;
mod unread;

use testbed::program::Program;

/// The programs, as cargo has built them for these tests.
const RUNMONITOR: Program = testbed::program!("runmonitor");
const RUNPIPE: Program = testbed::program!("runpipe");
const RUNAGGREGATOR: Program = testbed::program!("runaggregator");
