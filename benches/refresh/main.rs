//! What one refresh costs beside `conntrack -L` and `ss -tunap`, in the same run and on the same
//! traffic: `cargo bench --bench refresh`, as root.
//!
//! ```text
//!   bench ──┬── janitor            deletes the namespace when the bench is gone, however it went
//!           ├── holder × processes each with its share of the TCP connections, both ends
//!           ├── flood              UDP flows until the table is full; then its sockets are closed
//!           └── measure ── program one at a time, in turns: its CPU time and peak memory
//!               (holder, flood and measure live in a network namespace of the bench's own)
//! ```
//!
//! Each of these is this very program, started again with a role for its first argument. With
//! `-- --hold` the traffic is made and kept for somebody who wants to look at it with a profiler.

mod measure;
mod scene;

use std::io;

use anyhow::{Context, ensure};
use clap::Parser;
use testbed::bench::figures::summary;
use testbed::bench::options::Asked;
use testbed::bench::roles::this_program;
use testbed::bench::tracked;

use bwmon::conntrack::ctnetlink;

use measure::Cost;
use scene::{Scene, Size};

const SIZES: [(&str, Size, usize); 2] = [
    ("small", Size { entries: 20_000, sockets: 2_000, processes: 100 }, 15),
    ("large", Size { entries: 200_000, sockets: 20_000, processes: 200 }, 9),
];

/// Warm refreshes are measured as what so many more refreshes cost.
const MORE: u64 = 5;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["janitor", ref what @ ..] => tracked::janitor(what)?,
        ["holder", number, connections] => scene::hold(number.parse()?, connections.parse()?)?,
        ["flood", flows] => scene::flood(flows.parse()?)?,
        ["census"] => scene::census()?,
        ["measure", program, ref arguments @ ..] => measure::child(program, arguments)?,
        ["floor"] => {
            ctnetlink::Reader::open()?.skim()?;
        }
        _ => bench(Options::parse())?,
    }
    Ok(())
}

/// What is measured.
#[derive(Parser)]
#[command(
    bin_name = "cargo bench --bench refresh --",
    about = "What one refresh costs beside `conntrack -L` and `ss -tunap`"
)]
struct Options {
    #[command(flatten)]
    asked: Asked,
    /// How much traffic there is; both, if neither is named
    #[arg(value_name = "SIZE", value_parser = SIZES.map(|(name, ..)| name))]
    chosen: Vec<String>,
    /// Keep the traffic for a profiler, and measure nothing
    #[arg(long)]
    hold: bool,
}

fn bench(options: Options) -> anyhow::Result<()> {
    if !options.asked.is_measured("refresh") {
        return Ok(());
    }
    let Options { chosen, hold, .. } = options;
    for (name, size, rounds) in SIZES {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            let scene = Scene::new(size).with_context(|| format!("the {name} scene"))?;
            println!("\n{name}: {}", scene.census);
            if hold {
                println!("nsenter --net={} ...; Enter ends it", scene.namespace.path().display());
                io::stdin().read_line(&mut String::new())?;
            } else {
                compare(&scene, rounds)?;
            }
        }
    }
    Ok(())
}

/// One line of the table.
struct Contestant {
    name: &'static str,
    program: String,
    arguments: Vec<String>,
    costs: Vec<Cost>,
}

impl Contestant {
    fn new(name: &'static str, program: &str, arguments: &str) -> Contestant {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Contestant { name, program: program.to_owned(), arguments, costs: Vec::new() }
    }

    fn cpu(&self) -> Vec<f64> {
        self.costs.iter().map(|cost| cost.user + cost.system).collect()
    }
}

fn compare(scene: &Scene, rounds: usize) -> anyhow::Result<()> {
    let runmonitor = testbed::program!("runmonitor").path;
    let this = this_program();
    let many = format!("--source conntrack --count {} --interval 0.2", 1 + MORE);
    let mut contestants = vec![
        Contestant::new("runmonitor, cold", runmonitor, "--source conntrack --count 1"),
        Contestant::new("runmonitor, 1 cold and 5 warm", runmonitor, &many),
        Contestant::new("--source sockets, cold", runmonitor, "--source sockets --count 1"),
        Contestant::new("conntrack -L", "conntrack", "-L"),
        Contestant::new("ss -tunap", "ss", "-tunap"),
        Contestant::new("floor: a dump, not decoded", &this, "floor"),
    ];
    let shown = scene.output(runmonitor, "--source conntrack --count 1 --include \\sholder\\s")?;
    let lines = shown.lines().filter(|line| !line.is_empty()).count();
    ensure!(lines == scene.size.processes, "runmonitor shows {lines} of the processes");
    // The first turn shows what is there and warms what can be warm; it isn't counted.
    let mut missing = Vec::new();
    for Contestant { name, program, arguments, .. } in &contestants {
        match scene.measure(program, arguments) {
            Err(error) if ["conntrack", "ss"].contains(&program.as_str()) => {
                println!("LEFT OUT: {name}: {error:#}");
                missing.push(*name);
            }
            outcome => drop(outcome?),
        }
    }
    contestants.retain(|contestant| !missing.contains(&contestant.name));
    for _ in 0..rounds {
        for contestant in &mut contestants {
            let cost = scene.measure(&contestant.program, &contestant.arguments)?;
            contestant.costs.push(cost);
        }
    }

    println!("CPU in ms over {rounds} interleaved rounds; user and system are means");
    println!(
        "{:30} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "", "median", "min", "max", "user", "system", "peak MB"
    );
    for Contestant { name, costs, .. } in &contestants {
        let (median, min, max) = summary(costs.iter().map(|c| c.user + c.system));
        let mean = |part: fn(&Cost) -> f64| costs.iter().map(part).sum::<f64>() / rounds as f64;
        println!(
            "{name:30} {median:8.1} {min:8.1} {max:8.1} {:8.1} {:8.1} {:9.1}",
            mean(|c| c.user),
            mean(|c| c.system),
            peak(costs)
        );
    }
    let cpu = |name: &str| {
        let found = contestants.iter().find(|contestant| contestant.name.starts_with(name));
        found.map(Contestant::cpu)
    };
    let cold = cpu("runmonitor, cold");
    let warm = match (&cold, cpu("runmonitor, 1 cold")) {
        (Some(cold), Some(all)) => {
            let warm = all.iter().zip(cold).map(|(all, cold)| (all - cold) / MORE as f64);
            let (median, min, max) = summary(warm.clone());
            println!(
                "{:30} {median:8.1} {min:8.1} {max:8.1}   (the line 1 + {MORE} less the cold one, \
                 over {MORE})",
                "runmonitor, one warm refresh"
            );
            Some(warm.collect())
        }
        _ => None,
    };
    let both = match (cpu("conntrack"), cpu("ss")) {
        (Some(conntrack), Some(ss)) => {
            Some(conntrack.iter().zip(&ss).map(|(conntrack, ss)| conntrack + ss).collect())
        }
        _ => None,
    };
    let floor = cpu("floor");
    println!("Ratios, the median of the rounds':");
    for (name, ours) in [("cold", &cold), ("warm", &warm)] {
        println!("  {name} / (conntrack -L + ss -tunap)  {}", ratio(ours, &both));
        println!("  {name} / floor                       {}", ratio(ours, &floor));
    }
    println!("The bar: cold below 0.50 of the two programs, and at the large size below 100 MB.");
    Ok(())
}

fn ratio(ours: &Option<Vec<f64>>, theirs: &Option<Vec<f64>>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            let (median, min, max) = summary(ours.iter().zip(theirs).map(|(a, b)| a / b));
            format!("{median:.2} ({min:.2} to {max:.2})")
        }
        _ => "not measured".to_owned(),
    }
}

fn peak(costs: &[Cost]) -> f64 {
    costs.iter().map(|cost| cost.peak).fold(0.0, f64::max)
}
