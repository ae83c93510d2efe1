//! What was asked for on the command line.

use anyhow::{Context, bail, ensure};

use crate::choice::{named, names};
use crate::peers::PEERS;
use crate::scene::Side;
use crate::watcher::Peer;

/// There is nothing new to see when conntrack has begun to forget, after two minutes.
const SECONDS: u64 = 145;
const ROUNDS: usize = 5;

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

/// The command line, understood.
pub(crate) struct Options {
    /// Whether to measure at all: `cargo test` runs this program too.
    pub(crate) asked: bool,
    pub(crate) parts: Vec<Part>,
    pub(crate) sides: Vec<Side>,
    pub(crate) peers: Vec<&'static Peer>,
    pub(crate) seconds: u64,
    pub(crate) rounds: usize,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options {
            asked: false,
            parts: Vec::new(),
            sides: Vec::new(),
            peers: Vec::new(),
            seconds: SECONDS,
            rounds: ROUNDS,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--bench" => options.asked = true,
                "--seconds" => options.seconds = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                name => {
                    let before = options.chosen();
                    options.parts.extend(named(&PARTS, name));
                    options.sides.extend(named(&SIDES, name));
                    options.peers.extend(PEERS.iter().filter(|peer| peer.name == name));
                    if options.chosen() == before {
                        bail!("{name:?} is none of: {}", known());
                    }
                }
            }
        }
        ensure!(options.seconds >= 15 && options.rounds > 0, "15 seconds and a round at the least");
        if options.parts.is_empty() {
            options.parts.extend(PARTS.map(|(_, part)| part));
        }
        if options.sides.is_empty() {
            options.sides.extend(SIDES.map(|(_, side)| side));
        }
        if options.peers.is_empty() {
            options.peers.extend(&PEERS);
        }
        Ok(options)
    }

    fn chosen(&self) -> usize {
        self.parts.len() + self.sides.len() + self.peers.len()
    }
}

fn known() -> String {
    let mut known: Vec<&str> = names(&PARTS).collect();
    known.extend(names(&SIDES));
    known.extend(PEERS.iter().map(|peer| peer.name));
    known.extend(["--seconds S", "--rounds N"]);
    known.join(", ")
}
