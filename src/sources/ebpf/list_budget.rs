//! Decides when to list all sockets in search of holders.
//!
//! To list the sockets of one network namespace the kernel walks through those of all, including TIME_WAIT.
//! If ten thousands of connections come and go, that takes longer than everything else in a look.

use std::time::{Duration, Instant};

/// Number of looks after which all sockets are listed even if none seems new.
const ROUND: u32 = 16;

/// The long-term share of a processor: one part in so many.
const SHARE: u32 = 200;

/// Maximum processor time that can be saved up.
const SAVED: Duration = Duration::from_millis(100);

/// The budget, which decides at every look.
#[derive(Debug, Default)]
pub(super) struct ListBudget {
    looks: u32,
    /// Whether a new socket has not been listed yet.
    wanted: bool,
    /// The available processor time, and the debt.
    saved: Duration,
    owed: Duration,
    /// Time of the look before.
    at: Option<Instant>,
}

impl ListBudget {
    /// Whether to list all sockets; `new` says that some are new.
    pub(super) fn is_due(&mut self, new: bool, now: Instant) -> bool {
        let since = self.at.map(|at| now.saturating_duration_since(at) / SHARE);
        self.at = Some(now);
        let earned = since.unwrap_or(SAVED);
        self.saved = (self.saved + earned.saturating_sub(self.owed)).min(SAVED);
        self.owed = self.owed.saturating_sub(earned);
        self.wanted |= new || self.looks.is_multiple_of(ROUND);
        self.looks = self.looks.wrapping_add(1);
        self.wanted && self.owed.is_zero()
    }

    /// Notes a list of all, which took this much processor time.
    pub(super) fn took(&mut self, cost: Duration) {
        self.wanted = false;
        self.owed = cost.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which of so many looks, one a second, all sockets are listed, if that takes so long.
    fn listed(looks: u64, new: impl Fn(u64) -> bool, cost: Duration) -> Vec<u64> {
        let (mut budget, start) = (ListBudget::default(), Instant::now());
        let due = |look: &u64| {
            let due = budget.is_due(new(*look), start + Duration::from_secs(*look));
            if due {
                budget.took(cost);
            }
            due
        };
        (0..looks).filter(due).collect()
    }

    const CHEAP: Duration = Duration::from_millis(5);

    #[test]
    fn all_are_listed_whenever_one_is_new_and_every_now_and_then() {
        assert_eq!(listed(6, |_| true, CHEAP), [0, 1, 2, 3, 4, 5]);
        assert_eq!(listed(40, |look| look == 3, CHEAP), [0, 3, 16, 32]);
    }

    #[test]
    fn a_list_that_takes_long_is_read_at_once_for_a_while_and_then_less_often() {
        let cost = Duration::from_millis(40);
        assert_eq!(listed(30, |_| true, cost), [0, 1, 2, 4, 12, 20, 28]);
        // What was saved up in the meantime is for those that are new at last.
        assert_eq!(listed(60, |look| look == 0 || look > 45, cost)[..6], [0, 16, 32, 46, 47, 48]);
        // None is forgotten that was new when it was too early.
        let cost = Duration::from_millis(120);
        assert_eq!(listed(12, |look| look == 2, cost), [0, 4]);
    }
}
