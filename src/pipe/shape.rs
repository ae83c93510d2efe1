//! The bandwidth limit of a pipe: a token bucket for each direction.
//!
//! Each worker has its own queue (see [`queue`](super::queue)). While connections wait, the bucket
//! fills the share of each worker in proportion to those that wait there, so that all connections
//! get the same, whichever worker they have.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counters::Way;

/// Interval at which waiting connections try again.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Tokens that an idle pipe may save, in seconds of its rate: few, so that bursts are small.
const BURST: f64 = 0.02;

/// Tokens that may accumulate while bytes wait, in seconds of the rate: a late thread must not
/// lower the rate.
const CATCH_UP: f64 = 0.25;

/// Minimum burst in bytes, for very low rates.
const LEAST_BURST: f64 = 64.0;

/// Both buckets, shared by all workers.
#[derive(Debug)]
pub(super) struct Shaper {
    /// Bytes per second; 0: no limit.
    rate: AtomicU64,
    buckets: [Mutex<Bucket>; 2],
}

impl Shaper {
    /// A shaper for this many workers.
    pub(super) fn new(rate: Option<NonZeroU64>, workers: usize, now: Instant) -> Shaper {
        let bucket = || Mutex::new(Bucket::new(workers, now));
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

    /// Number of the `wanted` bytes that may be forwarded now, by one of `waiting` connections of
    /// this worker.
    pub(super) fn take(
        &self,
        way: Way,
        worker: usize,
        wanted: usize,
        waiting: usize,
        now: Instant,
    ) -> usize {
        match self.rate.load(Ordering::Relaxed) {
            0 => wanted,
            rate => self.bucket(way).take(worker, wanted, waiting, rate as f64, now),
        }
    }

    /// Returns tokens that the worker has taken and not used.
    pub(super) fn give_back(&self, way: Way, worker: usize, bytes: usize) {
        if bytes > 0 && self.is_on() {
            self.bucket(way).give_back(worker, bytes);
        }
    }

    /// Sets the number of connections of this worker that wait.
    pub(super) fn waits(&self, way: Way, worker: usize, waiting: usize, now: Instant) {
        let rate = self.rate.load(Ordering::Relaxed);
        self.bucket(way).waits(worker, waiting, rate as f64, now);
    }

    fn bucket(&self, way: Way) -> std::sync::MutexGuard<'_, Bucket> {
        self.buckets[way as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Bucket {
    /// Tokens for any connection.
    spare: f64,
    /// Tokens for waiting connections, by worker.
    shares: Box<[Share]>,
    /// Time of the last refill.
    at: Instant,
    /// Whether a connection got less than it wanted.
    wanted: bool,
}

/// A worker's share of a bucket.
#[derive(Clone, Debug, Default)]
struct Share {
    /// Tokens for this worker's connections only; 0 while none waits.
    tokens: f64,
    /// Number of its connections that wait.
    waiting: usize,
}

impl Bucket {
    fn new(workers: usize, now: Instant) -> Bucket {
        let shares = vec![Share::default(); workers].into();
        Bucket { spare: 0.0, shares, at: now, wanted: false }
    }

    /// Adds tokens for the time that has passed; waiting connections get equal shares.
    fn fill(&mut self, rate: f64, now: Instant) {
        let burst = burst(rate);
        let waiting: usize = self.shares.iter().map(|share| share.waiting).sum();
        let eager = self.wanted || waiting > 0;
        let most = if eager { burst.max(rate * CATCH_UP) } else { burst };
        let inflow = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.at = self.at.max(now);
        if waiting == 0 {
            self.spare += inflow;
        }
        let mut shared = 0.0;
        for share in self.shares.iter_mut().filter(|share| share.waiting > 0) {
            let part = share.waiting as f64 / waiting as f64;
            share.tokens += inflow * part;
            // Tokens that a worker doesn't take are not lost to the others. With less than half a
            // burst it would never be granted anything.
            let over = share.tokens - (most * part).max(burst / 2.0);
            if over > 0.0 {
                share.tokens -= over;
                self.spare += over;
            }
            shared += share.tokens;
        }
        self.spare = self.spare.min((most - shared).max(0.0));
    }

    fn take(
        &mut self,
        worker: usize,
        wanted: usize,
        waiting: usize,
        rate: f64,
        now: Instant,
    ) -> usize {
        self.fill(rate, now);
        let half = burst(rate) / 2.0;
        let own = &mut self.shares[worker].tokens;
        let tokens = *own + self.spare;
        // Not byte by byte: half a burst is worth a system call.
        let share = (tokens / waiting.max(1) as f64).max(half.min(tokens));
        let granted = if tokens < (wanted as f64).min(half) {
            0
        } else {
            // `as` saturates and rounds down: never more than there is.
            wanted.min(share as usize)
        };
        let from_own = own.min(granted as f64);
        *own -= from_own;
        self.spare -= granted as f64 - from_own;
        self.wanted = granted < wanted;
        granted
    }

    fn give_back(&mut self, worker: usize, bytes: usize) {
        let share = &mut self.shares[worker];
        *(if share.waiting > 0 { &mut share.tokens } else { &mut self.spare }) += bytes as f64;
        self.wanted = false;
    }

    fn waits(&mut self, worker: usize, waiting: usize, rate: f64, now: Instant) {
        self.fill(rate, now);
        let share = &mut self.shares[worker];
        share.waiting = waiting;
        if waiting == 0 {
            self.spare += std::mem::take(&mut share.tokens);
        }
    }
}

/// Tokens that an idle pipe may save, in bytes.
fn burst(rate: f64) -> f64 {
    (rate * BURST).max(LEAST_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shaper(rate: u64, now: Instant) -> Shaper {
        Shaper::new(NonZeroU64::new(rate), 2, now)
    }

    /// The bytes granted in `seconds` to a connection that asks at this interval in milliseconds.
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
                match shaper.take(Way::Up, 0, wanted, 1, now) {
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
        let shaper = Shaper::new(None, 2, now);
        assert!(!shaper.is_on());
        assert_eq!(shaper.take(Way::Up, 0, usize::MAX, 9, now), usize::MAX);
    }

    #[test]
    fn the_directions_are_apart() {
        let start = Instant::now();
        let shaper = shaper(100_000, start);
        let now = start + Duration::from_millis(20);
        assert_eq!(shaper.take(Way::Up, 0, 1 << 20, 1, now), 2_000);
        assert_eq!(shaper.take(Way::Up, 0, 1 << 20, 1, now), 0);
        assert_eq!(shaper.take(Way::Down, 0, 1 << 20, 1, now), 2_000);
    }

    #[test]
    fn an_idle_pipe_saves_up_little() {
        let start = Instant::now();
        let shaper = shaper(100_000, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(shaper.take(Way::Up, 0, 1 << 20, 1, later), 2_000);
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
        let granted = shaper.take(Way::Up, 0, 1 << 20, 1, now);
        shaper.give_back(Way::Up, 0, granted - 100);
        assert_eq!(shaper.take(Way::Up, 0, 1 << 20, 1, now), granted - 100);
    }

    #[test]
    fn several_who_wait_share() {
        let start = Instant::now();
        let shaper = shaper(1_000_000, start);
        let now = start + Duration::from_millis(20);
        assert_eq!(shaper.take(Way::Up, 0, 1 << 20, 2, now), 10_000);
    }

    #[test]
    fn a_worker_with_more_who_wait_gets_more() {
        let start = Instant::now();
        let shaper = shaper(1_000_000, start);
        shaper.waits(Way::Up, 0, 1, start);
        shaper.waits(Way::Up, 1, 9, start);
        let mut sums = [0; 2];
        for step in 1..=1000 {
            let now = start + Duration::from_millis(5 * step);
            for (worker, waiting) in [(0, 1), (1, 9)] {
                // The first one that asks takes all its tokens.
                while let granted @ 1.. = shaper.take(Way::Up, worker, 64 << 10, waiting, now) {
                    sums[worker] += granted;
                }
            }
        }
        let [one, nine] = sums;
        assert!((490_000..=510_000).contains(&one), "{one} of 500,000");
        assert!((4_480_000..=4_510_000).contains(&nine), "{nine} of 4,500,000");
    }

    #[test]
    fn what_a_worker_does_not_come_for_is_there_for_the_others() {
        let start = Instant::now();
        let shaper = shaper(1_000_000, start);
        shaper.waits(Way::Up, 0, 1, start);
        shaper.waits(Way::Up, 1, 1, start);
        let mut sum = 0;
        for step in 1..=1000 {
            let now = start + Duration::from_millis(5 * step);
            while let granted @ 1.. = shaper.take(Way::Up, 0, 64 << 10, 1, now) {
                sum += granted;
            }
        }
        // But for what is kept for the one who doesn't come.
        assert!((4_750_000..=5_000_000).contains(&sum), "{sum} of 5,000,000");
        // All get its tokens when it waits no more.
        let now = start + Duration::from_secs(5);
        shaper.waits(Way::Up, 1, 0, now);
        assert!(shaper.take(Way::Up, 0, 64 << 10, 1, now) > 0);
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
