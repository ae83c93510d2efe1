//! What monitors, groups and alerts cost beside the reading of the kernel that they go by, in the
//! same run and on the same traffic: `cargo bench --bench aggregate`, as root.
//!
//! ```text
//!   bench ──┬── janitor × 2         delete the namespaces when the bench is gone, however it went
//!           ├── server              accepts, and sends to every connection when it is told to
//!           ├── crowd ── sleep × 5,000, each with a connection and a command line of its own
//!           └── measure             the library's loop, with 1, 10 and 50 monitors and with none
//!               (crowd and measure live in one network namespace, the server in another)
//! ```
//!
//! Each of these but `sleep` is this very program, started again with a role for its first
//! argument. `measure` keeps all loops beside each other in one process: they look in turns, each
//! once after every burst of the server's.

mod contestant;
mod measure;
mod rules;
mod scene;

use clap::Parser;
use testbed::bench::options::Asked;
use testbed::bench::tracked;

use scene::Scene;

/// One takes two seconds.
const ROUNDS: &str = "40";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["janitor", ref what @ ..] => tracked::janitor(what)?,
        ["server", connections] => scene::serve(connections.parse()?)?,
        ["crowd", processes] => scene::gather(processes.parse()?)?,
        ["measure", rounds, ref names @ ..] => measure::run(rounds.parse()?, names)?,
        _ => bench(Options::parse())?,
    }
    Ok(())
}

/// There is nothing to choose.
#[derive(Parser)]
#[command(
    bin_name = "cargo bench --bench aggregate --",
    about = "What monitors, groups and alerts cost beside the reading of the kernel"
)]
struct Options {
    #[command(flatten)]
    asked: Asked,
}

fn bench(options: Options) -> anyhow::Result<()> {
    if !options.asked.is_measured("aggregate") {
        return Ok(());
    }
    let mut scene = Scene::new(rules::COMMAND_LINES)?;
    println!("{}", scene.census);
    // The memory of one loop is seen only where there is no other.
    for name in contestant::MEMORY {
        scene.measure(&["3", name])?;
    }
    let names = contestant::NAMES;
    scene.measure(&[&[ROUNDS], &names[..]].concat())?;
    Ok(())
}
