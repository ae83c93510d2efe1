//! A time budget for repeating queries without a pause, and for reading raw and ping sockets.

use std::time::{Duration, Instant};

/// Maximum time of repeating queries for connections that are about to be accepted, at once and as a
/// share of all time. More would keep the processor from the process that is to accept them.
pub(super) const SPIN: Duration = Duration::from_micros(20);
const SPIN_SHARE: f64 = 0.05;
const SPIN_SAVED: Duration = Duration::from_millis(20);

/// A budget of time.
#[derive(Debug)]
pub(super) struct SpinBudget {
    left: f64,
    at: Instant,
}

impl SpinBudget {
    pub(super) fn begin(now: Instant) -> SpinBudget {
        SpinBudget { left: 0.0, at: now }
    }

    pub(super) fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * SPIN_SHARE).min(SPIN_SAVED.as_secs_f64());
        self.at = now;
    }

    /// Takes the time since the last call from the budget; returns false if none is left.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        self.left -= now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left > 0.0
    }
}
