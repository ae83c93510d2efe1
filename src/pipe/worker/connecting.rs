//! Connecting to the remote: a name, its addresses in turn, a connection.

use std::mem;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};

use super::{PAUSE, Token, WATCHED, Worker};
use crate::pipe::connection::{Connection, Names, Step};
use crate::pipe::event::{ConnectError, End, Side};
use crate::pipe::resolve::Found;
use crate::pipe::{proxy, socket};

impl Worker {
    /// Starts with a new client.
    pub(super) fn begin(&mut self, client: OwnedFd, from: SocketAddr) {
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        let mut connection = Connection::new(client, from, self.resources.now);
        connection.generation = self.generation;
        connection.active = self.clock();
        let index = self.connections.insert(connection);
        let token = Token { index: index as u32, generation: self.generation };
        self.attempts += 1;
        if self.attempts == 1 {
            // Its timeout starts now.
            self.swept = self.resources.now;
        }
        let Some(connection) = self.connections.get(index) else { return };
        match epoll::add(&self.epoll, connection.client(), token.data(Side::Client), WATCHED) {
            // A client that has left, perhaps in the backlog, gets no connection to the remote: it
            // would be useless, and pipes that lead to each other would make such connections for
            // ever.
            Ok(()) if matches!(sockopt::socket_error(connection.client()), Ok(Err(_))) => {
                self.fail(token, ConnectError::Abandoned);
            }
            Ok(()) => self.advance(token),
            // Out of memory, or of what fs.epoll.max_user_watches allows.
            Err(errno) => {
                self.shared.report(super::Event::Starved(errno.into()));
                self.end(index, End::Cut);
            }
        }
    }

    /// Continues an attempt that can be tried now.
    pub(super) fn advance(&mut self, token: Token) {
        let clock = self.clock();
        let now = self.resources.now;
        let Some(attempt) =
            self.get(token).and_then(|connection| connection.attempt.as_deref_mut())
        else {
            return;
        };
        let addresses = match &attempt.addresses {
            Some(addresses) => addresses.clone(),
            None => {
                let shared = self.shared.clone();
                match self.shared.host.ask(now, move || shared.ring_all()) {
                    Found::Addresses(addresses) => addresses,
                    Found::Pending => return self.resolving.push(token),
                    Found::Failed(error) => {
                        let host = self.shared.config.host.clone();
                        return self.fail(token, ConnectError::Unresolved { host, error });
                    }
                }
            }
        };
        let keepalive = self.shared.config.keepalive;
        let Some(connection) = self.connections.get_mut(token.index as usize) else { return };
        let Some(attempt) = connection.attempt.as_deref_mut() else { return };
        attempt.addresses = Some(addresses.clone());
        while let Some(address) = addresses.get(attempt.next).copied() {
            // Before connecting: a connection to the pipe itself would cause another one, for ever.
            if leads_here(&mut self.itself, address, self.shared.address, now) {
                attempt.next += 1;
                attempt.error = Some(ConnectError::Itself { address });
                continue;
            }
            let socket = socket::connecting(address, keepalive).and_then(|socket| {
                epoll::add(&self.epoll, &socket, token.data(Side::Remote), WATCHED)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => {
                    attempt.next += 1;
                    attempt.step = Step::Connecting(socket, address);
                    connection.active = clock;
                    return;
                }
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    // Another failed try is no progress.
                    if !matches!(attempt.step, Step::Starved) {
                        attempt.step = Step::Starved;
                        connection.active = clock;
                    }
                    return self.starve(token, errno);
                }
                Err(errno) => {
                    attempt.next += 1;
                    attempt.refused(address, errno);
                }
            }
        }
        let error = attempt.failure();
        self.shared.host.doubt(&addresses);
        self.fail(token, error);
    }

    /// Takes an event of the socket that is being connected.
    pub(super) fn connected(&mut self, token: Token, flags: EventFlags) {
        let Some(connection) = self.get(token) else { return };
        let Some(attempt) = connection.attempt.as_deref_mut() else { return };
        let (remote, address) = match mem::replace(&mut attempt.step, Step::Resolving) {
            Step::Connecting(remote, address) => (remote, address),
            other => {
                attempt.step = other;
                return;
            }
        };
        let told = sockopt::socket_error(&remote).and_then(|told| told);
        match told.and_then(|()| socket::local(&remote)) {
            // It was connected, and is broken by now; bytes from before are forwarded.
            Err(errno @ (Errno::CONNRESET | Errno::PIPE)) => {
                self.established(token, remote, address, flags, Some(errno));
            }
            // A socket can connect to itself, if no socket listens on the port and it is in the
            // range of ephemeral ports.
            Ok(local) if local == address => {
                attempt.refused(address, Errno::CONNREFUSED);
                socket::reset(remote);
                self.advance(token);
            }
            Ok(_) => self.established(token, remote, address, flags, None),
            Err(errno) => {
                attempt.refused(address, errno);
                drop(remote);
                self.advance(token);
            }
        }
    }

    fn established(
        &mut self,
        token: Token,
        remote: OwnedFd,
        address: SocketAddr,
        flags: EventFlags,
        broken: Option<Errno>,
    ) {
        let clock = self.clock();
        let config = &self.shared.config;
        let (ends, greets) = (config.report_ends, config.send_proxy);
        let Some(connection) = self.connections.get_mut(token.index as usize) else { return };
        let Some(attempt) = connection.attempt.as_deref() else { return };
        let client = attempt.client;
        let greeting = if greets && broken.is_none() {
            greet(connection.client(), client, &remote)
        } else {
            Ok(())
        };
        if let Err(errno) = greeting {
            let error = ConnectError::Refused { address, error: errno.into() };
            socket::reset(remote);
            return self.fail(token, error);
        }
        if ends {
            connection.names = Some(Box::new(Names { client, remote: address }));
        }
        connection.counters = self.shared.clients.as_ref().map(|of| of.connect(client.ip()));
        connection.establish(remote, broken);
        connection.notice(Side::Remote, flags);
        connection.active = clock;
        self.attempts -= 1;
        self.turn(token);
    }

    /// An address, the resolver or a free descriptor has not come in time.
    pub(super) fn connect_timed_out(&mut self, token: Token) {
        let clock = self.clock();
        let Some(connection) = self.get(token) else { return };
        connection.active = clock;
        let Some(attempt) = connection.attempt.as_deref_mut() else { return };
        match mem::replace(&mut attempt.step, Step::Resolving) {
            Step::Connecting(remote, address) => {
                drop(remote);
                attempt.refused(address, Errno::TIMEDOUT);
                self.advance(token);
            }
            Step::Resolving => {
                let host = self.shared.config.host.clone();
                let error = "no answer in time".to_owned();
                self.fail(token, ConnectError::Unresolved { host, error });
            }
            // The connections that hold descriptors may wait for this one: pipes that lead to each
            // other do.
            Step::Starved => self.fail(token, ConnectError::Starved),
        }
    }

    /// Lets a connection wait until a descriptor for its remote is free.
    fn starve(&mut self, token: Token, errno: Errno) {
        self.shared.report(super::Event::Starved(errno.into()));
        self.resources.pool.shrink();
        self.starved.push_back(token);
        self.shared.starve();
        self.retry = Some(self.resources.now + PAUSE);
        self.pause();
    }

    /// Tries again the connections that waited for a descriptor.
    pub(super) fn retry_starved(&mut self) {
        for _ in 0..self.starved.len() {
            let Some(token) = self.starved.pop_front() else { return };
            let before = self.starved.len();
            self.advance(token);
            // After the try: a client that still waits stays in the count all the time.
            self.shared.feed(1);
            if self.starved.len() > before {
                // Still none: the next one won't find any either. It was first and stays so.
                self.starved.rotate_right(1);
                return;
            }
        }
    }
}

/// Whether this address is the pipe's own; the last result is used for a while.
fn leads_here(
    known: &mut Option<(SocketAddr, Instant, bool)>,
    address: SocketAddr,
    listening: SocketAddr,
    now: Instant,
) -> bool {
    if address.port() != listening.port() {
        return false;
    }
    if let Some((of, at, here)) = *known
        && of == address
        && now.saturating_duration_since(at) < Duration::from_secs(1)
    {
        return here;
    }
    // If there is no route, connecting reports it.
    let here =
        socket::source(address).is_ok_and(|source| socket::leads_to(source, address, listening));
    *known = Some((address, now, here));
    here
}

/// Sends the PROXY header to the remote. A new socket takes so few bytes at once.
fn greet(socket: &OwnedFd, client: SocketAddr, remote: &OwnedFd) -> Result<(), Errno> {
    let header = proxy::header(client, socket::local(socket)?);
    let bytes = header.as_bytes();
    let sent = send(remote, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::NOBUFS) }
}
