//! What was asked for on the command line.

use anyhow::{Context, bail, ensure};

use crate::figures::Group;
use crate::peers::{PEERS, Peer};
use crate::{bulk, idle, requests};

/// All there is to measure.
static GROUPS: [&Group; 3] = [&bulk::GROUP, &requests::GROUP, &idle::GROUP];

/// Seven contestants take about a quarter of an hour with these.
const ROUNDS: usize = 5;
const SECONDS: u64 = 2;

/// The command line, understood.
pub(crate) struct Options {
    /// Whether to measure at all: `cargo test` runs this program too.
    pub(crate) asked: bool,
    pub(crate) groups: Vec<&'static Group>,
    pub(crate) peers: Vec<&'static Peer>,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) hold: Option<&'static Peer>,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options {
            asked: false,
            groups: Vec::new(),
            peers: Vec::new(),
            rounds: ROUNDS,
            seconds: SECONDS,
            hold: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--bench" => options.asked = true,
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--hold" => {
                    let name = value()?;
                    options.hold = Some(peer(name).with_context(|| format!("who is {name:?}?"))?);
                }
                name => match (GROUPS.iter().find(|group| group.name == name), peer(name)) {
                    (Some(group), _) => options.groups.push(group),
                    (None, Some(peer)) => options.peers.push(peer),
                    (None, None) => bail!("{name:?} is none of: {}", known()),
                },
            }
        }
        ensure!(options.rounds > 0 && options.seconds > 0, "nothing can be measured in no time");
        if options.groups.is_empty() {
            options.groups.extend(GROUPS);
        }
        if options.peers.is_empty() {
            options.peers.extend(&PEERS);
        }
        Ok(options)
    }
}

fn peer(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

fn known() -> String {
    let mut names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
    names.extend(PEERS.iter().map(|peer| peer.name));
    names.extend(["--rounds N", "--seconds S", "--hold NAME"]);
    names.join(", ")
}
