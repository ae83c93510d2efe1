//! What was asked for on the command line.

use anyhow::{Context, bail, ensure};

use crate::choice::{named, names};
use crate::paired::{self, Work};
use crate::peers::{PEERS, hooks};
use crate::rounds::Load;
use crate::scene::Place;
use crate::watcher::Peer;
use crate::{packets, requests, throughput};

const SECONDS: u64 = 5;
const ROUNDS: usize = 9;
const SOCKETS: usize = 100_000;

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

/// The command line, understood.
pub(crate) struct Options {
    /// Whether to measure at all: `cargo test` runs this program too.
    pub(crate) asked: bool,
    pub(crate) parts: Vec<Part>,
    pub(crate) places: Vec<Place>,
    pub(crate) peers: Vec<&'static Peer>,
    /// For each figure.
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
    pub(crate) sockets: usize,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options {
            asked: false,
            parts: Vec::new(),
            places: Vec::new(),
            peers: Vec::new(),
            seconds: SECONDS,
            rounds: ROUNDS,
            sockets: SOCKETS,
        };
        let peers: Vec<&'static Peer> = PEERS.iter().chain([hooks()?]).collect();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--bench" => options.asked = true,
                "--seconds" => options.seconds = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--sockets" => options.sockets = value()?.parse()?,
                name => {
                    let before = options.chosen();
                    options.parts.extend(named(&PARTS, name));
                    options.places.extend(named(&PLACES, name));
                    options.peers.extend(peers.iter().filter(|peer| peer.name == name));
                    if options.chosen() == before {
                        bail!("{name:?} is none of: {}", known(&peers));
                    }
                }
            }
        }
        ensure!(options.rounds > 0 && options.seconds > 0, "nothing can be measured in no time");
        if options.parts.is_empty() {
            options.parts.extend(PARTS.iter().map(|(_, part)| *part));
        }
        if options.places.is_empty() {
            options.places.extend(PLACES.map(|(_, place)| place));
        }
        if options.peers.is_empty() {
            options.peers.extend(peers);
        }
        Ok(options)
    }

    fn chosen(&self) -> usize {
        self.parts.len() + self.places.len() + self.peers.len()
    }
}

fn known(peers: &[&Peer]) -> String {
    let mut known: Vec<&str> = names(&PARTS).collect();
    known.extend(names(&PLACES));
    known.extend(peers.iter().map(|peer| peer.name));
    known.extend(["--seconds S", "--rounds N", "--sockets N"]);
    known.join(", ")
}
