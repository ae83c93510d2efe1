//! A forwarded connection, from its acceptance to its end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;

use super::counters::Way;
use super::direction::{Direction, Resources, Socket, Turn};
use super::event::{ConnectError, End, Side};
use super::socket::reset;
use crate::model::traffic::Traffic;

/// A client, and the way to the remote or a part of it.
///
/// Small: this is what an idle connection costs beside its two descriptors. What only some need is
/// in a box.
#[derive(Debug)]
pub(super) struct Connection {
    client: Socket,
    /// `None` while connecting.
    link: Option<Link>,
    /// `Some` while connecting.
    pub(super) attempt: Option<Box<Attempt>>,
    /// Who talks to whom, where ends are reported.
    pub(super) names: Option<Box<Names>>,
    pub(super) accepted: Instant,
    /// When bytes last moved, or the connecting made progress: milliseconds since the worker's
    /// start, as far as 32 bits go.
    pub(super) active: u32,
    /// Tells this connection from those that had its place before.
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

/// The two ends.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) client: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A connection on its way to the remote.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) client: SocketAddr,
    pub(super) step: Step,
    /// All of the host's, once it is resolved.
    pub(super) addresses: Option<Arc<[SocketAddr]>>,
    /// The place of the address that is tried next.
    pub(super) next: usize,
    /// What the last address said.
    pub(super) error: Option<ConnectError>,
}

/// What an attempt waits for.
#[derive(Debug)]
pub(super) enum Step {
    /// The host's addresses.
    Resolving,
    /// This socket to be connected.
    Connecting(OwnedFd, SocketAddr),
    /// A descriptor for a socket.
    Starved,
}

/// What became of a connection in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for its sockets, or for the shaper.
    Waiting,
    /// It has more to do.
    Again,
    /// It is over.
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
            accepted,
            active: 0,
            generation: 0,
            ready: false,
        }
    }

    pub(super) fn client(&self) -> &OwnedFd {
        &self.client.fd
    }

    /// Takes notice of what the kernel says of one of the sockets.
    pub(super) fn notice(&mut self, side: Side, flags: EventFlags) {
        match (side, &mut self.link) {
            (Side::Client, _) => self.client.notice(flags),
            (Side::Remote, Some(link)) => link.remote.notice(flags),
            // Not yet a socket of ours: the attempt looks itself.
            (Side::Remote, None) => {}
        }
    }

    /// The remote has answered: from now on bytes are forwarded. It may be `broken` already.
    pub(super) fn establish(&mut self, remote: OwnedFd, broken: Option<Errno>) {
        // A new socket takes bytes; whether there are any to read, the kernel tells.
        self.client.writable = true;
        let mut remote = Socket::new(remote);
        remote.writable = true;
        remote.broken = broken;
        self.attempt = None;
        self.link =
            Some(Link { remote, up: Direction::new(Way::Up), down: Direction::new(Way::Down) });
    }

    /// Whether the client is gone while nobody has answered yet.
    pub(super) fn is_abandoned(&self) -> bool {
        self.client.failed
    }

    /// Received: what the remote took. Sent: what the client took.
    pub(super) fn traffic(&self) -> Traffic {
        match &self.link {
            Some(link) => Traffic::new(link.up.bytes, link.down.bytes),
            None => Traffic::ZERO,
        }
    }

    /// Forwards what there is to forward, both ways.
    pub(super) fn turn(&mut self, resources: &mut Resources) -> Progress {
        let Some(Link { remote, up, down }) = &mut self.link else { return Progress::Waiting };
        let client = &mut self.client;
        let ups = up.turn(client, remote, resources);
        let downs = down.turn(remote, client, resources);
        for socket in [&mut *client, remote] {
            // Told by the kernel, but not by a call: nothing could be read or written.
            if std::mem::take(&mut socket.failed)
                && socket.broken.is_none()
                && let Err(errno) = socket_error(&socket.fd).and_then(|error| error)
            {
                socket.broken = Some(errno);
            }
        }
        // What the side that broke had sent before is still there to be read, and goes first, as
        // far as the other side takes it without being waited for: it would have got it without a
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

    /// Its turn with the shaper has come, this way.
    pub(super) fn call(&mut self, way: Way, resources: &mut Resources) {
        if let Some(Link { up, down, .. }) = &mut self.link {
            let direction = if way == Way::Up { up } else { down };
            direction.unqueue(resources);
            resources.called = Some(way);
        }
    }

    /// Whether it waits for the shaper, either way.
    pub(super) fn is_queued(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.up.is_queued() || link.down.is_queued())
    }

    /// Closes both sides: as they did it themselves, or else by resets.
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

/// How a connection ended one side of which broke.
fn broken(side: Side, errno: Errno) -> End {
    match errno {
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN => End::Reset(side),
        _ => End::Lost(side),
    }
}

impl Attempt {
    /// Why it failed, when there is no address left.
    pub(super) fn failure(&mut self) -> ConnectError {
        self.error.take().unwrap_or(ConnectError::Abandoned)
    }

    /// Remembers what an address said.
    pub(super) fn refused(&mut self, address: SocketAddr, errno: Errno) {
        self.error = Some(ConnectError::Refused { address, error: io::Error::from(errno) });
    }
}
