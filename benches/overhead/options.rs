//! What was asked for on the command line.

use clap::Parser;
use testbed::bench::options::{Asked, one_of, or_all, some};
use testbed::bench::watcher::Peer;

use crate::paired::{self, Work};
use crate::peers::{PEERS, hooks};
use crate::rounds::Load;
use crate::scene::Place;
use crate::{packets, requests, throughput};

static PARTS: [(&str, Part); 6] = [
    (paired::CONNECTIONS.name, Part::Paired(&paired::CONNECTIONS)),
    (paired::PIECES.name, Part::Paired(&paired::PIECES)),
    ("throughput", Part::Load(&throughput::LOAD)),
    ("packets", Part::Load(&packets::LOAD)),
    ("requests", Part::Load(&requests::LOAD)),
    ("sockets", Part::Sockets),
];
const PLACES: [(&str, Place); 2] = [("veth", Place::Veth), ("loopback", Place::Loopback)];

/// What to measure.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Paired(&'static Work),
    Load(&'static Load),
    Sockets,
}

#[derive(Clone, Copy)]
enum Choice {
    Part(Part),
    Place(Place),
    Peer(&'static Peer),
}

#[derive(Parser)]
#[command(
    bin_name = "cargo bench --bench overhead --",
    about = "What watching costs those who are watched, and what it takes itself"
)]
struct Arguments {
    #[command(flatten)]
    asked: Asked,
    /// What to measure, where, and whom; everything of a kind of which nothing is named
    #[arg(value_name = "CHOICE", value_parser = one_of(choices()))]
    chosen: Vec<Choice>,
    /// Seconds for each figure
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often each contestant has its turn
    #[arg(long, value_name = "N", default_value = "9", value_parser = some())]
    rounds: usize,
    /// How many of them there are where there are very many
    #[arg(long, value_name = "N", default_value = "100000", value_parser = some())]
    sockets: usize,
}

fn peers() -> impl Iterator<Item = &'static Peer> {
    PEERS.iter().chain([hooks()])
}

fn choices() -> Vec<(&'static str, Choice)> {
    let parts = PARTS.iter().map(|(name, part)| (*name, Choice::Part(*part)));
    let places = PLACES.map(|(name, place)| (name, Choice::Place(place)));
    parts.chain(places).chain(peers().map(|peer| (peer.name, Choice::Peer(peer)))).collect()
}

/// The command line, understood.
pub(crate) struct Options {
    pub(crate) asked: Asked,
    pub(crate) parts: Vec<Part>,
    pub(crate) places: Vec<Place>,
    pub(crate) peers: Vec<&'static Peer>,
    /// For each figure.
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
    pub(crate) sockets: usize,
}

impl Options {
    /// Ends the program if they are wrong.
    pub(crate) fn parse() -> Options {
        let Arguments { asked, chosen, seconds, rounds, sockets } = Arguments::parse();
        let chosen = || chosen.iter().copied();
        let part = |choice| if let Choice::Part(part) = choice { Some(part) } else { None };
        let place = |choice| if let Choice::Place(place) = choice { Some(place) } else { None };
        let peer = |choice| if let Choice::Peer(peer) = choice { Some(peer) } else { None };
        Options {
            asked,
            parts: or_all(chosen().filter_map(part), PARTS.map(|(_, part)| part)),
            places: or_all(chosen().filter_map(place), PLACES.map(|(_, place)| place)),
            peers: or_all(chosen().filter_map(peer), peers()),
            seconds,
            rounds,
            sockets,
        }
    }
}
