//! Finds the sockets at the ends of new flows, and their processes, before these are gone.
//!
//! A look at the kernel takes place once a second; most connections are shorter. So a thread receives
//! every new flow at once, and finds the socket at each end on this host and the process that holds
//! it. It passes this on to the next look and keeps nothing of a flow.

mod accepting;
mod listener;
mod namespace;
mod opener;
mod portless;
mod record;
mod retry;
mod scheduling;
mod spin_budget;
mod worker;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustix::event::{EventfdFlags, eventfd};

use crate::conntrack::ctnetlink::NewFlows;
use crate::netns::{self, NetnsChoice, NetnsId, NetnsKey};
use crate::processes::{Acceptors, Labelling, Names};
use crate::sockets::Inode;

use listener::NetnsListener;
pub(crate) use namespace::{FlowTable, Namespace, Opens, choose, open_flows};
use opener::{Job, OpenQueue, Opener};
pub(crate) use record::{NewFlowRecord, Seen};
use worker::Worker;

/// How long a look waits for the rest of the announcements.
const SETTLE: Duration = Duration::from_millis(50);

/// Maximum number of records that wait for a look: as many as the kernel's table has entries.
/// Further ones are counted as lost.
const WAITING: usize = 500_000;

type Map<K, V> = HashMap<K, V, RandomState>;

/// State shared by both threads.
#[derive(Debug)]
struct Shared {
    state: Mutex<SharedState>,
    answered: Condvar,
    /// Wakes the worker.
    wake_up: OwnedFd,
    /// Wakes the main thread.
    call: OwnedFd,
    next_key: AtomicU32,
    proc: PathBuf,
    opens: Opens,
    /// Whether connection tracking's tables are opened too.
    opens_flows: AtomicBool,
    /// Whether new processes are followed because their sockets are searched.
    searches: AtomicBool,
    choice: NetnsChoice,
    names: Names,
    /// Whether process events go into the table of names.
    reported: bool,
}

#[derive(Debug, Default)]
struct SharedState {
    commands: Vec<Command>,
    /// Number of requests for an answer, and the last one answered.
    asked: u64,
    answered: u64,
    /// The records for the next look.
    records: Vec<NewFlowRecord>,
    opened: Vec<Namespace>,
    opening: OpenQueue,
    left: Vec<NetnsKey>,
    /// The namespaces that are watched.
    known: Map<NetnsId, NetnsKey>,
    /// The namespaces that could not be entered.
    refused: HashSet<NetnsId, RandomState>,
    lost: u64,
}

/// The thread that enters a namespace to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// This thread, which need not return.
    Alone,
    /// A thread that is started for it.
    ByAnother,
}

/// A command to the worker.
#[derive(Debug)]
enum Command {
    Listen(Box<NetnsListener>),
    /// This namespace seems to have no process any more.
    Leave(NetnsKey),
    Listeners(Listeners),
    /// Processes in other namespaces than the program's own.
    Inhabitants(Map<u32, NetnsKey>),
    LabelBy(Labelling),
    /// Uses these announcements for new flows of this namespace.
    Follow(NetnsKey, Box<NewFlows>),
    /// Stops the announcements of new flows.
    StopFollowing,
    Stop,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, SharedState> {
        // No update can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is opened in a namespace.
    fn opens(&self) -> Opens {
        Opens { flows: self.opens_flows.load(Ordering::Relaxed), ..self.opens }
    }

    /// Whether sockets are searched as soon as flows or processes start.
    fn searches(&self) -> bool {
        self.searches.load(Ordering::Relaxed)
    }

    /// Opens the namespace of `process`, unless it is watched already. Hands on its tables and its
    /// listener.
    fn open(
        &self,
        id: NetnsId,
        process: u32,
        going: Going,
    ) -> Option<(Namespace, Option<NetnsListener>)> {
        let key = {
            let mut state = self.state();
            if state.known.contains_key(&id) || state.refused.contains(&id) {
                return None;
            }
            let key = NetnsKey(self.next_key.fetch_add(1, Ordering::Relaxed));
            state.known.insert(id, key);
            key
        };
        let name = process.to_string();
        let open = || {
            // The process may have changed its namespace meanwhile, and the thread entered that
            // one.
            let there = netns::of(Path::new("/proc"), "thread-self").ok();
            if there.is_some_and(|there| there != id) {
                return None;
            }
            let opens = self.opens();
            let namespace = Namespace::open(opens, key, Some(id), &self.proc, &name).ok()?;
            Some((namespace, NetnsListener::open(key, opens.flows).ok()))
        };
        let opened = match going {
            Going::Alone => netns::enter(&self.proc, &name).map(|()| open()),
            Going::ByAnother => netns::inside(&self.proc, &name, open),
        };
        match opened {
            Ok(Some(opened)) => return Some(opened),
            // It has ended, or moved: the next look finds another process.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => drop(self.state().refused.insert(id)),
        }
        self.state().known.remove(&id);
        None
    }
}

/// The acceptors of TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listeners {
    /// The listening sockets whose acceptor is known.
    pub(crate) alike: Map<Inode, Acceptors>,
    /// The processes that share a listening socket with others.
    pub(crate) together: Vec<u32>,
}

/// The results since the last call.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    pub(crate) records: Vec<NewFlowRecord>,
    /// Number of events that were lost because too many came at once.
    pub(crate) lost: u64,
}

/// The handle of the thread.
#[derive(Debug)]
pub(crate) struct Tracker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    opener: Opener,
    /// Whether new flows are announced in the program's own namespace.
    listens: bool,
    listeners: Listeners,
    inhabitants: Map<u32, NetnsKey>,
}

impl Tracker {
    /// Starts to watch the namespace of this thread and, as chosen, those of new processes. With `searches`
    /// the sockets of new flows and processes are searched at once.
    ///
    /// # Errors
    /// The thread can't be started, or a descriptor or procfs can't be opened.
    pub(crate) fn start(
        opens: Opens,
        searches: bool,
        choice: NetnsChoice,
        proc: &Path,
        names: Names,
    ) -> io::Result<Tracker> {
        let descriptor = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let mut state = SharedState::default();
        let own = netns::of(proc, "self").ok();
        state.known.extend(own.map(|own| (own, NetnsKey::OWN)));
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            answered: Condvar::new(),
            wake_up: descriptor()?,
            call: descriptor()?,
            next_key: AtomicU32::new(NetnsKey::OWN.0 + 1),
            proc: proc.to_owned(),
            opens,
            opens_flows: AtomicBool::new(opens.flows),
            searches: AtomicBool::new(searches),
            choice,
            reported: names.are_reported(),
            names,
        });
        let listener = NetnsListener::open(NetnsKey::OWN, opens.flows)?;
        let listens = listener.listens();
        let mut worker = Worker::new(shared.clone(), proc)?;
        worker.listen(listener)?;
        let thread =
            thread::Builder::new().name("tracker".to_owned()).spawn(move || worker.run())?;
        Ok(Tracker {
            shared,
            thread: Some(thread),
            opener: Opener::default(),
            listens,
            listeners: Listeners::default(),
            inhabitants: Map::default(),
        })
    }

    /// Opens namespaces with connection tracking's tables from now on, and follows new flows.
    pub(crate) fn open_flows(&self) {
        self.shared.opens_flows.store(true, Ordering::Relaxed);
        self.shared.searches.store(true, Ordering::Relaxed);
    }

    /// Opens namespaces without them from now on, and stops following new flows.
    pub(crate) fn close_flows(&mut self) {
        self.shared.opens_flows.store(false, Ordering::Relaxed);
        self.shared.searches.store(false, Ordering::Relaxed);
        self.listens = false;
        self.command(Command::StopFollowing);
    }

    /// Uses these announcements of new flows in a namespace that is watched already.
    pub(crate) fn follow(&mut self, key: NetnsKey, new_flows: NewFlows) {
        self.listens |= key == NetnsKey::OWN;
        self.command(Command::Follow(key, Box::new(new_flows)));
    }

    /// Whether every flow that starts in the program's own namespace is announced.
    pub(crate) fn listens(&self) -> bool {
        self.listens
    }

    /// Whether it watches all namespaces.
    pub(crate) fn watches_all(&self) -> bool {
        self.shared.choice == NetnsChoice::All
    }

    pub(crate) fn label_by(&self, labelling: Labelling) {
        self.command(Command::LabelBy(labelling));
    }

    /// Becomes readable when a look is needed: a namespace may have no process any more, and
    /// watching it keeps it alive.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.shared.call.as_fd()
    }

    /// Whether a look is needed.
    pub(crate) fn is_calling(&self) -> bool {
        take(&self.shared.call)
    }

    /// Network namespaces that were opened since the last call: those of new processes, and those
    /// [discovered](Tracker::discover), as far as they are done by then. Returns how many of the latter are left,
    /// of how many.
    pub(crate) fn opened(
        &self,
        until: Option<Instant>,
    ) -> (Vec<Namespace>, Option<(usize, usize)>) {
        let left = self.shared.await_opening(until);
        (std::mem::take(&mut self.shared.state().opened), left)
    }

    /// Everything that was announced before this call.
    pub(crate) fn take(&self) -> Tracked {
        let mut state = self.shared.state();
        state.asked += 1;
        let asked = state.asked;
        wake(&self.shared.wake_up);
        if self.shared.reported && !self.shared.searches() {
            // No need to wait: what the thread has done is taken here.
            drop(state);
            self.shared.names.drain();
            state = self.shared.state();
            state.answered = asked;
        }
        let deadline = Instant::now() + SETTLE;
        while state.answered < asked {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break; // a busy host: the rest comes with the next look
            }
            let waited = self.shared.answered.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Tracked {
            records: std::mem::take(&mut state.records),
            lost: std::mem::take(&mut state.lost),
        }
    }

    /// Starts to open the unknown namespaces of `processes`, after reading `first`. With `ahead` their tables
    /// are read at once too. See [`Tracker::opened`].
    pub(crate) fn discover(
        &mut self,
        first: Option<Box<Namespace>>,
        ahead: bool,
        processes: &[(NetnsId, u32)],
    ) {
        let mut jobs: Vec<Job> = first.into_iter().map(Job::Read).collect();
        if self.shared.choice == NetnsChoice::All {
            let state = self.shared.state();
            let is_new =
                |id: &NetnsId| !state.known.contains_key(id) && !state.refused.contains(id);
            let new: Map<NetnsId, u32> =
                processes.iter().copied().filter(|(id, _)| is_new(id)).collect();
            jobs.extend(new.into_iter().map(|(id, pid)| Job::Open(id, pid)));
        }
        let is_free = self.shared.state().opening.left == 0;
        if !jobs.is_empty() && is_free {
            self.opener.start(&self.shared, jobs, ahead);
        }
    }

    /// Calls `found` for each of these `processes` in another namespace than the program's own.
    pub(crate) fn inhabit(
        &mut self,
        processes: &[(NetnsId, u32)],
        mut found: impl FnMut(NetnsKey, u32),
    ) {
        if self.shared.choice == NetnsChoice::Own {
            return;
        }
        let mut inhabitants = Map::default();
        {
            let state = self.shared.state();
            let keys = processes.iter().filter_map(|(id, pid)| Some((*pid, *state.known.get(id)?)));
            inhabitants.extend(keys.filter(|(_, key)| *key != NetnsKey::OWN));
        }
        inhabitants.iter().for_each(|(pid, key)| found(*key, *pid));
        if inhabitants != self.inhabitants {
            self.command(Command::Inhabitants(inhabitants.clone()));
            self.inhabitants = inhabitants;
        }
    }

    /// Number of namespaces that could not be entered.
    pub(crate) fn refused(&self) -> usize {
        self.shared.state().refused.len()
    }

    /// Asks the thread to leave a namespace that seems to have no process any more. The thread, which
    /// knows processes that have just entered it, decides: see [`Tracker::left`].
    pub(crate) fn leave(&self, key: NetnsKey) {
        self.command(Command::Leave(key));
    }

    /// Namespaces that were left.
    pub(crate) fn left(&self) -> Vec<NetnsKey> {
        std::mem::take(&mut self.shared.state().left)
    }

    pub(crate) fn know_listeners(&mut self, listeners: Listeners) {
        if listeners != self.listeners {
            self.command(Command::Listeners(listeners.clone()));
            self.listeners = listeners;
        }
    }

    fn command(&self, command: Command) {
        self.shared.state().commands.push(command);
        wake(&self.shared.wake_up);
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.stop_opening();
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes an eventfd readable.
fn wake(wake_up: &OwnedFd) {
    // It is refused only where it would overflow: then it is readable anyway.
    let _ = rustix::io::write(wake_up, &1u64.to_ne_bytes());
}

/// Whether an eventfd was readable; resets it.
fn take(wake_up: &OwnedFd) -> bool {
    rustix::io::read(wake_up, &mut [0u8; 8]).is_ok()
}
