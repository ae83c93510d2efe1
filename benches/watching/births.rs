//! Many connections that begin and end, from an empty table until it is as full as it gets.

use std::time::Duration;

use anyhow::ensure;
use testbed::bench::figures::{print, spread, summary};
use testbed::bench::watcher::{NOBODY, Output, Peer, Watcher};

use crate::options::Options;
use crate::peers::OURS;
use crate::scene::{Generator, Progress, Scene, Side};

/// Connections per second.
pub(crate) const RATE: f64 = 2000.0;
/// With these, windows are at whole numbers of the table's size.
const WARM: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(10);
/// For those to whom the table is nothing.
const SECONDS_OF_OTHERS: u64 = 35;
/// Entries for which there is a column.
const SIZES: [f64; 4] = [20e3, 40e3, 100e3, 240e3];
/// So many more or less are the same.
const NEAR: f64 = 10e3;

/// All that was seen of one contestant at one end.
struct Run {
    name: &'static str,
    windows: Vec<Window>,
    peak: f64,
    failed: u64,
    output: Output,
}

/// Means over some seconds.
struct Window {
    entries: f64,
    /// Percent of one core: the program that watches, and both ends of the connections.
    cpu: f64,
    ends: f64,
    /// Connections per second.
    rate: f64,
}

struct Sample {
    progress: Progress,
    cpu: f64,
    ends: f64,
    entries: f64,
}

impl Sample {
    fn take(scene: &Scene, from: &mut Generator, watcher: &Watcher) -> anyhow::Result<Sample> {
        let progress = from.ask()?;
        let (cpu, ends) = (watcher.cpu()?, scene.cpu(from)?);
        Ok(Sample { progress, cpu, ends, entries: scene.entries()? })
    }

    fn since(&self, before: &Sample) -> Window {
        let seconds = (self.progress.elapsed - before.progress.elapsed).as_secs_f64();
        Window {
            entries: f64::midpoint(self.entries, before.entries),
            cpu: (self.cpu - before.cpu) / seconds * 100.0,
            ends: (self.ends - before.ends) / seconds * 100.0,
            rate: (self.progress.done - before.progress.done) as f64 / seconds,
        }
    }
}

pub(crate) fn compare(options: &Options) -> anyhow::Result<()> {
    for &side in &options.sides {
        let mut runs = Vec::new();
        for peer in &options.peers {
            eprintln!("births: {}, {}", title(side), peer.name);
            match watch(peer, side, options.seconds) {
                Ok(run) => runs.push(run),
                Err(error) => println!("LEFT OUT: {}, {}: {error:#}", peer.name, title(side)),
            }
        }
        show(side, &runs);
    }
    Ok(())
}

fn watch(peer: &Peer, side: Side, seconds: u64) -> anyhow::Result<Run> {
    let seconds = if peer.is_ours { seconds } else { seconds.min(SECONDS_OF_OTHERS) };
    let scene = Scene::new(side)?;
    let mut watcher = peer.start(scene.watched())?;
    let mut generator = scene.generate(&["connect", &RATE.to_string()])?;
    generator.until(WARM);
    let mut last = Sample::take(&scene, &mut generator, &watcher)?;
    let mut windows = Vec::new();
    let mut end = WARM + WINDOW;
    while end <= Duration::from_secs(seconds) {
        generator.until(end);
        let now = Sample::take(&scene, &mut generator, &watcher)?;
        windows.push(now.since(&last));
        last = now;
        end += WINDOW;
    }
    ensure!(last.progress.done > 0, "no connection came through");
    let peak = watcher.memory()?.peak;
    let (failed, output) = (last.progress.failed, watcher.end());
    Ok(Run { name: peer.name, windows, peak, failed, output })
}

fn title(side: Side) -> &'static str {
    match side {
        Side::Client => "the client is watched",
        Side::Server => "the server is watched",
        Side::Workers => "a server of four workers is watched",
        Side::Numbered => "a server of four workers with names of their own is watched",
    }
}

fn show(side: Side, runs: &[Run]) {
    let mut headings: Vec<String> =
        SIZES.iter().map(|size| format!("CPU at {:.0}k entries", size / 1e3)).collect();
    headings.extend(
        ["at all sizes", "peak MB", "connections/s", "CPU of both ends", "bytes named"]
            .map(Into::into),
    );
    let row = |run: &Run| {
        let mut row = vec![run.name.to_owned()];
        row.extend(SIZES.iter().map(|size| percent(run.near(*size).map(|window| window.cpu))));
        row.push(percent(run.windows.iter().map(|window| window.cpu)));
        row.push(spread([run.peak], 1));
        row.push(spread(run.windows.iter().map(|window| window.rate), 0));
        row.push(percent(run.windows.iter().map(|window| window.ends)));
        row.push(percent([run.output.seen.share()]));
        row
    };
    let title = format!("{RATE} new connections a second, {}; CPU of one core", title(side));
    print(&title, &headings, &runs.iter().map(row).collect::<Vec<_>>());

    println!(
        "\nThe ends' CPU has in it what the kernel does for their packets, announcements too. Bytes \
         named: of all those shown, the part that stands beside the name of an end."
    );
    for Run { name, windows, failed, output, .. } in runs {
        let sizes = windows.iter().map(|w| format!("{:.0}k: {:.1}", w.entries / 1e3, w.cpu));
        if *name != NOBODY {
            println!("\n{name}, entries: CPU in %: {}", sizes.collect::<Vec<_>>().join(", "));
        }
        if *failed > 0 {
            println!("! {name}: {failed} connections failed");
        }
        if *name != NOBODY && output.seen.is_empty() {
            println!("! {name} showed no bytes");
        }
        if let Some(last) = output.wrong.last() {
            println!("! {name} said {} lines, the last: {last}", output.wrong.len());
        }
    }
    let Some(ours) = runs.iter().find(|run| run.name == OURS) else { return };
    for other in runs.iter().filter(|run| run.name != OURS && run.peak.is_finite()) {
        let theirs = other.median();
        let ratio = |size: &f64| {
            let (median, ..) = summary(ours.near(*size).map(|window| window.cpu));
            median.is_finite().then(|| format!("{:.2} at {:.0}k", median / theirs, size / 1e3))
        };
        let ratios: Vec<String> = SIZES.iter().flat_map(ratio).collect();
        println!("\nCPU of {OURS} / {} (at all sizes): {}", other.name, ratios.join(", "));
    }
}

impl Run {
    fn near(&self, size: f64) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter(move |window| (window.entries - size).abs() < NEAR)
    }

    fn median(&self) -> f64 {
        summary(self.windows.iter().map(|window| window.cpu)).0
    }
}

fn percent(values: impl IntoIterator<Item = f64>) -> String {
    let spread = spread(values, 1);
    if spread == "-" { spread } else { spread + " %" }
}
