//! Opens network namespaces, one after the other, in a thread of its own, which enters them.
//!
//! Each takes a fraction of a millisecond, and much longer if the thread has to wait for a processor.
//! So a look doesn't wait for all of them.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::{Command, Going, Namespace, Shared, wake};
use crate::netns::NetnsId;

/// A job of the thread.
#[derive(Debug)]
pub(super) enum Job {
    /// Read what is open already.
    Read(Box<Namespace>),
    /// Open the namespace of this process, and read that.
    Open(NetnsId, u32),
}

/// The progress of the thread.
#[derive(Debug, Default)]
pub(super) struct OpenQueue {
    jobs: VecDeque<Job>,
    /// Number of jobs that are not done, and of all.
    pub(super) left: usize,
    all: usize,
}

/// The thread, while it exists.
#[derive(Debug, Default)]
pub(super) struct Opener(Option<JoinHandle<()>>);

impl Opener {
    /// Starts with these jobs. With `ahead` opened namespaces are read at once too. If no thread can be
    /// started, namespaces that are open already come back unread, and the others are left to the next look.
    pub(super) fn start(&mut self, shared: &Arc<Shared>, jobs: Vec<Job>, ahead: bool) {
        let all = jobs.len();
        shared.state().opening = OpenQueue { jobs: jobs.into(), left: all, all };
        let worker = shared.clone();
        let work = move || {
            while let Some(job) = worker.next_job() {
                let opened = worker.obey(job, ahead);
                worker.done(opened);
            }
        };
        match thread::Builder::new().name("opener".to_owned()).spawn(work) {
            Ok(thread) => self.0 = Some(thread),
            Err(_) => {
                let mut state = shared.state();
                let opening = std::mem::take(&mut state.opening);
                state.opened.extend(opening.jobs.into_iter().filter_map(|job| match job {
                    Job::Read(namespace) => Some(*namespace),
                    Job::Open(..) => None,
                }));
            }
        }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn obey(&self, job: Job, ahead: bool) -> Option<Namespace> {
        let (mut namespace, netns_listener) = match job {
            Job::Read(namespace) => (*namespace, None),
            Job::Open(id, process) => self.open(id, process, Going::Alone)?,
        };
        if ahead {
            namespace.read_ahead(self.opens.ends);
        }
        if let Some(netns_listener) = netns_listener {
            self.state().commands.push(Command::Listen(Box::new(netns_listener)));
            wake(&self.wake_up);
        }
        Some(namespace)
    }

    fn done(&self, opened: Option<Namespace>) {
        let mut state = self.state();
        state.opened.extend(opened);
        state.opening.left -= 1;
        drop(state);
        self.answered.notify_all();
    }

    fn next_job(&self) -> Option<Job> {
        self.state().opening.jobs.pop_front()
    }

    /// Ends the thread.
    pub(super) fn stop_opening(&self) {
        self.state().opening.jobs.clear();
    }

    /// Waits until everything is open, or until that time. Returns how many namespaces are left, of how many.
    pub(super) fn await_opening(&self, until: Option<Instant>) -> Option<(usize, usize)> {
        let mut state = self.state();
        while state.opening.left > 0 {
            state = match until {
                None => self.answered.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.answered.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        (state.opening.left > 0).then_some((state.opening.left, state.opening.all))
    }
}
