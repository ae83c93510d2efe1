//! What was asked for on the command line.

use clap::Parser;
use testbed::bench::options::{Asked, one_of, or_all, some};
use testbed::bench::watcher::Peer;

use crate::peers::PEERS;
use crate::scene::Side;

const PARTS: [(&str, Part); 3] =
    [("births", Part::Births), ("bulk", Part::Bulk), ("memory", Part::Memory)];
const SIDES: [(&str, Side); 4] = [
    ("client", Side::Client),
    ("server", Side::Server),
    ("workers", Side::Workers),
    ("numbered", Side::Numbered),
];

/// What to measure.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Births,
    Bulk,
    Memory,
}

#[derive(Clone, Copy)]
enum Choice {
    Part(Part),
    Side(Side),
    Peer(&'static Peer),
}

#[derive(Parser)]
#[command(
    bin_name = "cargo bench --bench watching --",
    about = "What watching costs, beside other programs that show which process uses the network"
)]
struct Arguments {
    #[command(flatten)]
    asked: Asked,
    /// What to measure, at which end births are watched, and whom; everything of a kind of which nothing is named
    #[arg(value_name = "CHOICE", value_parser = one_of(choices()))]
    chosen: Vec<Choice>,
    // There is nothing new to see when conntrack has begun to forget, after two minutes.
    /// Seconds of births, 15 at the least
    #[arg(long, value_name = "S", default_value_t = 145, value_parser = clap::value_parser!(u64).range(15..))]
    seconds: u64,
    /// Rounds of bulk
    #[arg(long, value_name = "N", default_value = "5", value_parser = some())]
    rounds: usize,
}

fn choices() -> Vec<(&'static str, Choice)> {
    let parts = PARTS.iter().map(|(name, part)| (*name, Choice::Part(*part)));
    let sides = SIDES.map(|(name, side)| (name, Choice::Side(side)));
    parts.chain(sides).chain(PEERS.iter().map(|peer| (peer.name, Choice::Peer(peer)))).collect()
}

/// The command line, understood.
pub(crate) struct Options {
    pub(crate) asked: Asked,
    pub(crate) parts: Vec<Part>,
    pub(crate) sides: Vec<Side>,
    pub(crate) peers: Vec<&'static Peer>,
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
}

impl Options {
    /// Ends the program if they are wrong.
    pub(crate) fn parse() -> Options {
        let Arguments { asked, chosen, seconds, rounds } = Arguments::parse();
        let chosen = || chosen.iter().copied();
        let part = |choice| if let Choice::Part(part) = choice { Some(part) } else { None };
        let side = |choice| if let Choice::Side(side) = choice { Some(side) } else { None };
        let peer = |choice| if let Choice::Peer(peer) = choice { Some(peer) } else { None };
        Options {
            asked,
            parts: or_all(chosen().filter_map(part), PARTS.map(|(_, part)| part)),
            sides: or_all(chosen().filter_map(side), SIDES.map(|(_, side)| side)),
            peers: or_all(chosen().filter_map(peer), &PEERS),
            seconds,
            rounds,
        }
    }
}
