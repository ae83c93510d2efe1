//! As many bytes as there can be in few connections: iperf3.

use std::thread::sleep;
use std::time::{Duration, Instant};

use testbed::bench::figures::{print, spread};
use testbed::bench::joined::{Joined, THERE};
use testbed::bench::server::{Server, client};
use testbed::bench::watcher::{NOBODY, Peer};
use testbed::command::found;
use testbed::peers::iperf3::received;

use crate::options::Options;
use crate::peers::OURS;
use crate::scene::directory;

const SECONDS: u64 = 10;
/// 10 Gbit/s, and whatever goes.
const LOADS: [&str; 2] = ["-P 4 -b 2500M", "-P 4"];
/// Until a program has seen everything once.
const WARM: Duration = Duration::from_secs(2);
/// iperf3's own.
const PORT: u16 = 5201;

/// Of one contestant, a value for each round.
#[derive(Default)]
struct Results {
    /// Percent of one core.
    cpu: Vec<f64>,
    /// Gbit/s.
    speed: Vec<f64>,
    peak: Vec<f64>,
    named: Vec<f64>,
}

pub(crate) fn compare(options: &Options) -> anyhow::Result<()> {
    if !found("iperf3") {
        println!("LEFT OUT: bulk: iperf3 is not installed");
        return Ok(());
    }
    for load in LOADS {
        let mut all: Vec<(&Peer, Results)> =
            options.peers.iter().map(|peer| (*peer, Results::default())).collect();
        for round in 0..options.rounds {
            eprintln!("bulk: {load}, round {} of {}", round + 1, options.rounds);
            for place in 0..all.len() {
                // Every round begins with another one.
                let place = (place + round) % all.len();
                let (peer, results) = &mut all[place];
                results.push(measure(peer, load).unwrap_or_else(|error| {
                    println!("! bulk: {}, round {}: {error:#}", peer.name, round + 1);
                    [f64::NAN; 4]
                }));
            }
        }
        show(load, &all, options.rounds);
    }
    Ok(())
}

impl Results {
    fn push(&mut self, [cpu, speed, peak, named]: [f64; 4]) {
        self.cpu.push(cpu);
        self.speed.push(speed);
        self.peak.push(peak);
        self.named.push(named);
    }
}

/// Starts a server.
fn serve(joined: &Joined) -> anyhow::Result<Server> {
    let mut server = joined.there.command("iperf3");
    Server::start(server.args(["-s", "-4"]), directory(), Some(&joined.there), PORT)
}

/// Percent of one core, Gbit/s, megabytes, and percent of the bytes it showed.
fn measure(peer: &Peer, load: &str) -> anyhow::Result<[f64; 4]> {
    // Others each time: conntrack remembers, and some programs show it, what has ended.
    let joined = Joined::new(1000)?;
    let _server = serve(&joined)?;
    let mut watcher = peer.start(&joined.here)?;
    sleep(WARM);
    let command = format!("iperf3 -c {THERE} -t {SECONDS} {load} -J");
    let (before, begin) = (watcher.cpu()?, Instant::now());
    let (bytes, seconds) = received(&client(Some(&joined.here), &command, &[], SECONDS)?)?;
    let cpu = (watcher.cpu()? - before) / begin.elapsed().as_secs_f64() * 100.0;
    let peak = watcher.memory()?.peak;
    Ok([cpu, bytes * 8.0 / 1e9 / seconds, peak, watcher.end().seen.share()])
}

fn show(load: &str, all: &[(&Peer, Results)], rounds: usize) {
    let results = |name: &str| all.iter().find(|(peer, _)| peer.name == name).map(|(_, r)| r);
    let none = Results::default();
    let (unwatched, ours) = (results(NOBODY).unwrap_or(&none), results(OURS).unwrap_or(&none));
    let headings = [
        "CPU in % of one core",
        "Gbit/s",
        "Gbit/s / unwatched",
        "peak MB",
        "bytes named, %",
        "CPU of runmonitor / CPU",
    ];
    let ratios = |a: &[f64], b: &[f64]| spread(a.iter().zip(b).map(|(a, b)| a / b), 3);
    let row = |(peer, results): &(&Peer, Results)| {
        vec![
            peer.name.to_owned(),
            spread(results.cpu.iter().copied(), 2),
            spread(results.speed.iter().copied(), 2),
            ratios(&results.speed, &unwatched.speed),
            spread(results.peak.iter().copied(), 1),
            spread(results.named.iter().copied(), 0),
            if peer.is_ours { "-".to_owned() } else { ratios(&ours.cpu, &results.cpu) },
        ]
    };
    let title = format!(
        "Bulk TCP, iperf3 {load}, {SECONDS} s, {rounds} interleaved rounds; ratios are those of \
         the rounds"
    );
    print(&title, &headings.map(Into::into), &all.iter().map(row).collect::<Vec<_>>());
}
