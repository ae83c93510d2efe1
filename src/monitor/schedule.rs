//! When the kernel is read between two refreshes: often enough that nothing is lost, and no more often.

use std::time::{Duration, Instant};

/// Where ends are not announced, the kernel keeps an ended connection's counters for ten seconds at
/// the least (TCP after a reset): who looks more often than that sees them, however seldom the
/// screen is refreshed.
const LOOK_AT_LEAST: Duration = Duration::from_secs(5);

/// How soon after a look another one is taken because something happened.
const LOOK_AT_MOST: Duration = Duration::from_millis(200);

/// How long announcements may wait to be taken together: the kernel's buffer has room for what
/// comes meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// How often to see whether it is time to look where nothing announces it: a busy host makes some thousand
/// sockets meanwhile.
const PEEK: Duration = Duration::from_millis(250);

/// The next moment at which a refresh is due. One that has been missed is left out, not made up for.
pub(crate) fn following(last: Instant, interval: Duration, now: Instant) -> Instant {
    let next = last + interval;
    if next > now { next } else { now + interval }
}

/// For what to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Until when, at the latest.
    pub(crate) until: Instant,
    /// Whether only until the kernel announces something.
    pub(crate) or_events: bool,
    look: Instant,
}

/// What is to be done when the time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What was announced is to be taken: [`Schedule::drained`] follows.
    Drain,
    /// The kernel is to be read.
    Look,
    /// A refresh is due, which reads the kernel, too.
    Refresh,
}

/// Keeps what is announced from being lost, and has the kernel read often enough.
#[derive(Debug)]
pub(crate) struct Schedule {
    looked: Instant,
    /// Whether it is time to look, once the last look is long enough ago.
    called: bool,
    /// Until when announcements wait.
    paused: Instant,
}

impl Schedule {
    /// The kernel was read just `now`.
    pub(crate) fn new(now: Instant) -> Schedule {
        Schedule { looked: now, called: false, paused: now }
    }

    /// For what to wait before a `refresh` that is due then. `needs_peeks`: something may be to be taken that
    /// nothing announces.
    pub(crate) fn wait(&self, now: Instant, refresh: Instant, needs_peeks: bool) -> Wait {
        let patience = if self.called { LOOK_AT_MOST } else { LOOK_AT_LEAST };
        let look = refresh.min(self.looked + patience);
        // Between two pauses whatever was announced is taken at once.
        let pausing = now < self.paused;
        let mut until = if pausing { look.min(self.paused) } else { look };
        if needs_peeks && !self.called {
            until = until.min(now + PEEK);
        }
        Wait { until, or_events: !pausing, look }
    }

    /// The time of a wait has come: what is to be done.
    pub(crate) fn timed(&mut self, now: Instant, wait: Wait, refresh: Instant) -> Step {
        if wait.until < wait.look {
            return Step::Drain;
        }
        self.looked = now;
        self.called = false;
        if wait.look == refresh { Step::Refresh } else { Step::Look }
    }

    /// What was announced (or may be there without that) was taken; `called`: it should not wait to be accounted.
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
