//! The library's loop, with monitors and with none.

use std::time::Instant;

use anyhow::{bail, ensure};
use bwmon::aggregator::Aggregator;
use bwmon::model::{Looked, SourceChoice};
use bwmon::monitor::{Moment, Monitor, Options};
use bwmon::netns::NetnsChoice;

use testbed::bench::usage::cpu_of_thread;

use crate::rules;

/// All of them: the reading of the kernel alone, so many monitors, and what alerts have to do with
/// it.
pub(crate) const NAMES: [&str; 5] =
    [BASELINE, "1 monitor", "10 monitors", "50 monitors", "50, no alerts"];
pub(crate) const BASELINE: &str = "no monitors";
/// Those whose memory is of interest.
pub(crate) const MEMORY: [&str; 2] = [BASELINE, "50 monitors"];

/// What is measured of a contestant: milliseconds of CPU time.
pub(crate) struct Contestant {
    pub(crate) name: String,
    turn: Turn,
    pub(crate) first: First,
    /// Of refreshes that are like all later ones.
    pub(crate) looks: Vec<f64>,
    pub(crate) tallies: Vec<f64>,
    /// What the last one came to.
    pub(crate) applications: usize,
    pub(crate) notifications: usize,
}

/// What is done once.
#[derive(Default)]
pub(crate) struct First {
    pub(crate) look: f64,
    pub(crate) configure: f64,
    /// The first in which alerts have rates: each name meets each rule.
    pub(crate) tally: f64,
}

enum Turn {
    Baseline(Box<Monitor>),
    Whole(Box<Aggregator>),
}

impl Contestant {
    /// Looks for the first time, and takes its monitors, groups and rules.
    pub(crate) fn new(name: &str) -> anyhow::Result<Contestant> {
        let monitors = match NAMES.iter().position(|known| *known == name) {
            Some(0) => None,
            Some(1) => Some(1),
            Some(2) => Some(10),
            Some(_) => Some(50),
            None => bail!("{name:?} is none of them"),
        };
        let mut first = First::default();
        let options = Options {
            source: SourceChoice::Conntrack,
            netns: NetnsChoice::Own,
            ..Options::default()
        };
        let turn = match monitors {
            None => {
                let (look, monitor) = cost(|| Monitor::open(&options));
                first.look = look;
                Turn::Baseline(Box::new(monitor?))
            }
            Some(monitors) => {
                let (look, monitor) = cost(|| Monitor::open(&options));
                first.look = look;
                let monitor = monitor?;
                check(&monitor.health().looked)?;
                let mut aggregator = Aggregator::new(vec![monitor]);
                let (selection, groups) = (rules::selection(monitors)?, rules::groups()?);
                let alerts = if name == NAMES[4] { Vec::new() } else { rules::alerts()? };
                let selection = |_| selection.clone();
                first.configure = cost(|| aggregator.configure(selection, groups, alerts)).0;
                Turn::Whole(Box::new(aggregator))
            }
        };
        Ok(Contestant {
            name: name.to_owned(),
            turn,
            first,
            looks: Vec::new(),
            tallies: Vec::new(),
            applications: 0,
            notifications: 0,
        })
    }

    /// A refresh, `at` this time.
    pub(crate) fn refresh(&mut self, at: Instant) -> anyhow::Result<()> {
        let (look, tally) = match &mut self.turn {
            Turn::Baseline(monitor) => {
                let (look, looked) = cost(|| monitor.look());
                looked?;
                check(&monitor.health().looked)?;
                (look, 0.0)
            }
            Turn::Whole(aggregator) => {
                let (look, looked) = cost(|| aggregator.look_until(Instant::now()));
                looked?;
                let Some(monitor) = aggregator.monitors().next() else { bail!("one source") };
                check(&monitor.health().looked)?;
                let moment = Moment { instant: at, ..Moment::now() };
                let (tally, snapshot) = cost(|| aggregator.snapshot(moment, at));
                let rows = snapshot.rows.iter();
                self.applications = rows.filter(|row| !row.account.recent.is_zero()).count();
                self.notifications = snapshot.alerts.len();
                (look, tally)
            }
        };
        self.looks.push(look);
        self.tallies.push(tally);
        Ok(())
    }

    /// Ends the refreshes that are not like all later ones. The second was the first with rates.
    pub(crate) fn warmed(&mut self) {
        self.first.tally = self.tallies.get(1).copied().unwrap_or(f64::NAN);
        self.looks.clear();
        self.tallies.clear();
    }

    pub(crate) fn is_baseline(&self) -> bool {
        matches!(self.turn, Turn::Baseline(_))
    }
}

fn check(looked: &Looked) -> anyhow::Result<()> {
    let there = looked.flows as usize;
    ensure!(there >= rules::COMMAND_LINES && looked.uncounted == 0, "{looked:?}");
    Ok(())
}

/// The CPU time that something takes this thread: milliseconds.
fn cost<T>(work: impl FnOnce() -> T) -> (f64, T) {
    // Not a number if there is no such clock.
    let used = || cpu_of_thread().unwrap_or(f64::NAN) * 1e3;
    let before = used();
    let result = work();
    (used() - before, result)
}
