//! One direction of a connection: moves bytes from one socket to the other.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::counters::{Counters, Way};
use super::kernel_pipe::{KernelPipe, Pool};
use super::shape::Shaper;

/// The shared buffer of a worker, in bytes.
const BUFFER: usize = 64 << 10;

/// A read of this many bytes means that more will come: from then on bytes are spliced, not copied.
const BULK: usize = 16 << 10;

/// Maximum number of bytes that one direction moves in a turn.
const TURN: usize = 1 << 20;

/// Resources of a worker that all its connections share.
#[derive(Debug)]
pub(super) struct Resources {
    buffer: Box<[u8]>,
    pub(super) pool: Pool,
    pub(super) counters: Arc<Counters>,
    /// The counters of the current connection's client, instead of the worker's.
    pub(super) client: Option<Arc<Counters>>,
    pub(super) shaper: Arc<Shaper>,
    /// The worker's index.
    number: usize,
    /// Number of connections of this worker that wait for the shaper, by [`Way`].
    pub(super) waiting: [usize; 2],
    /// The direction for which the current connection was called from the queue, until it is
    /// granted something.
    pub(super) called: Option<Way>,
    /// The directions in which the current connection has to join the queue.
    pub(super) joins: [bool; 2],
    /// Time of this round of the worker's loop.
    pub(super) now: Instant,
}

impl Resources {
    pub(super) fn new(
        counters: Arc<Counters>,
        shaper: Arc<Shaper>,
        number: usize,
        now: Instant,
    ) -> Resources {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Resources {
            buffer,
            pool: Pool::default(),
            counters,
            client: None,
            shaper,
            number,
            waiting: [0; 2],
            called: None,
            joins: [false; 2],
            now,
        }
    }
}

/// A socket and its readiness. The kernel reports only changes (edge-triggered), so readiness holds
/// until a call shows otherwise.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// Whether a read may return something.
    pub(super) readable: bool,
    /// Whether a write may succeed.
    pub(super) writable: bool,
    /// Whether the stream's end or an error will follow: a short read is not the last one.
    pub(super) ending: bool,
    /// Whether the kernel has reported an error.
    pub(super) failed: bool,
    /// The permanent error of a call. The kernel reports an error once; later calls report the end
    /// of the stream, which is wrong.
    pub(super) broken: Option<Errno>,
    /// Whether urgent data has come: splice(2) stops before it silently, and a read stops there
    /// too.
    pub(super) urgent: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Socket {
        Socket {
            fd,
            readable: false,
            writable: false,
            ending: false,
            failed: false,
            broken: None,
            urgent: false,
        }
    }

    fn breaks(&mut self, errno: Errno) -> Turn {
        // The first error is the reason; later ones follow from it.
        self.broken.get_or_insert(errno);
        Turn::Broken
    }

    /// Takes an event of the socket.
    pub(super) fn notice(&mut self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        self.readable |= broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.writable |= broken || flags.contains(EventFlags::OUT);
        self.ending |= broken || flags.contains(EventFlags::RDHUP);
        self.failed |= flags.contains(EventFlags::ERR);
        self.urgent |= flags.contains(EventFlags::PRI);
    }
}

/// Bytes that were read and could not be written yet.
#[derive(Debug)]
enum Held {
    Nothing,
    Buffer(Box<Rest>),
    Pipe(Box<KernelPipe>),
}

/// A copy of the bytes that could not be written from the shared buffer.
#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    start: usize,
}

/// The state of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Open,
    /// The source has ended.
    Ended,
    /// The end was passed on to the sink.
    Closed,
}

/// The side that broke.
enum Broke {
    Source(Errno),
    Sink(Errno),
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Waits until one of the sockets is ready.
    Blocked,
    /// There may be more to do, after the turns of others.
    Again,
    /// Waits for the shaper.
    Parked,
    /// The stream's end has been passed on.
    Closed,
    /// One of the sockets is broken.
    Broken,
}

#[derive(Debug)]
pub(super) struct Direction {
    held: Held,
    stream: Stream,
    bulk: bool,
    way: Way,
    /// Whether it waits in the queue for the shaper.
    queued: bool,
    /// Bytes that the sink has taken.
    pub(super) bytes: u64,
}

impl Direction {
    pub(super) fn new(way: Way) -> Direction {
        Direction {
            held: Held::Nothing,
            stream: Stream::Open,
            bulk: false,
            way,
            queued: false,
            bytes: 0,
        }
    }

    /// Whether the stream's end has been passed on.
    pub(super) fn is_closed(&self) -> bool {
        self.stream == Stream::Closed
    }

    /// Moves bytes until none move any more.
    pub(super) fn turn(
        &mut self,
        source: &mut Socket,
        sink: &mut Socket,
        resources: &mut Resources,
    ) -> Turn {
        let enough = self.bytes + TURN as u64;
        let mut spliced = 0;
        loop {
            match self.flush(sink, resources) {
                Ok(()) => {}
                Err(Errno::AGAIN) => return Turn::Blocked,
                Err(errno) => return sink.breaks(errno),
            }
            match self.stream {
                Stream::Open if !source.readable || !sink.writable => return Turn::Blocked,
                Stream::Open if self.bytes >= enough => return Turn::Again,
                Stream::Open => {}
                Stream::Ended => {
                    self.stream = Stream::Closed;
                    return match shutdown(&sink.fd, Shutdown::Write) {
                        Ok(()) => Turn::Closed,
                        Err(errno) => sink.breaks(errno),
                    };
                }
                Stream::Closed => return Turn::Closed,
            }
            // Without a limit a kernel pipe takes what it can.
            let shaped = resources.shaper.is_on();
            let limit = if shaped { self.ask(resources) } else { usize::MAX };
            if limit == 0 {
                self.queue(resources);
                return Turn::Parked;
            }
            let moved = self.fill(source, sink, limit, &mut spliced, resources);
            if shaped {
                let moved = moved.as_ref().map_or(0, |moved| *moved);
                resources.shaper.give_back(self.way, resources.number, limit.saturating_sub(moved));
            }
            match moved {
                Ok(0) if source.broken.is_some() => return Turn::Broken,
                Ok(0) => self.stream = Stream::Ended,
                Ok(_) | Err(Broke::Source(Errno::INTR)) => {}
                Err(Broke::Source(Errno::AGAIN)) => {
                    source.readable = false;
                    return Turn::Blocked;
                }
                Err(Broke::Source(errno)) => return source.breaks(errno),
                Err(Broke::Sink(errno)) => return sink.breaks(errno),
            }
        }
    }

    /// Bytes that the shaper grants: none while other connections of this worker have waited
    /// longer.
    fn ask(&self, resources: &mut Resources) -> usize {
        let called = resources.called == Some(self.way);
        let waiting = resources.waiting[self.way as usize];
        if self.queued || (waiting > 0 && !called) {
            return 0;
        }
        let shaper = &resources.shaper;
        let granted = shaper.take(self.way, resources.number, BUFFER, waiting + 1, resources.now);
        if granted > 0 && called {
            // Its turn is over; for more it goes to the end of the queue, unless it is alone.
            resources.called = None;
        }
        granted
    }

    /// Starts to wait for the shaper.
    fn queue(&mut self, resources: &mut Resources) {
        if !self.queued {
            self.queued = true;
            resources.waiting[self.way as usize] += 1;
            resources.joins[self.way as usize] = true;
        }
    }

    /// Stops waiting for the shaper.
    pub(super) fn unqueue(&mut self, resources: &mut Resources) {
        if std::mem::take(&mut self.queued) {
            resources.waiting[self.way as usize] -= 1;
        }
    }

    /// Whether it waits for the shaper.
    pub(super) fn is_queued(&self) -> bool {
        self.queued
    }

    /// Reads once, and writes bytes that are not spliced as far as the sink takes them. Returns the
    /// bytes read, 0 at the stream's end. `spliced` are the bytes that this turn has spliced so
    /// far.
    fn fill(
        &mut self,
        source: &mut Socket,
        sink: &mut Socket,
        limit: usize,
        spliced: &mut usize,
        resources: &mut Resources,
    ) -> Result<usize, Broke> {
        if self.bulk
            && !source.urgent
            && let Some(mut pipe) = resources.pool.borrow()
        {
            match pipe.fill(&source.fd, limit) {
                Ok(moved @ 1..) => {
                    *spliced += moved;
                    self.held = Held::Pipe(pipe);
                    return Ok(moved);
                }
                Err(Errno::AGAIN) if *spliced > 0 => {
                    resources.pool.give_back(pipe);
                    self.bulk = *spliced >= BULK;
                    return Err(Broke::Source(Errno::AGAIN));
                }
                // Nothing there, the end, or something that can't be spliced: a read shows which.
                Ok(0) | Err(Errno::AGAIN | Errno::INTR | Errno::INVAL) => {
                    resources.pool.give_back(pipe);
                }
                // A read would not report it again.
                Err(errno) => {
                    resources.pool.give_back(pipe);
                    return Err(Broke::Source(errno));
                }
            }
            self.bulk = false;
        }
        let limit = limit.min(resources.buffer.len());
        let (got, _) = recv(&source.fd, &mut resources.buffer[..limit], RecvFlags::DONTWAIT)
            .map_err(Broke::Source)?;
        if got == 0 {
            return Ok(0);
        }
        if got < limit && !source.ending && !source.urgent {
            // The socket was empty then; the kernel reports a change.
            source.readable = false;
        }
        self.bulk = got >= BULK;
        let bytes = &resources.buffer[..got];
        let sent = match send(&sink.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            // The next flush finds it again.
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(Broke::Sink(errno)),
        };
        if sent < got {
            self.held = Held::Buffer(Box::new(Rest { bytes: bytes[sent..].into(), start: 0 }));
        }
        self.count(sent, resources);
        Ok(got)
    }

    /// Writes the bytes that are held.
    fn flush(&mut self, sink: &mut Socket, resources: &mut Resources) -> Result<(), Errno> {
        loop {
            let (sent, left) = match &mut self.held {
                Held::Nothing => return Ok(()),
                _ if !sink.writable => return Err(Errno::AGAIN),
                Held::Buffer(rest) => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    let sent = send(&sink.fd, &rest.bytes[rest.start..], flags);
                    rest.start += sent.unwrap_or(0);
                    (sent, rest.bytes.len() - rest.start)
                }
                Held::Pipe(pipe) => (pipe.drain(&sink.fd), pipe.held()),
            };
            match sent {
                Ok(sent) => self.count(sent, resources),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    sink.writable = false;
                    return Err(Errno::AGAIN);
                }
                Err(errno) => return Err(errno),
            }
            if left == 0 {
                self.let_go(resources);
            }
        }
    }

    fn count(&mut self, bytes: usize, resources: &Resources) {
        self.bytes += bytes as u64;
        resources.client.as_ref().unwrap_or(&resources.counters).add(self.way, bytes);
    }

    /// Returns the borrowed kernel pipe, together with its bytes.
    pub(super) fn let_go(&mut self, resources: &mut Resources) {
        if let Held::Pipe(pipe) = std::mem::replace(&mut self.held, Held::Nothing) {
            resources.pool.give_back(pipe);
        }
    }
}
