//! What a refresh takes where there are very many sockets.

use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use testbed::bench::figures::{print, spread};
use testbed::bench::tracked::Kept;
use testbed::bench::watcher::Peer;
use testbed::netns::Namespace;

use crate::holders::Holders;
use crate::options::Options;
use crate::reading::Reading;

/// A program's refreshes are a second apart; when one has been printed, this much later all of its work
/// is done.
const AFTER: Duration = Duration::from_millis(100);
/// Refreshes before the first one that is measured.
const WARM: u64 = 3;
/// How often the counters alone are read.
const READINGS: usize = 11;

pub(crate) fn compare(options: &Options) -> anyhow::Result<()> {
    // A flow for every pair, and some more.
    let namespace = Kept::tracking(options.sockets)?;
    let mut holders = Holders::start(options.sockets, &namespace)?;
    let title = format!("{} connected UDP sockets", holders.count);
    let mut rows = Vec::new();
    for peer in options.peers.iter().filter(|peer| peer.is_ours) {
        eprintln!("{title}: {}", peer.name);
        match watch(peer, &namespace, &mut holders, options.seconds) {
            Ok(row) => rows.push(row),
            Err(error) => println!("! {title}: {}: {error:#}", peer.name),
        }
    }
    let headings = [
        "ms per refresh, nothing moves",
        "their mean",
        "ms per refresh, every socket has sent a packet",
        "their mean",
        "peak MB",
        "bytes named, %",
    ];
    let heading = format!("{title}: CPU of {} refreshes each, a second apart", options.seconds);
    print(&heading, &headings.map(str::to_owned), &rows);
    if options.peers.iter().any(|peer| peer.name == "ebpf") {
        eprintln!("{title}: the counters alone");
        match read(&namespace, &mut holders) {
            Ok([still, moving]) => println!(
                "\nReading the counters alone, {READINGS} times, ms of CPU: {} when nothing moves, {} \
                 when every socket has sent a packet",
                spread(still, 2),
                spread(moving, 2)
            ),
            Err(error) => println!("! {title}: the counters alone: {error:#}"),
        }
    }
    Ok(())
}

fn watch(
    peer: &Peer,
    namespace: &Namespace,
    holders: &mut Holders,
    refreshes: u64,
) -> anyhow::Result<Vec<String>> {
    let mut watcher = peer.start(namespace)?;
    let mut values = [Vec::new(), Vec::new()];
    for (moving, values) in [false, true].into_iter().zip(&mut values) {
        for number in 0..WARM + refreshes {
            // They are to have bytes to be shown before they are still.
            if moving || number == 0 {
                holders.stir()?;
            }
            let before = watcher.cpu()?;
            watcher.wait_until_it_prints()?;
            sleep(AFTER);
            if number >= WARM {
                values.push((watcher.cpu()? - before) * 1e3);
            }
        }
    }
    let peak = watcher.memory()?.peak;
    let named = watcher.end().seen.share();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let [still, moving] = values;
    Ok(vec![
        peer.name.to_owned(),
        spread(still.iter().copied(), 1),
        spread([mean(&still)], 1),
        spread(moving.iter().copied(), 1),
        spread([mean(&moving)], 1),
        spread([peak], 1),
        spread([named], 1),
    ])
}

/// Milliseconds of each reading of the counters, when nothing moves, and when everything does.
fn read(namespace: &Namespace, holders: &mut Holders) -> anyhow::Result<[Vec<f64>; 2]> {
    let mut reading = Reading::start(namespace)?;
    let mut values = [Vec::new(), Vec::new()];
    holders.stir()?;
    reading.ask()?;
    for (moving, values) in [false, true].into_iter().zip(&mut values) {
        for _ in 0..READINGS {
            if moving {
                holders.stir()?;
            }
            let (sockets, milliseconds) = reading.ask()?;
            ensure!(
                sockets as usize >= holders.count,
                "only {sockets} of {} sockets were counted",
                holders.count
            );
            values.push(milliseconds);
        }
    }
    Ok(values)
}
