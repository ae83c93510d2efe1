//! The limit of a whole pipe: a token bucket for each direction.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Way;

/// How often those who wait for tokens ask again.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// What an idle pipe may save up, in seconds of its rate: small, so that nobody sees a burst.
const BURST: f64 = 0.02;

/// What may be made up for while there are bytes that wait, in seconds of the rate: a thread that
/// comes late must not lower the rate.
const CATCH_UP: f64 = 0.25;

/// The least burst, in bytes, for very low rates.
const LEAST_BURST: f64 = 64.0;

/// Both buckets, shared by all workers.
#[derive(Debug)]
pub(super) struct Shaper {
    /// Bytes per second; 0: no limit.
    rate: AtomicU64,
    buckets: [Mutex<Bucket>; 2],
}

impl Shaper {
    pub(super) fn new(rate: Option<NonZeroU64>, now: Instant) -> Shaper {
        let bucket = || Mutex::new(Bucket { tokens: 0.0, at: now, wanted: false });
        Shaper { rate: AtomicU64::new(rate.map_or(0, u64::from)), buckets: [bucket(), bucket()] }
    }

    /// Sets another rate, in bytes per second.
    pub(super) fn set(&self, rate: Option<NonZeroU64>) {
        self.rate.store(rate.map_or(0, u64::from), Ordering::Relaxed);
    }

    /// Whether there is a limit.
    pub(super) fn is_on(&self) -> bool {
        self.rate.load(Ordering::Relaxed) != 0
    }

    /// How many of `wanted` bytes may be forwarded now, by one of about `waiting` that want to.
    pub(super) fn take(&self, way: Way, wanted: usize, waiting: usize, now: Instant) -> usize {
        match self.rate.load(Ordering::Relaxed) {
            0 => wanted,
            rate => self.bucket(way).take(wanted, waiting, rate as f64, now),
        }
    }

    /// Returns what was taken and not needed.
    pub(super) fn give_back(&self, way: Way, bytes: usize) {
        if bytes > 0 && self.is_on() {
            let mut bucket = self.bucket(way);
            bucket.tokens += bytes as f64;
            bucket.wanted = false;
        }
    }

    fn bucket(&self, way: Way) -> std::sync::MutexGuard<'_, Bucket> {
        self.buckets[way as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Bucket {
    /// Bytes that may pass.
    tokens: f64,
    /// When they were last counted.
    at: Instant,
    /// Whether somebody went away with less than he wanted.
    wanted: bool,
}

impl Bucket {
    fn take(&mut self, wanted: usize, waiting: usize, rate: f64, now: Instant) -> usize {
        let burst = (rate * BURST).max(LEAST_BURST);
        let most = if self.wanted { burst.max(rate * CATCH_UP) } else { burst };
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + elapsed * rate).min(most);
        // Not byte by byte: half a burst is worth a system call.
        let share = (self.tokens / waiting.max(1) as f64).max((burst / 2.0).min(self.tokens));
        let granted = if self.tokens < (wanted as f64).min(burst / 2.0) {
            0
        } else {
            // `as` saturates and rounds down: never more than there is.
            wanted.min(share as usize)
        };
        self.tokens -= granted as f64;
        self.wanted = granted < wanted;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shaper(rate: u64, now: Instant) -> Shaper {
        Shaper::new(NonZeroU64::new(rate), now)
    }

    /// What passes in `seconds` if somebody asks every so many milliseconds.
    fn passed(rate: u64, seconds: u64, every: &[u64], wanted: usize) -> usize {
        let start = Instant::now();
        let shaper = shaper(rate, start);
        let mut at = 0;
        let mut sum = 0;
        for step in every.iter().cycle() {
            at += step;
            if at > seconds * 1000 {
                return sum;
            }
            loop {
                let now = start + Duration::from_millis(at);
                match shaper.take(Way::Up, wanted, 1, now) {
                    0 => break,
                    granted => sum += granted,
                }
            }
        }
        sum
    }

    #[test]
    fn no_limit_grants_everything() {
        let now = Instant::now();
        let shaper = Shaper::new(None, now);
        assert!(!shaper.is_on());
        assert_eq!(shaper.take(Way::Up, usize::MAX, 9, now), usize::MAX);
    }

    #[test]
    fn the_directions_are_apart() {
        let start = Instant::now();
        let shaper = shaper(100_000, start);
        let now = start + Duration::from_millis(20);
        assert_eq!(shaper.take(Way::Up, 1 << 20, 1, now), 2_000);
        assert_eq!(shaper.take(Way::Up, 1 << 20, 1, now), 0);
        assert_eq!(shaper.take(Way::Down, 1 << 20, 1, now), 2_000);
    }

    #[test]
    fn an_idle_pipe_saves_up_little() {
        let start = Instant::now();
        let shaper = shaper(100_000, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(shaper.take(Way::Up, 1 << 20, 1, later), 2_000);
    }

    #[test]
    fn what_comes_late_is_made_up_for() {
        // Once it is 200 ms late, every second.
        let late = [[5; 160].as_slice(), &[200]].concat();
        let sum = passed(100_000, 5, &late, 16 << 10);
        assert!((490_000..=502_000).contains(&sum), "{sum}");
    }

    #[test]
    fn what_was_not_needed_is_not_lost() {
        let start = Instant::now();
        let shaper = shaper(100_000, start);
        let now = start + Duration::from_millis(20);
        let granted = shaper.take(Way::Up, 1 << 20, 1, now);
        shaper.give_back(Way::Up, granted - 100);
        assert_eq!(shaper.take(Way::Up, 1 << 20, 1, now), granted - 100);
    }

    #[test]
    fn several_who_wait_share() {
        let start = Instant::now();
        let shaper = shaper(1_000_000, start);
        let now = start + Duration::from_millis(20);
        assert_eq!(shaper.take(Way::Up, 1 << 20, 2, now), 10_000);
    }

    proptest! {
        #[test]
        fn the_rate_is_kept(
            rate in 1_000_u64..2_000_000_000,
            every in proptest::collection::vec(1_u64..20, 1..20),
            wanted in 1_000_usize..1_000_000,
        ) {
            let sum = passed(rate, 5, &every, wanted) as f64;
            let exact = rate as f64 * 5.0;
            prop_assert!((sum - exact).abs() <= exact * 0.02, "{} of {}", sum, exact);
        }
    }
}
