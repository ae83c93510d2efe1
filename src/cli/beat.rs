//! The regular beat of what is shown.

use std::time::{Duration, Instant};

use clap::Args;

pub(super) use crate::config::values::seconds;

// A comment for documentation would take the place of the program's description in its help.
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

    /// End after N refreshes, as Ctrl-C does
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_hyphen_values = true
    )]
    pub count: Option<u64>,
}

impl Refreshes {
    /// Whether so many are all that were asked for.
    pub(super) fn are_done(&self, refreshes: u64) -> bool {
        self.count.is_some_and(|count| refreshes >= count)
    }
}

/// The value of `--interval`.
pub(super) fn interval(value: &str) -> Result<Duration, String> {
    seconds(value, 0.01)
}

/// The next moment of a regular beat. One that has been missed is left out, not made up for.
pub(super) fn following(last: Instant, interval: Duration, now: Instant) -> Instant {
    let next = last + interval;
    if next > now { next } else { now + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_positive_number_of_seconds() {
        for good in ["1", "0.5", ".01", "86400"] {
            assert!(interval(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "nan", "inf", "1e9", "", "1s", "0.001"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_beat_that_was_missed_is_left_out() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(following(start, second, start), start + second);
        assert_eq!(following(start, second, start + second / 2), start + second);
        let late = start + second * 5;
        assert_eq!(following(start, second, late), late + second);
    }
}
