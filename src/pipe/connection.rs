//! A forwarded connection, from its acceptance to its end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;

use super::counters::{Counters, Way};
use super::direction::{Direction, Resources, Socket, Turn};
use super::event::{ConnectError, End, Side};
use super::socket::reset;
use crate::model::traffic::Traffic;

/// A client, and its connection to the remote or the attempt to make one.
///
/// It is small: an idle connection costs this and two descriptors. Parts that only some connections
/// need are boxed.
#[derive(Debug)]
pub(super) struct Connection {
    client: Socket,
    /// `None` while connecting.
    link: Option<Link>,
    /// `Some` while connecting.
    pub(super) attempt: Option<Box<Attempt>>,
    /// The addresses of both ends, if ends are reported.
    pub(super) names: Option<Box<Names>>,
    /// The counters of its client, if clients are counted one by one.
    pub(super) counters: Option<Arc<Counters>>,
    pub(super) accepted: Instant,
    /// Time of the last moved byte, or of the last progress of the attempt: milliseconds since the
    /// worker's start, in 32 bits.
    pub(super) active: u32,
    /// Distinguishes this connection from earlier ones with the same index.
    pub(super) generation: u32,
    /// Whether it waits for its next turn.
    pub(super) ready: bool,
}

#[derive(Debug)]
struct Link {
    remote: Socket,
    up: Direction,
    down: Direction,
}

/// The addresses of both ends.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) client: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// An attempt to connect to the remote.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) client: SocketAddr,
    pub(super) step: Step,
    /// All addresses of the host, once it is resolved.
    pub(super) addresses: Option<Arc<[SocketAddr]>>,
    /// The index of the address to try next.
    pub(super) next: usize,
    /// The error of the last address.
    pub(super) error: Option<ConnectError>,
}

/// The step of an attempt.
#[derive(Debug)]
pub(super) enum Step {
    /// Waits for the addresses of the host.
    Resolving,
    /// Waits until this socket is connected.
    Connecting(OwnedFd, SocketAddr),
    /// Waits for a descriptor.
    Starved,
}

/// The state of a connection after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for its sockets, or for the shaper.
    Waiting,
    /// It has more to do.
    Again,
    /// It has ended.
    Over(End),
}

impl Connection {
    pub(super) fn new(client: OwnedFd, from: SocketAddr, accepted: Instant) -> Connection {
        Connection {
            client: Socket::new(client),
            link: None,
            attempt: Some(Box::new(Attempt {
                client: from,
                step: Step::Resolving,
                addresses: None,
                next: 0,
                error: None,
            })),
            names: None,
            counters: None,
            accepted,
            active: 0,
            generation: 0,
            ready: false,
        }
    }

    pub(super) fn client(&self) -> &OwnedFd {
        &self.client.fd
    }

    /// Takes an event of one of the sockets.
    pub(super) fn notice(&mut self, side: Side, flags: EventFlags) {
        match (side, &mut self.link) {
            (Side::Client, _) => self.client.notice(flags),
            (Side::Remote, Some(link)) => link.remote.notice(flags),
            // The attempt itself handles the socket until it is connected.
            (Side::Remote, None) => {}
        }
    }

    /// The remote has answered: forwards from now on. The connection may be `broken` already.
    pub(super) fn establish(&mut self, remote: OwnedFd, broken: Option<Errno>) {
        // A new socket takes bytes; the kernel reports whether there are any to read.
        self.client.writable = true;
        let mut remote = Socket::new(remote);
        remote.writable = true;
        remote.broken = broken;
        self.attempt = None;
        self.link =
            Some(Link { remote, up: Direction::new(Way::Up), down: Direction::new(Way::Down) });
    }

    /// Whether the client has left before the remote has answered.
    pub(super) fn is_abandoned(&self) -> bool {
        self.client.failed
    }

    /// Received: bytes that the remote took. Sent: bytes that the client took.
    pub(super) fn traffic(&self) -> Traffic {
        match &self.link {
            Some(link) => Traffic::new(link.up.bytes, link.down.bytes),
            None => Traffic::ZERO,
        }
    }

    /// Forwards in both directions.
    pub(super) fn turn(&mut self, resources: &mut Resources) -> Progress {
        std::mem::swap(&mut self.counters, &mut resources.client);
        let progress = self.forward(resources);
        std::mem::swap(&mut self.counters, &mut resources.client);
        progress
    }

    fn forward(&mut self, resources: &mut Resources) -> Progress {
        let Some(Link { remote, up, down }) = &mut self.link else { return Progress::Waiting };
        let client = &mut self.client;
        let ups = up.turn(client, remote, resources);
        let downs = down.turn(remote, client, resources);
        for socket in [&mut *client, remote] {
            // The kernel reported an error, but no call did: nothing could be read or written.
            if std::mem::take(&mut socket.failed)
                && socket.broken.is_none()
                && let Err(errno) = socket_error(&socket.fd).and_then(|error| error)
            {
                socket.broken = Some(errno);
            }
        }
        // Bytes that the broken side had sent before can still be read. They are forwarded first,
        // as far as the other side takes them without a wait: it would have received them without a
        // pipe in between.
        if let Some(errno) = client.broken {
            while up.turn(client, remote, resources) == Turn::Again {}
            return Progress::Over(broken(Side::Client, errno));
        }
        if let Some(errno) = remote.broken {
            while down.turn(remote, client, resources) == Turn::Again {}
            return Progress::Over(broken(Side::Remote, errno));
        }
        if up.is_closed() && down.is_closed() {
            return Progress::Over(End::Closed);
        }
        if ups == Turn::Again || downs == Turn::Again { Progress::Again } else { Progress::Waiting }
    }

    /// Gives one direction its turn with the shaper.
    pub(super) fn call(&mut self, way: Way, resources: &mut Resources) {
        if let Some(Link { up, down, .. }) = &mut self.link {
            let direction = if way == Way::Up { up } else { down };
            direction.unqueue(resources);
            resources.called = Some(way);
        }
    }

    /// Whether it waits for the shaper in any direction.
    pub(super) fn is_queued(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.up.is_queued() || link.down.is_queued())
    }

    /// Closes both sides: in order if both have closed, or else by resets.
    pub(super) fn close(self, end: End, resources: &mut Resources) {
        let Connection { client, link, attempt, .. } = self;
        let remote = match (link, attempt.map(|attempt| attempt.step)) {
            (Some(Link { remote, mut up, mut down }), _) => {
                for direction in [&mut up, &mut down] {
                    direction.let_go(resources);
                    direction.unqueue(resources);
                }
                Some(remote.fd)
            }
            (None, Some(Step::Connecting(socket, _))) => Some(socket),
            _ => None,
        };
        if end != End::Closed {
            reset(client.fd);
            if let Some(remote) = remote {
                reset(remote);
            }
        }
    }
}

/// The end of a connection of which one side broke.
fn broken(side: Side, errno: Errno) -> End {
    match errno {
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN => End::Reset(side),
        _ => End::Lost(side),
    }
}

impl Attempt {
    /// The failure when no address is left.
    pub(super) fn failure(&mut self) -> ConnectError {
        self.error.take().unwrap_or(ConnectError::Abandoned)
    }

    /// Remembers the error of an address.
    pub(super) fn refused(&mut self, address: SocketAddr, errno: Errno) {
        self.error = Some(ConnectError::Refused { address, error: io::Error::from(errno) });
    }
}
