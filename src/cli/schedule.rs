//! Waits for the next refresh or signal.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

pub(super) use crate::config::values::seconds;
use crate::monitor::{Schedule, Step};

use super::run::Program;
use super::signals::{Signals, Woken};

/// Interval at which a delayed refresh is checked for completeness.
const AGAIN: Duration = Duration::from_secs(1);

// A doc comment would replace the program's description in its help.
#[allow(missing_docs)]
#[derive(Clone, Debug, Args)]
pub struct Refreshes {
    /// Seconds between two refreshes; fractions are allowed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "1",
        value_parser = interval,
        allow_hyphen_values = true
    )]
    pub interval: Duration,

    /// Exit after N refreshes, as after Ctrl-C
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_hyphen_values = true
    )]
    pub count: Option<u64>,
}

impl Refreshes {
    /// Whether this is the number of refreshes that `--count` asks for.
    pub(super) fn are_done(&self, refreshes: u64) -> bool {
        self.count.is_some_and(|count| refreshes >= count)
    }

    /// Whether the next refresh waits until the first reading is complete: the last refresh has to be
    /// complete, the others on time.
    pub(super) fn waits(&self, refreshes: u64, is_reading: bool) -> bool {
        is_reading && self.are_done(refreshes + 1)
    }

    /// Time until the next refresh, or until the next check of one that [waits](Refreshes::waits).
    pub(super) fn pause(&self, waits: bool) -> Duration {
        if waits { self.interval.min(AGAIN) } else { self.interval }
    }
}

/// The value of `--interval`.
pub(super) fn interval(value: &str) -> Result<Duration, String> {
    seconds(value, 0.01)
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Take the next refresh.
    Refresh,
    /// Show the same refresh again: the terminal was resized.
    Redraw,
    /// Read the configuration again.
    Reload,
    /// End.
    Stop,
    /// Handle a refresh that could not be written.
    Unwritten,
}

/// Waits until `refresh`, or until something else is due, and reads the kernel meanwhile as often as
/// needed.
///
/// # Errors
/// Those of reading the kernel.
pub(super) fn wait(
    schedule: &mut Schedule,
    signals: &mut Signals,
    program: &mut impl Program,
    refresh: Instant,
) -> anyhow::Result<Due> {
    loop {
        let aggregator = program.aggregator();
        let wait = schedule.wait(Instant::now(), refresh, aggregator.needs_peeks());
        let events: Vec<BorrowedFd<'_>> =
            if wait.or_events { aggregator.events().collect() } else { Vec::new() };
        let announced = match signals.wait(wait.until, &events).context("waiting failed")? {
            Woken::Stop => return Ok(Due::Stop),
            Woken::Reload => return Ok(Due::Reload),
            Woken::Resized => return Ok(Due::Redraw),
            Woken::Unwritten => return Ok(Due::Unwritten),
            Woken::Events => true,
            Woken::Time => match schedule.timed(Instant::now(), wait, refresh) {
                Step::Drain => false,
                Step::Look => {
                    look(program, signals)?;
                    continue;
                }
                Step::Refresh => return Ok(Due::Refresh),
            },
        };
        let called = program.aggregator_mut().drain();
        schedule.drained(Instant::now(), announced, called);
    }
}

/// Takes a look at the kernel. What is not read by now is left to the next look.
pub(super) fn look(program: &mut impl Program, signals: &Signals) -> anyhow::Result<()> {
    let at_once = signals.at_once();
    // Nothing has started yet that would have to be ended.
    at_once.set(program.ends_at_once() && program.aggregator().is_reading());
    let looked = program.aggregator_mut().look_until(Instant::now());
    at_once.set(false);
    // The findings of the other monitors, if one fails.
    program.looked();
    Ok(looked?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refresh_waits_until_everything_is_read_and_no_other_does() {
        let refreshes = |count| Refreshes { interval: Duration::from_secs(60), count };
        assert!(refreshes(Some(1)).waits(0, true));
        assert!(!refreshes(Some(1)).waits(0, false));
        assert!(!refreshes(Some(2)).waits(0, true));
        assert!(refreshes(Some(2)).waits(1, true));
        assert!(!refreshes(None).waits(0, true));
        assert_eq!(refreshes(None).pause(false), Duration::from_secs(60));
        assert_eq!(refreshes(None).pause(true), AGAIN);
    }

    #[test]
    fn an_interval_is_a_positive_number_of_seconds() {
        for good in ["1", "0.5", ".01", "86400"] {
            assert!(interval(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "nan", "inf", "1e9", "", "1s", "0.001"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
