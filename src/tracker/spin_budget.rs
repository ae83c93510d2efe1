//! How much time there is for asking again and again, and for reading raw and ping sockets.

use std::time::{Duration, Instant};

/// For how long connections that are about to be accepted are asked for without a pause, at once and
/// as a share of all time. Longer, and it keeps from the processor who is to accept it.
pub(super) const SPIN: Duration = Duration::from_micros(20);
const SPIN_SHARE: f64 = 0.05;
const SPIN_SAVED: Duration = Duration::from_millis(20);

/// How much time there is for what would be done without a pause otherwise.
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

    /// Takes the time since it was asked last; false where there is none left.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        self.left -= now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left > 0.0
    }
}
