//! A worker: one thread, one readiness loop, many connections.

mod accepting;
mod connecting;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use super::connection::{Connection, Progress};
use super::counters::Way;
use super::direction::Resources;
use super::event::{ConnectError, End, Ended, Event, Failed, Side};
use super::queue::{Queue, Served};
use super::shape::TICK;
use super::shared::{Mailbox, Mode, Shared};
use super::socket;

/// Maximum number of events taken at once.
const EVENTS: usize = 256;

/// Maximum number of turns of the shaper's queue before events are taken again.
const TURNS: usize = 64;

/// How long accepting pauses if nothing announces a free descriptor: other processes of this host
/// may free one.
const PAUSE: Duration = Duration::from_millis(100);

/// Number of timeout checks within the shortest timeout.
const SWEEPS: u32 = 16;

const LISTENER: u64 = u64::MAX;
const WAKE_UP: u64 = u64::MAX - 1;

/// The events of a forwarded socket: changes, reported once.
const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

pub(super) struct Worker {
    shared: Arc<Shared>,
    number: usize,
    epoll: OwnedFd,
    /// `None` once no client is accepted any more.
    listener: Option<Arc<OwnedFd>>,
    /// Whether accepting pauses.
    paused: bool,
    /// Time at which operations without a free resource are tried again.
    retry: Option<Instant>,
    connections: Slab<Connection>,
    generation: u32,
    resources: Resources,
    start: Instant,
    /// Connections that have more to do after their turn.
    ready: VecDeque<Token>,
    /// Connections that wait for the shaper, by [`Way`].
    queues: [Queue<Token>; 2],
    /// The number of waiting connections that the shaper knows.
    told: [usize; 2],
    /// Whether the shaper may have tokens for waiting connections.
    hurries: bool,
    /// Connections that wait for the resolver.
    resolving: Vec<Token>,
    /// Connections that wait for a descriptor.
    starved: VecDeque<Token>,
    /// Number of connections that are not connected to the remote yet.
    attempts: usize,
    swept: Instant,
    /// Whether an address was found to be the pipe's own, and when.
    itself: Option<(SocketAddr, Instant, bool)>,
}

/// Identifies a connection: its index, and its generation there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    fn data(self, side: Side) -> EventData {
        // The generation has 31 bits.
        let side = matches!(side, Side::Remote) as u64;
        EventData::new_u64(u64::from(self.index) | u64::from(self.generation) << 32 | side << 63)
    }

    fn from_data(data: u64) -> (Token, Side) {
        let side = if data >> 63 == 0 { Side::Client } else { Side::Remote };
        // The lower half, and the upper one without its highest bit.
        let (index, generation) = (data as u32, (data >> 32) as u32 & (u32::MAX >> 1));
        (Token { index, generation }, side)
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: usize,
        listener: Arc<OwnedFd>,
    ) -> Result<Worker, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let now = Instant::now();
        let mailbox = &shared.mailboxes[number];
        epoll::add(&epoll, &mailbox.wake_up, EventData::new_u64(WAKE_UP), EventFlags::IN)?;
        accepting::watch(&epoll, &listener)?;
        let resources =
            Resources::new(mailbox.counters.clone(), shared.shaper.clone(), number, now);
        Ok(Worker {
            shared,
            number,
            epoll,
            listener: Some(listener),
            paused: false,
            retry: None,
            connections: Slab::new(),
            generation: 0,
            resources,
            start: now,
            ready: VecDeque::new(),
            queues: Default::default(),
            told: [0; 2],
            hurries: false,
            resolving: Vec::new(),
            starved: VecDeque::new(),
            attempts: 0,
            swept: now,
            itself: None,
        })
    }

    /// Runs until the pipe is stopped, or closed and without connections.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while self.goes_on() {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                // It fails only for an invalid epoll or invalid memory.
                Err(_) => break,
            }
            self.resources.now = Instant::now();
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKE_UP => self.answer(),
                    data => self.event(data, event.flags),
                }
            }
            self.go_on_with_ready();
            self.go_on_with_queued();
            self.tell_shaper();
            self.sweep();
            if self.retry.is_some_and(|at| at <= self.resources.now) {
                self.resume();
            }
        }
        self.shared.feed(std::mem::take(&mut self.starved).len());
        let left: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
        for index in left {
            self.end(index, End::Cut);
        }
        self.tell_shaper();
        // Clients that other workers accepted meanwhile.
        while !self.mailbox().shut() {
            for (client, _) in self.mailbox().collect() {
                socket::reset(client);
                self.mailbox().put_down();
                self.shared.release();
            }
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.shared.mailboxes[self.number]
    }

    fn goes_on(&mut self) -> bool {
        match self.shared.mode() {
            Mode::Running => true,
            Mode::Closing => {
                self.stop_accepting();
                !(self.connections.is_empty() && self.mailbox().shut())
            }
            Mode::Stopping => {
                self.stop_accepting();
                false
            }
        }
    }

    /// Time until something has to be done without an event.
    fn timeout(&self) -> Option<Timespec> {
        if !self.ready.is_empty() || self.hurries {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let now = Instant::now();
        let sweep = self.sweep_every().map(|every| self.swept + every);
        let tick =
            self.queues.iter().any(|queue| !queue.is_empty()).then(|| self.resources.now + TICK);
        let next = [sweep, tick, self.retry].into_iter().flatten().min()?;
        // One millisecond more than 0, for kernels that count in whole milliseconds.
        let left = next.saturating_duration_since(now).max(Duration::from_millis(1));
        Some(Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    fn get(&mut self, token: Token) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(token.index as usize)?;
        (connection.generation == token.generation).then_some(connection)
    }

    /// Milliseconds since the start, in 32 bits.
    fn clock(&self) -> u32 {
        self.resources.now.saturating_duration_since(self.start).as_millis() as u32
    }

    /// Handles a wake-up.
    fn answer(&mut self) {
        self.mailbox().answer();
        for (client, from) in self.mailbox().collect() {
            self.begin(client, from);
        }
        for token in std::mem::take(&mut self.resolving) {
            self.advance(token);
        }
        if self.retry.is_some() {
            self.resume();
        }
        if self.shared.is_successor {
            // A client may wait that woke a worker of the pipe before.
            self.accept();
        }
    }

    fn event(&mut self, data: u64, flags: EventFlags) {
        let (token, side) = Token::from_data(data);
        let Some(connection) = self.get(token) else { return };
        connection.notice(side, flags);
        if connection.ready {
            // Its turn comes.
        } else if connection.attempt.is_none() {
            self.turn(token);
        } else if connection.is_abandoned() {
            self.fail(token, ConnectError::Abandoned);
        } else if side == Side::Remote {
            self.connected(token, flags);
        }
    }

    fn turn(&mut self, token: Token) {
        self.forward(token);
        self.join(token);
    }

    /// Moves the bytes of a connection.
    fn forward(&mut self, token: Token) {
        let clock = self.clock();
        let index = token.index as usize;
        let Some(connection) = self.connections.get_mut(index) else { return };
        let before = connection.traffic();
        let progress = connection.turn(&mut self.resources);
        if connection.traffic() != before {
            connection.active = clock;
        }
        match progress {
            Progress::Waiting => {}
            Progress::Again => {
                if !std::mem::replace(&mut connection.ready, true) {
                    self.ready.push_back(token);
                }
            }
            Progress::Over(end) => self.end(index, end),
        }
    }

    fn go_on_with_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            if let Some(connection) = self.get(token) {
                connection.ready = false;
                self.turn(token);
            }
        }
    }

    /// Puts a connection that was granted too little at the end of the queue.
    fn join(&mut self, token: Token) {
        for way in Way::BOTH {
            if std::mem::take(&mut self.resources.joins[way as usize]) {
                self.queues[way as usize].join(token);
            }
        }
    }

    fn go_on_with_queued(&mut self) {
        self.hurries = false;
        for way in Way::BOTH {
            let mut queue = std::mem::take(&mut self.queues[way as usize]);
            self.hurries |= queue.pass(TURNS, |token| self.serve(token, way));
            self.queues[way as usize] = queue;
        }
    }

    /// Gives the first in the queue its turn.
    fn serve(&mut self, token: Token, way: Way) -> Served {
        let Some(connection) = self.connections.get_mut(token.index as usize) else {
            return Served::Enough;
        };
        if connection.generation != token.generation {
            return Served::Enough;
        }
        connection.call(way, &mut self.resources);
        self.forward(token);
        let refused = self.resources.called.take().is_some();
        let joins = std::mem::take(&mut self.resources.joins[way as usize]);
        // In the other direction it is served like all others.
        self.join(token);
        match (joins, refused) {
            (false, _) => Served::Enough,
            (true, false) => Served::Wants,
            (true, true) => Served::Refused,
        }
    }

    /// Updates the number of waiting connections in the shaper.
    fn tell_shaper(&mut self) {
        for way in Way::BOTH {
            let waiting = self.resources.waiting[way as usize];
            if self.told[way as usize] != waiting {
                self.told[way as usize] = waiting;
                self.shared.shaper.waits(way, self.number, waiting, self.resources.now);
            }
        }
    }

    /// Ends a connection; a client that was not forwarded yet is reset.
    fn end(&mut self, index: usize, end: End) {
        let Some(mut connection) = self.connections.try_remove(index) else { return };
        if connection.attempt.is_some() {
            self.attempts -= 1;
        }
        if let Some(names) = connection.names.take() {
            self.shared.report(Event::Ended(Ended {
                client: names.client,
                remote: names.remote,
                traffic: connection.traffic(),
                lasted: self.resources.now.saturating_duration_since(connection.accepted),
                end,
            }));
        }
        connection.close(end, &mut self.resources);
        self.mailbox().put_down();
        self.shared.release();
    }

    fn fail(&mut self, token: Token, error: ConnectError) {
        let Some(connection) = self.get(token) else { return };
        if let Some(attempt) = &connection.attempt {
            let client = attempt.client;
            self.shared.report(Event::Failed(Failed { client, error }));
        }
        self.end(token.index as usize, End::Cut);
    }

    /// Resets connections that have waited too long: for the remote, for a descriptor, or without a
    /// byte.
    fn sweep(&mut self) {
        let Some(every) = self.sweep_every() else { return };
        if self.resources.now < self.swept + every {
            return;
        }
        self.swept = self.resources.now;
        let clock = self.clock();
        let config = &self.shared.config;
        let connect = config.connect_timeout.as_millis();
        let idle = config.idle_timeout.map_or(u128::MAX, |idle| idle.as_millis());
        let late: Vec<Token> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let waited = u128::from(clock.wrapping_sub(connection.active));
                match connection.attempt {
                    Some(_) => waited >= connect,
                    // A connection that waits for the shaper is not idle.
                    None => waited >= idle && !connection.is_queued(),
                }
            })
            .map(|(index, connection)| Token {
                index: index as u32,
                generation: connection.generation,
            })
            .collect();
        for token in late {
            match self.get(token).map(|connection| connection.attempt.is_some()) {
                Some(true) => self.connect_timed_out(token),
                Some(false) => self.end(token.index as usize, End::Idle),
                None => {}
            }
        }
    }

    /// Interval of timeout checks, if there are any timeouts.
    fn sweep_every(&self) -> Option<Duration> {
        let config = &self.shared.config;
        let connect = (self.attempts > 0).then_some(config.connect_timeout);
        let idle = config.idle_timeout.filter(|_| !self.connections.is_empty());
        let shortest = connect.into_iter().chain(idle).min()?;
        Some((shortest / SWEEPS).clamp(Duration::from_millis(5), Duration::from_secs(1)))
    }
}
