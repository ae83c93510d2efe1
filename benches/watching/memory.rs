//! Whether a program's memory grows with all that it has ever seen.

use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use testbed::bench::figures::print;
use testbed::bench::seen::Seen;
use testbed::bench::usage::Memory;
use testbed::bench::watcher::{NOBODY, Peer};
use testbed::command::found;

use crate::births::RATE;
use crate::options::Options;
use crate::peers::OURS;
use crate::scene::{self, Scene, Side};

/// Processes per second.
const PROCESS_RATE: f64 = 500.0;
const SAMPLES: u64 = 8;
/// Conntrack is to forget while it is looked at.
const REMEMBERED: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// What there is more and more of.
struct Kind {
    name: &'static str,
    role: Vec<String>,
    rate: f64,
    /// Between two samples.
    step: u64,
}

pub(crate) fn compare(options: &Options) -> anyhow::Result<()> {
    let role = vec!["connect".to_owned(), RATE.to_string()];
    let mut kinds = vec![Kind { name: "connections", role, rate: RATE, step: 25_000 }];
    if found("cc") {
        let role = vec!["processes".to_owned(), PROCESS_RATE.to_string(), scene::brief()?];
        kinds.push(Kind { name: "processes", role, rate: PROCESS_RATE, step: 2_500 });
    } else {
        println!("LEFT OUT: memory, processes: no cc");
    }
    for kind in &kinds {
        let mut runs = Vec::new();
        for peer in options.peers.iter().filter(|peer| peer.name != NOBODY) {
            eprintln!("memory: {}, {}", kind.name, peer.name);
            match watch(peer, kind) {
                Ok(run) => runs.push(run),
                Err(error) => println!("LEFT OUT: {}, {}: {error:#}", peer.name, kind.name),
            }
        }
        show(kind, &runs);
    }
    Ok(())
}

/// What was seen of one contestant.
struct Run {
    name: &'static str,
    samples: Vec<Memory>,
    seen: Seen,
}

fn watch(peer: &Peer, kind: &Kind) -> anyhow::Result<Run> {
    let scene = Scene::new(Side::Client)?;
    scene.remember(REMEMBERED);
    let mut watcher = peer.start(scene.watched())?;
    let role: Vec<&str> = kind.role.iter().map(String::as_str).collect();
    let mut generator = scene.generate(&role)?;
    let mut samples = Vec::new();
    // Twice as long as it should be.
    let patience = Duration::from_secs_f64((SAMPLES * kind.step) as f64 / kind.rate * 2.0);
    for number in 1..=SAMPLES {
        let mut progress = generator.ask()?;
        while progress.done < number * kind.step {
            ensure!(progress.elapsed < patience, "after {} {}", progress.done, kind.name);
            sleep(PAUSE);
            progress = generator.ask()?;
        }
        ensure!(progress.failed == 0, "{} {} failed", progress.failed, kind.name);
        samples.push(watcher.memory()?);
    }
    Ok(Run { name: peer.name, samples, seen: watcher.end().seen })
}

fn show(kind: &Kind, runs: &[Run]) {
    let mut headings: Vec<String> =
        (1..=SAMPLES).map(|number| format!("{}", number * kind.step)).collect();
    headings.push("last / second".to_owned());
    let mut rows = Vec::new();
    for Run { name, samples, .. } in runs {
        for (what, part) in PARTS {
            let values: Vec<f64> = samples.iter().map(part).collect();
            let mut row = vec![format!("{name}, {what}")];
            row.extend(values.iter().map(|value| format!("{value:.1}")));
            let growth = values.last().zip(values.get(1)).map(|(last, second)| last / second);
            row.push(growth.map_or("-".to_owned(), |growth| format!("{growth:.2}")));
            rows.push(row);
        }
    }
    let title = format!("MB of memory after so many {}, {} a second", kind.name, kind.rate);
    print(&title, &headings, &rows);
    println!();
    for Run { name, seen, .. } in runs {
        println!("{name}: {:.1} % of the bytes shown have a name", seen.share());
    }
    let last = |run: &Run| run.samples.last().map_or(f64::NAN, |memory| memory.resident);
    if let Some(ours) = runs.iter().find(|run| run.name == OURS) {
        for theirs in runs.iter().filter(|run| run.name != OURS) {
            println!(
                "VmRSS at the end, {OURS} / {}: {:.2}",
                theirs.name,
                last(ours) / last(theirs)
            );
        }
    }
}

type Of = fn(&Memory) -> f64;

const PARTS: [(&str, Of); 3] = [
    ("VmRSS", |memory| memory.resident),
    ("RssAnon", |memory| memory.anonymous),
    ("VmHWM", |memory| memory.peak),
];
