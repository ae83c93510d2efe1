//! Accepting clients, and pausing that.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::{LISTENER, PAUSE, Worker};
use crate::pipe::event::{ConnectError, Event, Failed};
use crate::pipe::shared::{Mailbox, Mode};
use crate::pipe::socket;

/// Maximum number of clients accepted in a row.
const ACCEPTS: usize = 64;

impl Worker {
    /// Accepts the clients in the backlog.
    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listener.clone().filter(|_| !self.paused) else {
                return;
            };
            // Clients that come after the pipe was closed belong to its successor.
            if self.shared.mode() != Mode::Running {
                return;
            }
            if self.shared.is_starved() {
                return self.pause();
            }
            if !self.shared.reserve() {
                if self.shared.is_scarce() {
                    self.shared.report(Event::Starved(Errno::MFILE.into()));
                    self.turn_away(&listener);
                }
                self.pause();
                // A connection that ended meanwhile may have missed that a client waits.
                if self.shared.has_room() {
                    self.resume();
                }
                return;
            }
            match socket::accept(&listener) {
                Ok((client, from)) => {
                    self.shared.let_in();
                    self.assign(client, from);
                }
                Err(errno) => {
                    self.shared.unreserve();
                    match errno {
                        Errno::AGAIN => return,
                        // An error of the waiting connection, see accept(2); there may be others.
                        Errno::INTR
                        | Errno::CONNABORTED
                        | Errno::CONNRESET
                        | Errno::TIMEDOUT
                        | Errno::PROTO
                        | Errno::PERM
                        | Errno::NETDOWN
                        | Errno::NOPROTOOPT
                        | Errno::HOSTDOWN
                        | Errno::NONET
                        | Errno::HOSTUNREACH
                        | Errno::OPNOTSUPP
                        | Errno::NETUNREACH => {}
                        _ => {
                            self.shared.report(Event::Starved(errno.into()));
                            self.resources.pool.shrink();
                            return self.pause();
                        }
                    }
                }
            }
        }
    }

    /// Resets the client that has waited longest, if no client was accepted for the connect timeout.
    /// A pipe may be full of connections that wait for this client: two pipes that lead to each
    /// other would wait for ever.
    fn turn_away(&self, listener: &OwnedFd) {
        if self.shared.turn_away(self.resources.now) < self.shared.config.connect_timeout {
            return;
        }
        // Without a slot, but only for a moment: one descriptor is spare.
        if let Ok((client, from)) = socket::accept(listener) {
            self.shared.let_in();
            let error = ConnectError::Starved;
            self.shared.report(Event::Failed(Failed { client: from, error }));
            socket::reset(client);
        }
    }

    /// Gives a client to the worker with the fewest connections.
    fn assign(&mut self, client: OwnedFd, from: SocketAddr) {
        let mailboxes = &self.shared.mailboxes;
        let own = self.mailbox().load();
        let (idlest, least) = mailboxes
            .iter()
            .map(Mailbox::load)
            .enumerate()
            .min_by_key(|(_, load)| *load)
            .unwrap_or((self.number, own));
        // A hand-over costs a switch of threads, so a small difference is ignored.
        let kept =
            if least < own - own / 8 { mailboxes[idlest].give(client, from) } else { Some(client) };
        if let Some(client) = kept {
            self.mailbox().take_up();
            self.begin(client, from);
        }
    }

    /// Stops accepting for a while.
    pub(super) fn pause(&mut self) {
        let Some(listener) = self.listener.clone().filter(|_| !self.paused) else {
            return;
        };
        self.shared.pause();
        self.paused = true;
        self.retry = Some(self.resources.now + PAUSE);
        let _ = epoll::delete(&self.epoll, &listener);
    }

    /// Accepts again.
    pub(super) fn resume(&mut self) {
        self.retry = None;
        self.retry_starved();
        if let Some(listener) = &self.listener
            && self.paused
            && !self.shared.is_starved()
            && watch(&self.epoll, listener).is_ok()
        {
            self.paused = false;
            self.shared.resume();
        }
        if self.paused || !self.starved.is_empty() {
            self.retry = Some(self.resources.now + PAUSE);
        }
    }

    /// Stops accepting for good.
    pub(super) fn stop_accepting(&mut self) {
        if let Some(listener) = self.listener.take() {
            if std::mem::take(&mut self.paused) {
                self.shared.resume();
            } else {
                let _ = epoll::delete(&self.epoll, &listener);
            }
            drop(listener);
            self.shared.wake_successors();
        }
    }
}

/// Adds the listener to the epoll.
pub(super) fn watch(epoll: &OwnedFd, listener: &OwnedFd) -> Result<(), Errno> {
    // Exclusive: a client wakes one worker, not all.
    epoll::add(
        epoll,
        listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN | EventFlags::EXCLUSIVE,
    )
}
