//! The jobs that wait while a command of their rule runs. No process is started here.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Command, Commands, Facts};
use crate::alert::State;

/// Maximum number of jobs that wait for a running command of their rule. A command that hangs
/// delays the others until its timeout.
const WAITING: usize = 1000;

/// A run of a command.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The key that configures it.
    pub(super) key: &'static str,
    pub(super) command: Command,
    /// Its timeout.
    pub(super) timeout: Duration,
    pub(super) facts: Facts,
}

impl Job {
    /// The job for `facts`, if there is a command for them.
    pub(super) fn new(commands: &Commands, facts: Facts) -> Option<Job> {
        let (key, command) = match facts.state {
            State::Firing => ("notification_command", &commands.firing),
            State::Resolved => ("resolved_command", &commands.resolved),
        };
        let command = command.clone()?;
        Some(Job { key, command, timeout: commands.timeout, facts })
    }
}

/// The jobs of one rule, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    /// Whether it was full, and has not been empty since.
    flooded: bool,
}

impl Queue {
    /// Takes a notification while a command of the rule runs. Returns true at the start of a flood:
    /// this job is the first that is dropped because too many wait.
    pub(super) fn offer(&mut self, commands: &Commands, facts: Facts, repeated: bool) -> bool {
        let same = |job: &Job| {
            job.facts.direction == facts.direction && job.facts.application == facts.application
        };
        let last = self.jobs.iter().rposition(same);
        let untold = last.filter(|index| self.jobs[*index].facts.state == State::Firing);
        match (untold, facts.state) {
            // Its firing was never notified, so its end needs no notification.
            (Some(index), State::Resolved) => {
                self.jobs.remove(index);
                return false;
            }
            (Some(index), State::Firing) => {
                self.jobs[index].facts = facts;
                return false;
            }
            (None, State::Firing) if repeated => return false,
            (None, _) => {}
        }
        let Some(job) = Job::new(commands, facts) else { return false };
        if self.jobs.len() < WAITING {
            self.jobs.push_back(job);
            return false;
        }
        !std::mem::replace(&mut self.flooded, true)
    }

    /// Takes the next job.
    pub(super) fn next(&mut self) -> Option<Job> {
        let job = self.jobs.pop_front();
        self.flooded &= !self.jobs.is_empty();
        job
    }

    /// Drops all jobs, and returns their number.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.jobs.len();
        self.jobs.clear();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Direction;

    fn commands() -> Commands {
        Commands {
            firing: Some(Command::parse("fire").unwrap()),
            resolved: Some(Command::parse("resolve").unwrap()),
            timeout: Duration::from_secs(1),
        }
    }

    fn facts(application: &str, state: State, value: f64) -> Facts {
        Facts {
            rule: (*b"r").into(),
            application: application.as_bytes().into(),
            configured: true,
            direction: Direction::In,
            threshold: 1.0,
            value,
            state,
            time: String::new(),
        }
    }

    fn firing(application: &str) -> Facts {
        facts(application, State::Firing, 2.0)
    }

    fn resolved(application: &str) -> Facts {
        facts(application, State::Resolved, 0.0)
    }

    /// All that waits: what is run, for whom, with which value.
    fn drain(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next())
            .map(|job| {
                let application = String::from_utf8_lossy(&job.facts.application);
                format!("{} {application} {}", job.command.words()[0], job.facts.value)
            })
            .collect()
    }

    #[test]
    fn in_order_of_arrival() {
        let mut queue = Queue::default();
        for facts in [resolved("b"), firing("a"), firing("b"), resolved("c")] {
            assert!(!queue.offer(&commands(), facts, false));
        }
        assert_eq!(drain(&mut queue), ["resolve b 0", "fire a 2", "fire b 2", "resolve c 0"]);
    }

    #[test]
    fn a_repeated_one_is_dropped_or_brings_the_first_up_to_date() {
        let mut queue = Queue::default();
        queue.offer(&commands(), firing("a"), false);
        queue.offer(&commands(), firing("b"), true);
        queue.offer(&commands(), facts("a", State::Firing, 7.0), true);
        assert_eq!(drain(&mut queue), ["fire a 7"]);
    }

    #[test]
    fn a_firing_that_nobody_knows_of_is_not_resolved() {
        let mut queue = Queue::default();
        queue.offer(&commands(), firing("a"), false);
        queue.offer(&commands(), firing("b"), false);
        // The other direction is another matter.
        queue.offer(&commands(), Facts { direction: Direction::Out, ..resolved("a") }, false);
        queue.offer(&commands(), resolved("a"), false);
        assert_eq!(drain(&mut queue), ["fire b 2", "resolve a 0"]);
    }

    #[test]
    fn only_the_last_firing_is_resolved() {
        let mut queue = Queue::default();
        // The first one runs while this comes.
        for facts in [resolved("a"), firing("a"), resolved("a")] {
            queue.offer(&commands(), facts, false);
        }
        assert_eq!(drain(&mut queue), ["resolve a 0"]);
    }

    #[test]
    fn without_a_command_there_is_nothing_to_run() {
        // No command reported the firing, only a line; a command reports its end.
        let mut queue = Queue::default();
        let no_firing = Commands { firing: None, ..commands() };
        queue.offer(&no_firing, firing("a"), false);
        queue.offer(&no_firing, resolved("a"), false);
        assert_eq!(drain(&mut queue), ["resolve a 0"]);
        // A resolved alert is not reported as firing, even if its end has no command.
        let no_resolved = Commands { resolved: None, ..commands() };
        queue.offer(&no_resolved, firing("a"), false);
        queue.offer(&no_resolved, resolved("a"), false);
        queue.offer(&no_resolved, resolved("b"), false);
        assert_eq!(drain(&mut queue), [""; 0]);
    }

    #[test]
    fn a_flood_is_cut_off_and_said_once() {
        let mut queue = Queue::default();
        for number in 0..WAITING {
            assert!(!queue.offer(&commands(), firing(&number.to_string()), false));
        }
        assert!(queue.offer(&commands(), firing("x"), false));
        assert!(!queue.offer(&commands(), firing("y"), false));
        // One that only brings another up to date needs no room.
        assert!(!queue.offer(&commands(), facts("0", State::Firing, 9.0), true));
        assert_eq!(queue.next().unwrap().facts.value, 9.0);
        assert!(!queue.offer(&commands(), firing("z"), false));
        assert!(!queue.offer(&commands(), firing("still the same flood"), false));
        assert_eq!(queue.clear(), WAITING);
        assert!(queue.next().is_none());
        for number in 0..WAITING {
            assert!(!queue.offer(&commands(), firing(&number.to_string()), false));
        }
        assert!(queue.offer(&commands(), firing("x"), false));
    }
}
