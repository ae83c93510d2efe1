//! The contestants take turns.

use testbed::command::found;

use crate::figures::{Effort, Figure, Group, Results};
use crate::options::Options;
use crate::peers::{Forwarder, OURS, Peer};
use crate::stage::{FORWARDER, Stage};
use crate::table;

pub(crate) fn compare(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let mut groups = options.groups();
    groups.retain(|group| {
        let missing: Vec<&str> = group.needs.iter().copied().filter(|name| !found(name)).collect();
        if !missing.is_empty() {
            println!("LEFT OUT: {}: no {}", group.name, missing.join(" and no "));
        }
        missing.is_empty()
    });
    // The first turn shows who is there and warms what can be warm; it isn't counted.
    let mut peers = options.peers();
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
    table::ratios(&groups, &names, &results, OURS);
    Ok(())
}

fn turn(stage: &Stage, group: &Group, peer: &Peer, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let _server = (group.serve)(stage)?;
    let forwarder = Forwarder::start(peer, stage, FORWARDER, group.remote)?;
    (group.measure)(&forwarder, effort)
}
