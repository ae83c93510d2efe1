//! State that the threads of a pipe share.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::clients::Clients;
use super::config::Config;
use super::connection_slots::ConnectionSlots;
use super::counters::Counters;
use super::event::Event;
use super::resolve::Host;
use super::shape::Shaper;

/// The mode of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Accept and forward.
    Running = 0,
    /// Forward open connections, and end with the last.
    Closing = 1,
    /// End at once.
    Stopping = 2,
}

/// State that the threads of a pipe share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// The listening address.
    pub(super) address: SocketAddr,
    pub(super) host: Arc<Host>,
    pub(super) shaper: Arc<Shaper>,
    pub(super) mailboxes: Box<[Mailbox]>,
    /// The bytes of the clients, if they are counted one by one.
    pub(super) clients: Option<Clients>,
    /// Maximum number of open connections of this pipe.
    allowed: usize,
    /// The capacity by descriptors, shared with other pipes.
    slots: Arc<ConnectionSlots>,
    mode: AtomicU8,
    /// Connections that are open, or about to be accepted.
    open: AtomicUsize,
    /// Number of workers that have stopped accepting until a connection ends.
    paused: AtomicUsize,
    /// Number of accepted clients for whose remotes no descriptor is free.
    starved: AtomicUsize,
    start: Instant,
    /// Time since which the first client in the backlog waits for a slot: milliseconds since the
    /// start plus one; 0 if none waits.
    turned_away: AtomicU64,
    /// Whether another pipe has listened on the same socket before.
    pub(super) is_successor: bool,
    /// The pipe that listens on the same socket after this one.
    successor: Mutex<Weak<Shared>>,
    /// Number of workers that have not ended yet.
    running: Mutex<usize>,
    ended: Condvar,
}

/// The mailbox of a worker.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Becomes readable when there is something to handle.
    pub(super) wake_up: OwnedFd,
    pub(super) counters: Arc<Counters>,
    /// Number of its connections, including those in its inbox.
    load: AtomicUsize,
    /// Clients that other workers accepted for it; `None` once it has ended.
    inbox: Mutex<Option<Vec<(OwnedFd, SocketAddr)>>>,
    rung: AtomicBool,
}

impl Mailbox {
    pub(super) fn new() -> Result<Mailbox, Errno> {
        Ok(Mailbox {
            wake_up: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            counters: Arc::default(),
            load: AtomicUsize::new(0),
            inbox: Mutex::new(Some(Vec::new())),
            rung: AtomicBool::new(false),
        })
    }

    /// Wakes the worker.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It is full only after 2⁶⁴ calls, and readable then anyway.
            let _ = rustix::io::write(&self.wake_up, &1u64.to_ne_bytes());
        }
    }

    /// Resets the wake-up. Call it before handling what it was for.
    pub(super) fn answer(&self) {
        let _ = rustix::io::read(&self.wake_up, &mut [0u8; 8]);
        self.rung.swap(false, Ordering::AcqRel);
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn take_up(&self) {
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn put_down(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives the worker a client, which is included in its load from now on. Returns the client if
    /// the worker has ended.
    pub(super) fn give(&self, client: OwnedFd, from: SocketAddr) -> Option<OwnedFd> {
        match &mut *self.inbox() {
            Some(inbox) => {
                // Under the lock: the worker may end the client at the next moment.
                self.take_up();
                inbox.push((client, from));
            }
            None => return Some(client),
        }
        self.ring();
        None
    }

    /// Takes the clients that others gave.
    pub(super) fn collect(&self) -> Vec<(OwnedFd, SocketAddr)> {
        self.inbox().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Closes the inbox, if it is empty.
    pub(super) fn shut(&self) -> bool {
        let mut inbox = self.inbox();
        let empty = inbox.as_ref().is_none_or(Vec::is_empty);
        if empty {
            *inbox = None;
        }
        empty
    }

    fn inbox(&self) -> MutexGuard<'_, Option<Vec<(OwnedFd, SocketAddr)>>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) fn new(
        config: Config,
        address: SocketAddr,
        mailboxes: Box<[Mailbox]>,
        is_successor: bool,
    ) -> Shared {
        let host = Host::new(&config.host, config.remote_port, config.resolver.clone());
        let allowed = config.max_connections.map_or(usize::MAX, usize::from);
        // Other code of this process may still use up descriptors: then calls fail. Each worker
        // needs one for its epoll.
        let slots = config
            .slots
            .clone()
            .unwrap_or_else(|| Arc::new(ConnectionSlots::beside(mailboxes.len())));
        let start = Instant::now();
        let shaper = Shaper::new(config.shape, mailboxes.len(), start);
        Shared {
            address,
            host: Arc::new(host),
            clients: config.count_clients.then(Clients::default),
            shaper: Arc::new(shaper),
            allowed,
            slots,
            mode: AtomicU8::new(Mode::Running as u8),
            open: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
            starved: AtomicUsize::new(0),
            start,
            turned_away: AtomicU64::new(0),
            is_successor,
            successor: Mutex::default(),
            running: Mutex::new(mailboxes.len()),
            ended: Condvar::new(),
            mailboxes,
            config,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::Running,
            1 => Mode::Closing,
            _ => Mode::Stopping,
        }
    }

    /// Sets the mode of all workers; they never return to an earlier mode.
    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.fetch_max(mode as u8, Ordering::AcqRel);
        self.ring_all();
    }

    pub(super) fn ring_all(&self) {
        self.mailboxes.iter().for_each(Mailbox::ring);
    }

    /// Sets the pipe that listens on the same socket from now on.
    pub(super) fn set_successor(&self, successor: &Arc<Shared>) {
        *self.successor() = Arc::downgrade(successor);
    }

    /// Wakes the workers of the successors. A client wakes one worker of all that wait at the
    /// socket; if that one doesn't accept any more, no other worker would notice the client.
    pub(super) fn wake_successors(&self) {
        let mut next = self.successor().upgrade();
        while let Some(successor) = next {
            successor.ring_all();
            next = successor.successor().upgrade();
        }
    }

    fn successor(&self) -> MutexGuard<'_, Weak<Shared>> {
        self.successor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Takes a slot for one more connection, if one is free.
    pub(super) fn reserve(&self) -> bool {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let reserved = before < self.allowed && self.slots.take();
        if !reserved {
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        reserved
    }

    /// Whether a slot is free.
    pub(super) fn has_room(&self) -> bool {
        self.open() < self.allowed && self.slots.are_left()
    }

    /// Whether descriptors are what limits the slots.
    pub(super) fn is_scarce(&self) -> bool {
        self.open() < self.allowed && !self.slots.are_left()
    }

    /// Returns a slot that no connection used. No worker is woken: workers without a free
    /// descriptor would wake each other for ever.
    pub(super) fn unreserve(&self) {
        self.slots.give_back();
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns the slot of a connection that has ended, and wakes workers that may wait for its
    /// slot or descriptors.
    pub(super) fn release(&self) {
        self.unreserve();
        if self.paused.load(Ordering::Acquire) > 0 {
            self.ring_all();
        }
    }

    pub(super) fn pause(&self) {
        self.paused.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn resume(&self) {
        self.paused.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a client waits for a descriptor for its remote. Until then no other client may be
    /// accepted: clients could take all descriptors and wait for ever.
    pub(super) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Acquire) > 0
    }

    /// Notes one more client that waits for a descriptor.
    pub(super) fn starve(&self) {
        self.starved.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that this many clients don't wait any more.
    pub(super) fn feed(&self, clients: usize) {
        if clients > 0 && self.starved.fetch_sub(clients, Ordering::AcqRel) == clients {
            self.ring_all();
        }
    }

    /// Notes that a client waits in the backlog at `now` without a free slot. Returns for how long
    /// no client in the backlog was accepted.
    pub(super) fn turn_away(&self, now: Instant) -> Duration {
        let since_start = now.saturating_duration_since(self.start).as_millis();
        let at = u64::try_from(since_start).unwrap_or(u64::MAX).saturating_add(1);
        let since =
            match self.turned_away.compare_exchange(0, at, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => at,
                Err(since) => since,
            };
        Duration::from_millis(at.saturating_sub(since))
    }

    /// Notes that a client was accepted: the wait of the next one starts now, if there is one.
    pub(super) fn let_in(&self) {
        if self.turned_away.load(Ordering::Relaxed) != 0 {
            self.turned_away.store(0, Ordering::Release);
        }
    }

    pub(super) fn report(&self, event: Event) {
        if let Some(report) = &self.config.report {
            report(event);
        }
    }

    /// The number of running workers.
    pub(super) fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is notified when the last worker ends.
    pub(super) fn ended(&self) -> &Condvar {
        &self.ended
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
