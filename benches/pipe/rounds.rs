//! The contestants take turns.

use std::collections::HashMap;

use crate::options::Options;
use crate::peers::{Forwarder, OURS, Peer};
use crate::server::Server;
use crate::stage::{FORWARDER, Stage};
use crate::{bulk, idle, requests, table};

/// Figures that come from the same server and client.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Programs.
    pub(crate) needs: &'static [&'static str],
    /// The server's port.
    pub(crate) remote: u16,
    pub(crate) sections: &'static [Section],
    /// Starts the server, if it is a program of its own.
    pub(crate) serve: fn(&Stage) -> anyhow::Result<Option<Server>>,
    /// The figures of all sections, in their order.
    pub(crate) measure: fn(&Forwarder, Effort) -> anyhow::Result<Vec<Figure>>,
}

pub(crate) static GROUPS: [&Group; 3] = [&bulk::GROUP, &requests::GROUP, &idle::GROUP];

/// A table of figures of one kind.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) headings: &'static [&'static str],
    pub(crate) more_is_better: bool,
    pub(crate) decimals: usize,
}

/// What was measured, and what was wrong with it. Not a number if it wasn't measured.
#[derive(Clone)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) flaw: Option<String>,
}

impl Figure {
    pub(crate) fn missing(error: &anyhow::Error) -> Figure {
        Figure { value: f64::NAN, flaw: Some(format!("{error:#}")) }
    }
}

impl From<f64> for Figure {
    fn from(value: f64) -> Figure {
        Figure { value, flaw: None }
    }
}

/// How much to do for a figure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) seconds: u64,
    /// Only the first run of each group.
    brief: bool,
}

impl Effort {
    pub(crate) fn of<T>(self, runs: &[T]) -> &[T] {
        if self.brief { &runs[..runs.len().min(1)] } else { runs }
    }
}

/// The figures of one contestant in one group: a list for each round.
pub(crate) type Results = HashMap<(&'static str, &'static str), Vec<Vec<Figure>>>;

pub(crate) fn compare(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let mut groups = options.groups.clone();
    groups.retain(|group| {
        let missing: Vec<&str> = group.needs.iter().copied().filter(|name| !found(name)).collect();
        if !missing.is_empty() {
            println!("LEFT OUT: {}: no {}", group.name, missing.join(" and no "));
        }
        missing.is_empty()
    });
    // The first turn shows who is there and warms what can be warm; it isn't counted.
    let mut peers = options.peers.clone();
    peers.retain(|peer| {
        let brief = Effort { seconds: 1, brief: true };
        let outcome = groups.iter().try_for_each(|group| {
            let figures = turn(stage, group, peer, brief)?;
            let flaw = figures.into_iter().find_map(|figure| figure.flaw);
            flaw.map_or(Ok(()), |flaw| Err(anyhow::anyhow!("{}: {flaw}", group.name)))
        });
        if let Err(error) = &outcome {
            println!("LEFT OUT: {}: {error:#}", peer.name);
        }
        outcome.is_ok()
    });
    let effort = Effort { seconds: options.seconds, brief: false };
    let mut results = Results::new();
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for group in &groups {
            for number in 0..peers.len() {
                let peer = peers[(number + round) % peers.len()];
                let figures = turn(stage, group, peer, effort).unwrap_or_else(|error| {
                    let width = group.sections.iter().map(|section| section.headings.len()).sum();
                    vec![Figure::missing(&error); width]
                });
                results.entry((group.name, peer.name)).or_default().push(figures);
            }
        }
    }
    println!("{} rounds, {} s for each figure", options.rounds, options.seconds);
    println!("Each figure: the median of the rounds, the least and the greatest.");
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name).collect();
    table::print(&groups, &names, &results);
    table::verdicts(&groups, &names, &results, OURS);
    Ok(())
}

fn turn(stage: &Stage, group: &Group, peer: &Peer, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let _server = (group.serve)(stage)?;
    let forwarder = Forwarder::start(peer, stage, FORWARDER, group.remote)?;
    (group.measure)(&forwarder, effort)
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
