//! Runs the commands of rules, one at a time for each rule.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::process;
use super::queue::{Job, Queue};
use super::{Commands, Facts};
use crate::escape::{visible, visible_cut};

/// Receives error messages: one line, safe to print, without a newline. Any thread may call it.
pub type Complain = Arc<dyn Fn(String) + Send + Sync>;

/// Runs commands, one at a time for each rule, those of different rules in parallel.
///
/// Dropping it drops waiting commands. Running ones continue, and are killed after their timeout as
/// long as this process lives.
pub struct Runner {
    shared: Arc<Shared>,
}

/// The commands that had not finished at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Waiting commands, which were never started.
    pub dropped: usize,
    /// Commands that still ran at the deadline. They continue on their own.
    pub running: usize,
}

struct Shared {
    report: Complain,
    rules: Mutex<Rules>,
    /// Signals that a rule has nothing more to run.
    idle: Condvar,
}

#[derive(Default)]
struct Rules {
    /// Each rule with a running command, and the jobs that wait for it.
    busy: HashMap<Vec<u8>, Queue>,
    /// Whether no more commands are started.
    ended: bool,
}

impl Runner {
    /// A runner without commands. `report` gets messages such as `[SSH] notification_command
    /// 'mail': exit status 3`.
    pub fn new(report: Complain) -> Runner {
        let (rules, idle) = (Mutex::default(), Condvar::new());
        Runner { shared: Arc::new(Shared { report, rules, idle }) }
    }

    /// Runs the command for `facts`, or queues it if a command of the rule runs. Never blocks.
    ///
    /// While a command of the rule runs, a firing that is only `repeated` is dropped; if its first
    /// notification still waits, that one gets the new facts. If an alert resolves while its firing
    /// still waits, both are dropped.
    pub fn notify(&self, rule: &[u8], commands: &Commands, facts: Facts, repeated: bool) {
        let mut rules = self.shared.rules();
        if rules.ended {
            return;
        }
        if let Some(queue) = rules.busy.get_mut(rule) {
            let flood = queue.offer(commands, facts, repeated);
            drop(rules);
            if flood {
                self.shared.report(rule, "too many of its commands wait: some were dropped");
            }
            return;
        }
        let Some(job) = Job::new(commands, facts) else { return };
        rules.busy.insert(rule.to_vec(), Queue::default());
        drop(rules);
        let work = {
            let (shared, rule) = (self.shared.clone(), rule.to_vec());
            move || shared.work(&rule, job)
        };
        if let Err(error) = thread::Builder::new().name("notify".to_owned()).spawn(work) {
            self.shared.rules().busy.remove(rule);
            self.shared.idle.notify_all();
            self.shared.report(rule, &format!("its command cannot be started: {error}"));
        }
    }

    /// Number of running commands.
    pub fn running(&self) -> usize {
        self.shared.rules().busy.len()
    }

    /// Drops waiting commands, and waits for running ones: until the deadline, or without a
    /// deadline until the timeout of each.
    pub fn finish(self, deadline: Option<Instant>) -> Left {
        let mut rules = self.shared.rules();
        let dropped = rules.end();
        while !rules.busy.is_empty() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            rules = match left {
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    let woken = self.shared.idle.wait_timeout(rules, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.idle.wait(rules).unwrap_or_else(PoisonError::into_inner),
            };
        }
        Left { dropped, running: rules.busy.len() }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.rules().end();
    }
}

impl Rules {
    fn end(&mut self) -> usize {
        self.ended = true;
        self.busy.values_mut().map(Queue::clear).sum()
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `job` and the jobs that wait behind it.
    fn work(&self, rule: &[u8], mut job: Job) {
        loop {
            if let Err(problem) = process::run(&job) {
                let program = job.command.words().first().map_or("", String::as_str);
                let program = visible(program.as_bytes());
                self.report(rule, &format!("{} '{program}': {problem}", job.key));
            }
            let mut rules = self.rules();
            match rules.busy.get_mut(rule).and_then(Queue::next) {
                Some(next) => job = next,
                None => {
                    rules.busy.remove(rule);
                    self.idle.notify_all();
                    return;
                }
            }
        }
    }

    fn report(&self, rule: &[u8], message: &str) {
        (self.report)(format!("[{}] {message}", visible_cut(rule, 50)));
    }
}
