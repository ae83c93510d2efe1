//! The names of hosts by their addresses, for those who can't wait for an answer.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::escape::is_plain;

/// Addresses that wait for a look-up. Of more, the newest are not asked for until there is room.
const WAITING: usize = 256;

/// Answers that are kept. Of more, the oldest are forgotten.
const KEPT: usize = 4096;

/// Look-ups that start in any [`SECOND`].
const RATE: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// How long an answer is used. getnameinfo(3) returns no lifetime.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// How long it is used that a host has no name, or that nobody could be asked.
const FRESH_FAILURE: Duration = Duration::from_secs(60);

/// Finds the names of hosts in a thread of its own.
///
/// The thread is detached: a look-up may take as long as the resolver likes, and the program ends without it.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals that an address waits, or that the resolver was dropped.
    changed: Condvar,
}

impl Resolver {
    /// Starts the thread, which asks the system's resolver: getnameinfo(3).
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(crate) fn new() -> io::Result<Resolver> {
        Resolver::with(look_up)
    }

    /// As [`Resolver::new`], with another resolver, which may block.
    fn with(look_up: impl Fn(IpAddr) -> Option<String> + Send + 'static) -> io::Result<Resolver> {
        let shared = Arc::new(Shared::default());
        let work = {
            let shared = shared.clone();
            move || shared.work(look_up)
        };
        thread::Builder::new().name("names".to_owned()).spawn(work)?;
        Ok(Resolver { shared })
    }

    /// The name of the host with this address, if it is known by now. It consists of ASCII letters, digits, `-`,
    /// `_` and `.`, but anybody who runs a name server may have chosen it. Never blocks.
    ///
    /// An address without a fresh answer is queued for a look-up. Until there is a new answer, the old one is used.
    pub(crate) fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        let mut state = self.shared.state();
        let before = state.waiting.len();
        let name = state.name(address, Instant::now());
        let is_queued = state.waiting.len() > before;
        drop(state);
        if is_queued {
            self.shared.changed.notify_one();
        }
        name
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks addresses up until the resolver is dropped.
    fn work(&self, look_up: impl Fn(IpAddr) -> Option<String>) {
        while let Some(address) = self.next() {
            let name = look_up(address).filter(|name| is_host_name(name));
            self.state().answered(address, name.map(Arc::from), Instant::now());
        }
    }

    /// Waits for an address to look up; `None` once the resolver is dropped.
    fn next(&self) -> Option<IpAddr> {
        let mut state = self.state();
        loop {
            state = match state.next(Instant::now()) {
                Next::Ask(address) => return Some(address),
                Next::Over => return None,
                Next::Idle => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Next::Later(left) => {
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// What the thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ask(IpAddr),
    /// Nothing until an address waits.
    Idle,
    /// Nothing for this time: enough was asked.
    Later(Duration),
    /// The resolver was dropped.
    Over,
}

#[derive(Debug)]
struct Answer {
    name: Option<Arc<str>>,
    at: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// The answers, in the order in which they came.
    answers: IndexMap<IpAddr, Answer, RandomState>,
    waiting: VecDeque<IpAddr>,
    /// The addresses that wait, and the one that is looked up now.
    asked: HashSet<IpAddr, RandomState>,
    /// When the latest look-ups started, `RATE` of them at most.
    started: VecDeque<Instant>,
    is_over: bool,
}

impl State {
    /// The name of an address. Queues the address if there is no fresh answer.
    fn name(&mut self, address: IpAddr, now: Instant) -> Option<Arc<str>> {
        // Some sockets are IPv6 ones with an IPv4 address in them.
        let address = address.to_canonical();
        let answer = self.answers.get(&address);
        let is_fresh = answer.is_some_and(|answer| {
            let time = if answer.name.is_some() { FRESH } else { FRESH_FAILURE };
            now.saturating_duration_since(answer.at) < time
        });
        let is_due = !is_fresh && self.waiting.len() < WAITING && is_of_a_host(address);
        if is_due && self.asked.insert(address) {
            self.waiting.push_back(address);
        }
        answer.and_then(|answer| answer.name.clone())
    }

    fn next(&mut self, now: Instant) -> Next {
        if self.is_over {
            return Next::Over;
        }
        let Some(&address) = self.waiting.front() else { return Next::Idle };
        if self.started.len() >= RATE
            && let Some(&first) = self.started.front()
        {
            let left = SECOND.saturating_sub(now.saturating_duration_since(first));
            if !left.is_zero() {
                return Next::Later(left);
            }
            self.started.pop_front();
        }
        self.started.push_back(now);
        self.waiting.pop_front();
        Next::Ask(address)
    }

    fn answered(&mut self, address: IpAddr, name: Option<Arc<str>>, now: Instant) {
        self.asked.remove(&address);
        // It is the newest answer now.
        self.answers.shift_remove(&address);
        if self.answers.len() >= KEPT {
            self.answers.shift_remove_index(0);
        }
        self.answers.insert(address, Answer { name, at: now });
    }
}

/// Whether an address can be that of one other host.
fn is_of_a_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// Whether an answer is a name. The last label of one is no number: the host would have the address of another one
/// for its name.
fn is_host_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    is_plain(name.as_bytes()) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of an address in `/etc/hosts`, the domain name system, or what else the host is set up to ask.
fn look_up(address: IpAddr) -> Option<String> {
    // A host without a name and a name server that is out of reach are the same here: there is nothing to show.
    dns_lookup::lookup_addr(&address).ok()
}

#[cfg(test)]
mod tests;
