//! Resolves the host's name without blocking connections that need no answer.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer is used. getaddrinfo(3) returns no lifetime; this is short enough to follow a
/// host that moves, and long enough that a burst of connections causes one query.
const FRESH: Duration = Duration::from_secs(5);

/// How long a failure is used, and an answer without a reachable address.
const FRESH_FAILURE: Duration = Duration::from_secs(1);

/// A resolver. It may block: it is called in a thread of its own.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, with `port`, in the order in which to try them.
    ///
    /// # Errors
    /// Those of the resolver.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver: getaddrinfo(3).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// The state of the host's name.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// Never empty.
    Addresses(Arc<[SocketAddr]>),
    Failed(String),
    /// The query is running; all workers are woken when it has an answer.
    Pending,
}

/// The host and the last answer.
pub(super) struct Host {
    name: String,
    port: u16,
    resolver: Arc<dyn Resolve>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    asking: bool,
}

struct Answer {
    result: Result<Arc<[SocketAddr]>, String>,
    at: Instant,
    /// How long the answer is used; `None` for an address, which needs no resolver.
    fresh: Option<Duration>,
}

impl Host {
    pub(super) fn new(name: &str, port: u16, resolver: Arc<dyn Resolve>) -> Host {
        let literal = name.parse::<IpAddr>().ok().map(|address| Answer {
            result: Ok([SocketAddr::new(address, port)].into()),
            at: Instant::now(),
            fresh: None,
        });
        let state = Mutex::new(State { answer: literal, asking: false });
        Host { name: name.to_owned(), port, resolver, state }
    }

    /// The state of the name at `now`; `done` is called when a pending query has an answer.
    pub(super) fn ask(
        self: &Arc<Host>,
        now: Instant,
        done: impl FnOnce() + Send + 'static,
    ) -> Found {
        let mut state = self.state();
        if let Some(answer) = &state.answer
            && answer.fresh.is_none_or(|fresh| now.saturating_duration_since(answer.at) < fresh)
        {
            return match &answer.result {
                Ok(addresses) => Found::Addresses(addresses.clone()),
                Err(error) => Found::Failed(error.clone()),
            };
        }
        if !state.asking {
            let host = self.clone();
            let asked = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
                host.look_up();
                done();
            });
            if let Err(error) = asked {
                return Found::Failed(format!("no thread: {error}"));
            }
            state.asking = true;
        }
        Found::Pending
    }

    fn look_up(&self) {
        let result = match self.resolver.resolve(&self.name, self.port) {
            Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
            Ok(addresses) => Ok(addresses.into()),
            Err(error) => Err(error.to_string()),
        };
        let fresh = Some(if result.is_ok() { FRESH } else { FRESH_FAILURE });
        let mut state = self.state();
        state.answer = Some(Answer { result, at: Instant::now(), fresh });
        state.asking = false;
    }

    /// None of these addresses could be connected to: the name is soon resolved again.
    pub(super) fn doubt(&self, addresses: &Arc<[SocketAddr]>) {
        let mut state = self.state();
        if let Some(answer) = &mut state.answer
            && let (Ok(known), Some(fresh)) = (&answer.result, &mut answer.fresh)
            && Arc::ptr_eq(known, addresses)
        {
            *fresh = FRESH_FAILURE;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Answers with one address, or fails, and counts the questions.
    struct Counting(AtomicUsize, bool);

    impl Resolve for Counting {
        fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if self.1 { Ok(vec![([192, 0, 2, 1], port).into()]) } else { Ok(vec![]) }
        }
    }

    fn ask_and_wait(host: &Arc<Host>, now: Instant) -> Found {
        let (done, answered) = mpsc::channel();
        let found = host.ask(now, move || done.send(()).unwrap());
        assert!(matches!(found, Found::Pending), "{found:?}");
        answered.recv().unwrap();
        host.ask(now, || {})
    }

    #[test]
    fn an_address_is_never_looked_up() {
        let counting = Arc::new(Counting(AtomicUsize::new(0), true));
        for (name, address) in [("::1", "[::1]:80"), ("192.0.2.7", "192.0.2.7:80")] {
            let host = Arc::new(Host::new(name, 80, counting.clone()));
            let later = Instant::now() + Duration::from_secs(1000);
            match host.ask(later, || {}) {
                Found::Addresses(found) => assert_eq!(*found, [address.parse().unwrap()]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(counting.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_answer_is_used_for_a_while() {
        let counting = Arc::new(Counting(AtomicUsize::new(0), true));
        let host = Arc::new(Host::new("name", 80, counting.clone()));
        let now = Instant::now();
        let Found::Addresses(addresses) = ask_and_wait(&host, now) else { panic!() };
        assert!(matches!(host.ask(now + FRESH / 2, || {}), Found::Addresses(_)));
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
        // These addresses don't answer: the name is resolved again, but not at once.
        host.doubt(&addresses);
        assert!(matches!(host.ask(now + FRESH_FAILURE / 2, || {}), Found::Addresses(_)));
        ask_and_wait(&host, now + FRESH / 2);
        assert_eq!(counting.0.load(Ordering::Relaxed), 2);
        // Doubts about what was answered before don't touch what is answered now.
        host.doubt(&addresses);
        assert!(matches!(host.ask(now + FRESH / 2, || {}), Found::Addresses(_)));
    }

    #[test]
    fn a_failure_is_believed_for_a_moment() {
        let counting = Arc::new(Counting(AtomicUsize::new(0), false));
        let host = Arc::new(Host::new("name", 80, counting.clone()));
        let now = Instant::now();
        assert!(matches!(ask_and_wait(&host, now), Found::Failed(_)));
        assert!(matches!(host.ask(now + FRESH_FAILURE / 2, || {}), Found::Failed(_)));
        assert!(matches!(host.ask(now + FRESH_FAILURE * 2, || {}), Found::Pending));
    }
}
