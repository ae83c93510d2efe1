//! One direction of a connection: bytes from one socket into the other, and what is in between.

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

/// Who reads this much at once has more to come: from here on bytes are spliced, not copied.
const BULK: usize = 16 << 10;

/// How much one direction may move before the worker looks after others.
const TURN: usize = 1 << 20;

/// What a worker has for all of its connections.
#[derive(Debug)]
pub(super) struct Resources {
    buffer: Box<[u8]>,
    pub(super) pool: Pool,
    pub(super) counters: Arc<Counters>,
    pub(super) shaper: Arc<Shaper>,
    /// The worker's number.
    number: usize,
    /// How many connections of this worker wait for the shaper, by [`Way`].
    pub(super) waiting: [usize; 2],
    /// Which way the connection whose turn it is was called from the queue, until it is granted
    /// something.
    pub(super) called: Option<Way>,
    /// Which ways the connection whose turn it is has to join the queue.
    pub(super) joins: [bool; 2],
    /// The time of this round of the worker's loop.
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
            shaper,
            number,
            waiting: [0; 2],
            called: None,
            joins: [false; 2],
            now,
        }
    }
}

/// A socket and what is known of its readiness. The kernel tells changes only (edge-triggered), so
/// what it once said holds until a call says otherwise.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    /// A read may bring something.
    pub(super) readable: bool,
    /// A write may be taken.
    pub(super) writable: bool,
    /// The stream's end or an error is on its way: a short read is not the last one.
    pub(super) ending: bool,
    /// The kernel has an error to tell.
    pub(super) failed: bool,
    /// What a call said that can't be mended. The kernel tells an error once, and from then on that
    /// the stream has ended, which it has not.
    pub(super) broken: Option<Errno>,
    /// Urgent data has come: splice(2) stops before it without a word, and a read stops there too.
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
        // The first one is the reason; later ones follow from it.
        self.broken.get_or_insert(errno);
        Turn::Broken
    }

    /// Takes notice of what the kernel says.
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

/// A copy of what the shared buffer could not get rid of.
#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    start: usize,
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Open,
    /// The source has ended.
    Ended,
    /// The other side has been told.
    Closed,
}

/// Whose fault it is.
enum Broke {
    Source(Errno),
    Sink(Errno),
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// One of the sockets has to become ready first.
    Blocked,
    /// There may be more to do, but others want a turn.
    Again,
    /// The shaper grants nothing for now.
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

    /// Moves bytes until nothing moves any more.
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
            // Without a limit a pipe takes what it can.
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

    /// How much the shaper grants: nothing while others of this worker have waited longer.
    fn ask(&self, resources: &mut Resources) -> usize {
        let called = resources.called == Some(self.way);
        let waiting = resources.waiting[self.way as usize];
        if self.queued || (waiting > 0 && !called) {
            return 0;
        }
        let shaper = &resources.shaper;
        let granted = shaper.take(self.way, resources.number, BUFFER, waiting + 1, resources.now);
        if granted > 0 && called {
            // Its turn is over; for more it goes to the end, unless it is alone.
            resources.called = None;
        }
        granted
    }

    /// Waits for the shaper from now on.
    fn queue(&mut self, resources: &mut Resources) {
        if !self.queued {
            self.queued = true;
            resources.waiting[self.way as usize] += 1;
            resources.joins[self.way as usize] = true;
        }
    }

    /// Waits for the shaper no longer.
    pub(super) fn unqueue(&mut self, resources: &mut Resources) {
        if std::mem::take(&mut self.queued) {
            resources.waiting[self.way as usize] -= 1;
        }
    }

    /// Whether it waits for the shaper.
    pub(super) fn is_queued(&self) -> bool {
        self.queued
    }

    /// Reads once, and writes what is not spliced as far as the sink takes it; bytes read, 0 at the
    /// stream's end. `spliced` is what this turn has spliced so far.
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
                // Nothing there, the end, or what can't be spliced: a read tells.
                Ok(0) | Err(Errno::AGAIN | Errno::INTR | Errno::INVAL) => {
                    resources.pool.give_back(pipe);
                }
                // A read would not tell it again.
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
            // The socket was empty then; the kernel tells when it isn't any more.
            source.readable = false;
        }
        self.bulk = got >= BULK;
        let bytes = &resources.buffer[..got];
        let sent = match send(&sink.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            // The next flush finds it out again.
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(Broke::Sink(errno)),
        };
        if sent < got {
            self.held = Held::Buffer(Box::new(Rest { bytes: bytes[sent..].into(), start: 0 }));
        }
        self.count(sent, resources);
        Ok(got)
    }

    /// Writes what is held.
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
        resources.counters.add(self.way, bytes);
    }

    /// Gives back what is borrowed, with what it holds.
    pub(super) fn let_go(&mut self, resources: &mut Resources) {
        if let Held::Pipe(pipe) = std::mem::replace(&mut self.held, Held::Nothing) {
            resources.pool.give_back(pipe);
        }
    }
}
