//! A pipe with a remote behind it, and what its two ends can do and see.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use bwmon::pipe::{Config, ConnectError, End, Event, Pipe, Resolve};
use testbed::ports::free_port;
use testbed::streams::{LOCAL, Remote, connect};
use testbed::wait::eventually;

/// All that a pipe has told.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn collect<T>(&self, take: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.0.lock().unwrap().iter().filter_map(take).collect()
    }

    /// How connections ended, in that order.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.collect(|event| match event {
            Event::Ended(ended) => Some(ended.end),
            _ => None,
        })
    }

    /// The connections that ended.
    pub(crate) fn ended(&self) -> Vec<bwmon::pipe::Ended> {
        self.collect(|event| match event {
            Event::Ended(ended) => Some(ended.clone()),
            _ => None,
        })
    }

    /// Why clients were not served, and who.
    pub(crate) fn failures(&self) -> Vec<(SocketAddr, Failure)> {
        self.collect(|event| match event {
            Event::Failed(failed) => Some((failed.client, Failure::of(&failed.error))),
            _ => None,
        })
    }

    /// Waits for one more failure than `before`; why.
    pub(crate) fn failure_after(&self, before: usize) -> Failure {
        eventually("a failure is reported", || self.failures().len() > before);
        self.failures()[before].1.clone()
    }

    /// Waits for the first end.
    pub(crate) fn first_end(&self) -> End {
        eventually("an end is reported", || !self.ends().is_empty());
        self.ends()[0]
    }
}

/// A [`ConnectError`] that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Unresolved,
    Refused(SocketAddr, ErrorKind),
    Abandoned,
    Itself,
    Starved,
}

impl Failure {
    fn of(error: &ConnectError) -> Failure {
        match error {
            ConnectError::Unresolved { .. } => Failure::Unresolved,
            ConnectError::Refused { address, error } => Failure::Refused(*address, error.kind()),
            ConnectError::Abandoned => Failure::Abandoned,
            ConnectError::Itself { .. } => Failure::Itself,
            ConnectError::Starved => Failure::Starved,
        }
    }
}

/// A resolver made of a function.
pub(crate) struct Answer<F>(pub(super) F);

impl<F: Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync> Resolve for Answer<F> {
    fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        (self.0)()
    }
}

/// A pipe to a remote, on ports that no other test has.
pub(crate) struct Rig {
    pub(crate) pipe: Pipe,
    pub(crate) remote: Remote,
    pub(crate) events: Events,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(|_| {})
    }

    /// With another configuration than the one that all others have.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Rig {
        Rig::before(Remote::new(), change)
    }

    /// Before this remote.
    pub(crate) fn before(remote: Remote, change: impl FnOnce(&mut Config)) -> Rig {
        let (pipe, events) = pipe_to(remote.address(), change);
        Rig { pipe, remote, events }
    }

    /// Where clients on IPv4 connect to.
    pub(crate) fn entrance(&self) -> SocketAddr {
        entrance(&self.pipe)
    }

    pub(crate) fn client(&self) -> TcpStream {
        connect(self.entrance())
    }

    /// Both ends of a new connection.
    pub(crate) fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        (client, self.remote.accept())
    }

    /// Waits until no connection is open.
    pub(crate) fn expect_idle(&self) {
        eventually("no connection is open", || self.pipe.open() == 0);
    }

    /// Waits until no connection is open, and compares what was counted.
    pub(crate) fn expect_counted(&self, received: u64, sent: u64) {
        self.expect_idle();
        let traffic = self.pipe.traffic();
        assert_eq!((traffic.received, traffic.sent), (received, sent), "(received, sent)");
    }
}

/// A pipe alone, and what it tells.
pub(crate) fn pipe_to(address: SocketAddr, change: impl FnOnce(&mut Config)) -> (Pipe, Events) {
    let events = Events::default();
    let mut config = Config::new(free_port(), address.ip().to_string(), address.port());
    config.workers = NonZeroUsize::new(2).unwrap();
    config.report_ends = true;
    let told = events.clone();
    config.report = Some(Arc::new(move |event| told.push(event)));
    change(&mut config);
    (Pipe::start(config).unwrap(), events)
}

/// Where clients on IPv4 connect to.
pub(crate) fn entrance(pipe: &Pipe) -> SocketAddr {
    (LOCAL, pipe.address().port()).into()
}
