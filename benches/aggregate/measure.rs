//! Contestants in turns, and the table.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testbed::bench::figures::summary;
use testbed::bench::roles::say;
use testbed::bench::usage::Memory;

use crate::contestant::{BASELINE, Contestant};
use crate::rules::{self, ALERTS, COMMAND_LINES, GROUP_RULES};
use crate::scene::MORE;

/// Refreshes that aren't counted: names are new to the alerts, and means are not yet over the whole
/// of their windows.
const WARM: u32 = 5;

/// Measures these contestants; only their memory, if there is but one.
pub(crate) fn run(rounds: u32, names: &[&str]) -> anyhow::Result<()> {
    let mut contestants: Vec<Contestant> = Vec::new();
    for name in names {
        contestants.push(Contestant::new(name)?);
    }
    let begin = Instant::now();
    for round in 0..WARM + rounds {
        if round == WARM {
            contestants.iter_mut().for_each(Contestant::warmed);
        }
        more()?;
        // To the loops a second passes between refreshes, however long they really take here.
        let at = begin + Duration::from_secs(round.into());
        // Every round begins with another one.
        let first = round as usize % contestants.len();
        for place in 0..contestants.len() {
            let place = (first + place) % contestants.len();
            contestants[place].refresh(at)?;
        }
    }
    for contestant in contestants.iter().filter(|contestant| !contestant.is_baseline()) {
        let Contestant { name, applications, .. } = contestant;
        // What else carries something on the machine is in other namespaces.
        ensure!(*applications == rules::applications(), "{name}: {applications} applications");
    }
    match &contestants[..] {
        [one] => println!(
            "{:14} alone: peak memory {:.1} MB",
            one.name,
            Memory::of(std::process::id())?.peak
        ),
        _ => table(&contestants, rounds)?,
    }
    Ok(())
}

/// Asks for traffic and waits until it is there.
fn more() -> anyhow::Result<()> {
    say(MORE)?;
    let length = io::stdin().read_line(&mut String::new())?;
    ensure!(length > 0, "there is no more traffic");
    Ok(())
}

fn table(contestants: &[Contestant], rounds: u32) -> anyhow::Result<()> {
    let baseline = contestants.iter().find(|one| one.name == BASELINE).context("no baseline")?;
    let applications = rules::applications();
    println!(
        "{COMMAND_LINES} command lines, {applications} applications, {GROUP_RULES} group rules, \
         {ALERTS} notification rules"
    );
    println!("The first refreshes, CPU in ms:");
    println!("{:14} {:>9} {:>9} {:>13}", "", "look", "configure", "first alerts");
    for Contestant { name, first, .. } in contestants {
        println!("{name:14} {:9.1} {:9.1} {:13.1}", first.look, first.configure, first.tally);
    }
    println!(
        "A refresh, CPU in ms, medians of {rounds} interleaved rounds (and their middle half):"
    );
    println!(
        "{:14} {:>22} {:>18} {:>20} {:>24} {:>24} {:>7}",
        "",
        "look",
        "tally",
        "tally/look, %",
        "look/look of none, %",
        "both/look of none, %",
        "notices"
    );
    for one in contestants {
        let percent = |of: &[f64], to: &[f64]| {
            let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to * 100.0).collect();
            middle(&ratios, 1)
        };
        let both = one.looks.iter().zip(&one.tallies).map(|(look, tally)| look + tally);
        let both: Vec<f64> = both.collect();
        println!(
            "{:14} {:>22} {:>18} {:>20} {:>24} {:>24} {:>7}",
            one.name,
            middle(&one.looks, 1),
            middle(&one.tallies, 2),
            percent(&one.tallies, &one.looks),
            percent(&one.looks, &baseline.looks),
            percent(&both, &baseline.looks),
            one.notifications,
        );
    }
    println!("The bar: tally/look below 5 %, and the same for 1, 10 and 50 monitors.");
    Ok(())
}

/// Median, and between what half of the values are.
fn middle(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (median, ..) = summary(values.iter().copied());
    let quarter = |of: usize| sorted.get(sorted.len() * of / 4).copied().unwrap_or(f64::NAN);
    format!("{median:.digits$} ({:.digits$} to {:.digits$})", quarter(1), quarter(3))
}
