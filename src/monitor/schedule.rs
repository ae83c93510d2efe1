//! When the kernel is read between two refreshes: often enough to lose nothing, and no more often.

use std::time::{Duration, Instant};

/// Longest time between two looks. If ends are not announced, the kernel keeps the counters of an
/// ended connection for at least ten seconds (TCP after a reset), so no end is missed, however long
/// the interval.
const LOOK_AT_LEAST: Duration = Duration::from_secs(5);

/// Shortest time between two looks that events cause.
const LOOK_AT_MOST: Duration = Duration::from_millis(200);

/// Time for which announcements collect before they are read together: the kernel's buffer has room
/// for them.
const PAUSE: Duration = Duration::from_millis(50);

/// Interval of peeks if nothing announces that a look is needed: a busy host makes some thousand sockets
/// meanwhile.
const PEEK: Duration = Duration::from_millis(250);

/// The time of the next refresh. Missed refreshes are skipped.
pub(crate) fn following(last: Instant, interval: Duration, now: Instant) -> Instant {
    let next = last + interval;
    if next > now { next } else { now + interval }
}

/// A wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Its latest end.
    pub(crate) until: Instant,
    /// Whether an announcement of the kernel ends it earlier.
    pub(crate) or_events: bool,
    look: Instant,
}

/// The step after a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take the announcements, then call [`Schedule::drained`].
    Drain,
    /// Read the kernel.
    Look,
    /// Take a snapshot, which reads the kernel too.
    Refresh,
}

/// Decides when to take announcements and when to read the kernel.
#[derive(Debug)]
pub(crate) struct Schedule {
    looked: Instant,
    /// Whether a look is needed as soon as the last one is long enough ago.
    called: bool,
    /// The end of the pause in which announcements collect.
    paused: Instant,
}

impl Schedule {
    /// Starts with a reading of the kernel at `now`.
    pub(crate) fn new(now: Instant) -> Schedule {
        Schedule { looked: now, called: false, paused: now }
    }

    /// The next wait before the `refresh` due then. `needs_peeks` says that something may need taking without
    /// an announcement.
    pub(crate) fn wait(&self, now: Instant, refresh: Instant, needs_peeks: bool) -> Wait {
        let patience = if self.called { LOOK_AT_MOST } else { LOOK_AT_LEAST };
        let look = refresh.min(self.looked + patience);
        // Between two pauses announcements are taken at once.
        let pausing = now < self.paused;
        let mut until = if pausing { look.min(self.paused) } else { look };
        if needs_peeks && !self.called {
            until = until.min(now + PEEK);
        }
        Wait { until, or_events: !pausing, look }
    }

    /// The step to take after a wait.
    pub(crate) fn timed(&mut self, now: Instant, wait: Wait, refresh: Instant) -> Step {
        if wait.until < wait.look {
            return Step::Drain;
        }
        self.looked = now;
        self.called = false;
        if wait.look == refresh { Step::Refresh } else { Step::Look }
    }

    /// Notes that announcements were taken; `called` says that accounting them should not wait.
    pub(crate) fn drained(&mut self, now: Instant, announced: bool, called: bool) {
        self.called |= called;
        if announced {
            self.paused = now + PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read_at_least_every_five_seconds_and_at_a_refresh() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let refresh = start + Duration::from_secs(7);
        let wait = schedule.wait(start, refresh, false);
        assert_eq!((wait.until, wait.or_events), (start + LOOK_AT_LEAST, true));
        assert_eq!(schedule.timed(wait.until, wait, refresh), Step::Look);
        let wait = schedule.wait(wait.until, refresh, false);
        assert_eq!(wait.until, refresh);
        assert_eq!(schedule.timed(wait.until, wait, refresh), Step::Refresh);
    }

    #[test]
    fn announcements_are_taken_together_and_a_call_is_answered_soon() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let refresh = start + Duration::from_secs(60);
        schedule.drained(start, true, true);
        let wait = schedule.wait(start, refresh, true);
        assert_eq!((wait.until, wait.or_events), (start + PAUSE, false));
        assert_eq!(schedule.timed(wait.until, wait, refresh), Step::Drain);
        let wait = schedule.wait(start + PAUSE, refresh, true);
        assert_eq!((wait.until, wait.or_events), (start + LOOK_AT_MOST, true));
        assert_eq!(schedule.timed(wait.until, wait, refresh), Step::Look);
    }

    #[test]
    fn what_nothing_announces_is_looked_for() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let refresh = start + Duration::from_secs(60);
        let wait = schedule.wait(start, refresh, true);
        assert_eq!(wait.until, start + PEEK);
        assert_eq!(schedule.timed(wait.until, wait, refresh), Step::Drain);
        schedule.drained(wait.until, false, false);
        assert!(schedule.wait(wait.until, refresh, true).or_events);
    }

    #[test]
    fn a_refresh_that_was_missed_is_left_out() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(following(start, second, start), start + second);
        assert_eq!(following(start, second, start + second / 2), start + second);
        let late = start + second * 5;
        assert_eq!(following(start, second, late), late + second);
    }
}
