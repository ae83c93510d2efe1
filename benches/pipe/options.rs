//! What was asked for on the command line.

use clap::Parser;
use testbed::bench::options::{Asked, one_of, or_all, some};

use crate::figures::Group;
use crate::peers::{PEERS, Peer};
use crate::{bulk, idle, requests};

/// All there is to measure.
static GROUPS: [&Group; 3] = [&bulk::GROUP, &requests::GROUP, &idle::GROUP];

#[derive(Clone, Copy)]
enum Choice {
    Group(&'static Group),
    Peer(&'static Peer),
}

/// The command line, understood. Seven contestants take about a quarter of an hour by default.
#[derive(Parser)]
#[command(
    bin_name = "cargo bench --bench pipe --",
    about = "How fast runpipe forwards TCP beside other forwarders"
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// What to measure, and whom; everything of a kind of which nothing is named
    #[arg(value_name = "CHOICE", value_parser = one_of(choices()))]
    chosen: Vec<Choice>,
    /// How often each contestant has its turn
    #[arg(long, value_name = "N", default_value = "5", value_parser = some())]
    pub(crate) rounds: usize,
    /// Seconds for each figure
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Keep this contestant for a profiler, and measure nothing
    #[arg(long, value_name = "NAME", value_parser = one_of(peers()))]
    pub(crate) hold: Option<&'static Peer>,
}

fn peers() -> Vec<(&'static str, &'static Peer)> {
    PEERS.iter().map(|peer| (peer.name, peer)).collect()
}

fn choices() -> Vec<(&'static str, Choice)> {
    let groups = GROUPS.map(|group| (group.name, Choice::Group(group)));
    let peers = peers().into_iter().map(|(name, peer)| (name, Choice::Peer(peer)));
    groups.into_iter().chain(peers).collect()
}

impl Options {
    /// What to measure.
    pub(crate) fn groups(&self) -> Vec<&'static Group> {
        let group = |choice: &Choice| match choice {
            Choice::Group(group) => Some(*group),
            Choice::Peer(_) => None,
        };
        or_all(self.chosen.iter().filter_map(group), GROUPS)
    }

    /// Whom to measure.
    pub(crate) fn peers(&self) -> Vec<&'static Peer> {
        let peer = |choice: &Choice| match choice {
            Choice::Peer(peer) => Some(*peer),
            Choice::Group(_) => None,
        };
        or_all(self.chosen.iter().filter_map(peer), &PEERS)
    }
}
