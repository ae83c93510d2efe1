//! The contestants take turns under a load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use testbed::bench::figures::{print, spread, summary};
use testbed::bench::server::Server;
use testbed::bench::usage;
use testbed::bench::watcher::{NOBODY, Peer, UNWATCHED};
use testbed::command::found;

use crate::options::Options;
use crate::scene::{Place, Scene};

/// Until a program has seen everything once.
const WARM: Duration = Duration::from_secs(1);
/// Until it has shown the last of it.
const AFTER: Duration = Duration::from_millis(1200);

/// Something that is done as fast as it can be.
pub(crate) struct Load {
    pub(crate) title: &'static str,
    /// Programs.
    pub(crate) needs: &'static [&'static str],
    /// What the rate is in, and the CPU time of both ends.
    pub(crate) rate: &'static str,
    pub(crate) cost: &'static str,
    /// Starts the server, if it is a program of its own.
    pub(crate) serve: fn(&Scene) -> anyhow::Result<Option<Server>>,
    pub(crate) run: fn(&Scene, Option<&Server>, u64) -> anyhow::Result<Done>,
}

/// What a load has come to.
pub(crate) struct Done {
    pub(crate) rate: f64,
    pub(crate) cost: f64,
}

impl Done {
    fn beside(&self, before: &Done, after: &Done) -> Done {
        Done {
            rate: self.rate / f64::midpoint(before.rate, after.rate),
            cost: self.cost / f64::midpoint(before.cost, after.cost),
        }
    }
}

/// One contestant, once.
struct Figures {
    done: Done,
    /// Of the program that watches: percent of one core, megabytes, and percent of the bytes.
    cpu: f64,
    peak: f64,
    named: f64,
}

/// Of one contestant, all rounds.
#[derive(Default)]
struct Results {
    figures: Vec<Figures>,
    /// Its rate and cost by the means of the unwatched ones right before and after: what else the
    /// machine does comes and goes.
    beside: Vec<Done>,
}

impl Results {
    fn each(&self, of: fn(&Figures) -> f64) -> impl Iterator<Item = f64> {
        self.figures.iter().map(of)
    }
}

pub(crate) fn compare(load: &Load, options: &Options) -> anyhow::Result<()> {
    let missing: Vec<&str> = load.needs.iter().copied().filter(|name| !found(name)).collect();
    if !missing.is_empty() {
        println!("LEFT OUT: {}: no {}", load.title, missing.join(" and no "));
        return Ok(());
    }
    for &place in &options.places {
        let title = format!("{}, over {}", load.title, title(place));
        let mut unwatched = Results::default();
        let programs = options.peers.iter().filter(|peer| peer.name != NOBODY);
        let mut all: Vec<(&Peer, Results)> =
            programs.map(|peer| (*peer, Results::default())).collect();
        for round in 0..options.rounds {
            eprintln!("{title}: round {} of {}", round + 1, options.rounds);
            let turn = |peer: &Peer| {
                measure(load, place, peer, options.seconds)
                    .inspect_err(|error| println!("! {title}: {}: {error:#}", peer.name))
                    .ok()
            };
            let mut before = turn(&UNWATCHED);
            for number in 0..all.len() {
                // Every round begins with another one.
                let number = (number + round) % all.len();
                let (peer, results) = &mut all[number];
                let (figures, after) = (turn(peer), turn(&UNWATCHED));
                if let (Some(before), Some(figures), Some(after)) = (&before, &figures, &after) {
                    results.beside.push(figures.done.beside(&before.done, &after.done));
                }
                results.figures.extend(figures);
                unwatched.figures.extend(before);
                before = after;
            }
            unwatched.figures.extend(before);
        }
        show(load, &title, &unwatched, &all, options);
    }
    Ok(())
}

fn title(place: Place) -> &'static str {
    match place {
        Place::Veth => "veth",
        Place::Loopback => "loopback",
    }
}

fn measure(load: &Load, place: Place, peer: &Peer, seconds: u64) -> anyhow::Result<Figures> {
    // Another one each time: conntrack remembers, and some programs show it, what has ended.
    let scene = Scene::new(place)?;
    let server = (load.serve)(&scene)?;
    let mut watcher = peer.start(scene.watched())?;
    sleep(WARM);
    let (before, begin) = (watcher.cpu()?, Instant::now());
    let done = (load.run)(&scene, server.as_ref(), seconds)?;
    let cpu = (watcher.cpu()? - before) / begin.elapsed().as_secs_f64() * 100.0;
    if peer.name != NOBODY {
        sleep(AFTER);
    }
    let peak = watcher.memory()?.peak;
    Ok(Figures { done, cpu, peak, named: watcher.end().seen.share() })
}

fn show(
    load: &Load,
    title: &str,
    unwatched: &Results,
    all: &[(&Peer, Results)],
    options: &Options,
) {
    let rate = summary(unwatched.each(|figures| figures.done.rate)).0;
    let cost = summary(unwatched.each(|figures| figures.done.cost)).0;
    let row = |name: &str, results: &Results| {
        let rates = || results.each(|figures| figures.done.rate);
        let costs = || results.each(|figures| figures.done.cost);
        vec![
            name.to_owned(),
            spread(rates(), 2),
            spread(rates().map(|value| value / rate), 3),
            spread(results.beside.iter().map(|beside| beside.rate), 3),
            spread(costs(), 2),
            spread(costs().map(|value| value / cost), 3),
            spread(results.beside.iter().map(|beside| beside.cost), 3),
            spread([summary(costs()).0 - cost], 2),
            spread(results.each(|figures| figures.cpu), 2),
            spread(results.each(|figures| figures.peak), 1),
            spread(results.each(|figures| figures.named), 1),
        ]
    };
    let mut rows = vec![row(NOBODY, unwatched)];
    rows.extend(all.iter().map(|(peer, results)| row(peer.name, results)));
    let headings = [
        load.rate,
        "/ unwatched median",
        "/ unwatched before and after",
        &format!("CPU of both ends, {}", load.cost),
        "/ unwatched median",
        "/ unwatched before and after",
        "medians, more than unwatched",
        "CPU of the program, % of one core",
        "its peak MB",
        "bytes named, %",
    ];
    let title =
        format!("{title}: {} s in each of {} interleaved rounds", options.seconds, options.rounds);
    print(&title, &headings.map(str::to_owned), &rows);
}

/// Seconds of CPU time of a server, of all children that this process has waited for so far, and of the
/// kernel's threads to which it leaves packets that come too fast.
pub(crate) fn cpu_of_ends(server: Option<&Server>) -> anyhow::Result<f64> {
    let server = server.context("no server")?;
    let waited_for = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (waited_for.user_time() + waited_for.system_time()).num_microseconds();
    let server = usage::cpu_of_group(server.group())?;
    Ok(server + micros as f64 / 1e6 + usage::cpu_of_softirqs()?)
}
