//! A TCP forwarder that counts every byte: [`Pipe`].
//!
//! A fixed number of worker threads each run a readiness loop over many connections. All of them
//! wait at the same listening socket. The worker that accepts a connection keeps it, or gives it to
//! the worker with the fewest. After that a connection stays with its worker.
//!
//! ```text
//!   client ──▶ [ socket ]──▶ shared buffer, or a borrowed kernel pipe ──▶[ socket ] ──▶ remote
//!          ◀──                                                                      ◀──
//! ```
//!
//! Bytes are counted when the kernel has taken them for the other side.

mod clients;
mod config;
mod connection;
mod connection_slots;
mod counters;
mod direction;
mod event;
mod kernel_pipe;
mod proxy;
mod queue;
mod resolve;
mod shape;
mod shared;
mod socket;
mod worker;

pub use clients::ClientBytes;
pub use config::{Config, Keepalive, OnEvent};
pub use connection_slots::ConnectionSlots;
pub use event::{ConnectError, End, Ended, Event, Failed, Side};
pub use resolve::{Resolve, SystemResolver};

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use clients::Clients;
use counters::Way;
use shared::{Mailbox, Mode, Shared};
use worker::Worker;

use crate::listen::ListenError;
use crate::model::traffic::Traffic;

/// A running pipe. Dropping it ends all of its connections at once, as [`Pipe::stop`] does.
#[derive(Debug)]
pub struct Pipe {
    shared: Arc<Shared>,
    /// The listening socket, as long as a worker listens.
    listener: Weak<OwnedFd>,
    workers: Vec<JoinHandle<()>>,
}

impl Pipe {
    /// Listens, and forwards from now on.
    ///
    /// # Errors
    /// The address can't be listened on, or a descriptor or thread is not available.
    pub fn start(config: Config) -> Result<Pipe, ListenError> {
        let (listener, address) = socket::listener(config.bind, config.port, config.keepalive)
            .map_err(|(address, errno)| ListenError::Listen { address, error: errno.into() })?;
        Pipe::start_on(Arc::new(listener), address, config, false)
    }

    /// Starts a pipe that listens on the same socket as this one, so that no client is refused during
    /// the change. Then [`Pipe::close`] this one; its connections are forwarded to their end.
    ///
    /// The address, the port and keepalive of `config` are ignored. If this pipe is closed already,
    /// the new one listens anew.
    ///
    /// # Errors
    /// Those of [`Pipe::start`].
    /// Those of [`Pipe::start`].
    pub fn succeed(&self, config: Config) -> Result<Pipe, ListenError> {
        let Some(listener) = self.listener.upgrade() else { return Pipe::start(config) };
        let successor = Pipe::start_on(listener, self.shared.address, config, true)?;
        self.shared.set_successor(&successor.shared);
        Ok(successor)
    }

    fn start_on(
        listener: Arc<OwnedFd>,
        address: SocketAddr,
        config: Config,
        is_successor: bool,
    ) -> Result<Pipe, ListenError> {
        let system = |what| move |error: io::Error| ListenError::System { what, error };
        let count = config.workers.get();
        let mailboxes: Vec<Mailbox> = (0..count)
            .map(|_| Mailbox::new())
            .collect::<Result<_, _>>()
            .map_err(|errno| system("an event descriptor")(errno.into()))?;
        let shared = Arc::new(Shared::new(config, address, mailboxes.into(), is_successor));
        // Everything that may fail comes first: a partly started pipe accepts no client.
        let workers: Vec<Worker> = (0..count)
            .map(|number| Worker::new(shared.clone(), number, listener.clone()))
            .collect::<Result<_, _>>()
            .map_err(|errno| system("a readiness queue")(errno.into()))?;
        let listener = Arc::downgrade(&listener);
        let mut pipe = Pipe { shared, listener, workers: Vec::new() };
        for worker in workers {
            let leaving = Leaving(pipe.shared.clone());
            let thread = thread::Builder::new().name("pipe".to_owned()).spawn(move || {
                let _leaving = leaving;
                worker.run();
            });
            // An early return drops the pipe, which ends the running workers.
            pipe.workers.push(thread.map_err(system("a thread"))?);
        }
        Ok(pipe)
    }

    /// The listening address, with the real port; `[::]` includes IPv4.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The configuration at the start; [`Pipe::shape`] may have changed the limit since.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The bytes forwarded so far. Received: bytes from clients that the remotes' sockets have
    /// taken; sent: bytes from remotes that the clients' sockets have taken.
    pub fn traffic(&self) -> Traffic {
        let counters = self.shared.mailboxes.iter().map(|mailbox| &mailbox.counters);
        let all = counters.map(|bytes| Traffic::new(bytes.get(Way::Up), bytes.get(Way::Down)));
        // A byte is in one of the two.
        all.sum::<Traffic>() + self.shared.clients.as_ref().map_or(Traffic::ZERO, Clients::total)
    }

    /// The bytes forwarded so far by client; `None` unless [`Config::count_clients`].
    pub fn clients(&self) -> Option<Vec<ClientBytes>> {
        self.shared.clients.as_ref().map(Clients::read)
    }

    /// Adds the bytes of a pipe that has ended to the clients of this one. Returns whether both count by client.
    pub(crate) fn absorb_clients(&self, ended: &Pipe) -> bool {
        match (&self.shared.clients, &ended.shared.clients) {
            (Some(clients), Some(ended)) => {
                clients.absorb(ended);
                true
            }
            _ => false,
        }
    }

    /// Number of open connections: accepted, and not yet closed.
    pub fn open(&self) -> usize {
        self.shared.open()
    }

    /// Sets or removes the limit of bytes per second, which applies to each direction over all
    /// connections.
    pub fn shape(&self, rate: Option<NonZeroU64>) {
        self.shared.shaper.set(rate);
        self.shared.ring_all();
    }

    /// Stops listening; open connections are forwarded to their end. Clients in the backlog are
    /// refused.
    pub fn close(&self) {
        self.shared.set_mode(Mode::Closing);
    }

    /// Waits, after [`Pipe::close`], until the last connection has ended. Returns false if
    /// `deadline` comes first.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut running = self.shared.running();
        while *running > 0 {
            let ended = self.shared.ended();
            running = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => ended.wait(running).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Whether the last connection has ended, after [`Pipe::close`].
    pub fn has_ended(&self) -> bool {
        *self.shared.running() == 0
    }

    /// Ends all connections at once, by resets in both directions, and the threads.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shared.set_mode(Mode::Stopping);
        for worker in self.workers.drain(..) {
            // A worker that panicked has reported it on stderr.
            let _ = worker.join();
        }
    }
}

/// Counts a worker as ended, however it ends.
struct Leaving(Arc<Shared>);

impl Drop for Leaving {
    fn drop(&mut self) {
        *self.0.running() -= 1;
        self.0.ended().notify_all();
    }
}
