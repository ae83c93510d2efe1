//! The regular beat of what is shown.

use std::time::{Duration, Instant};

/// The value of `--interval`.
pub(super) fn interval(value: &str) -> Result<Duration, String> {
    seconds(value, 0.01)
}

/// A number of seconds, at least `least` and at most a day.
pub(super) fn seconds(value: &str, least: f64) -> Result<Duration, String> {
    let expected = || format!("expected seconds from {least} to 86400, such as 0.5");
    let seconds: f64 = value.parse().map_err(|_| expected())?;
    if !(least..=86400.0).contains(&seconds) {
        return Err(expected());
    }
    Ok(Duration::from_secs_f64(seconds))
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
