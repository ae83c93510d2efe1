//! One look at the kernel after another: the sources, the order in which they are read, and the
//! ledger that gets what they say.

mod by_socket;
mod flows;
mod source;
mod unread;

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use foldhash::fast::RandomState;
use rustix::io::Errno;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::attribution::{FlowAttribution, Opening};
use crate::conntrack;
use crate::ebpf;
use crate::ledger::Ledger;
use crate::netlink::NetlinkError;
use crate::netns::{NetnsChoice, NetnsId, NetnsKey};
use crate::processes::{LabelBy, Names, Owners, ProcessId};
use crate::sockets::{self, State};
use crate::tracker::{Counting, Listeners, Namespace, Tracker};

pub use source::{Source, SourceChoice};
pub use unread::Unread;

use by_socket::{BySocket, Past};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Why nothing could be observed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Connection tracking can't be read.
    #[error("{error}{mend}", error = .0, mend = mend(.0))]
    Conntrack(conntrack::ReadError),
    /// Sockets can't be listed.
    #[error(transparent)]
    Sockets(#[from] sockets::ReadError),
    /// Sockets are listed without their counters.
    #[error("sock_diag is refused, and without it the kernel doesn't tell what a socket carried")]
    NoCounters,
    /// The addresses of this host can't be listed.
    #[error("the addresses of this host can't be listed: {0}")]
    Addresses(NetlinkError),
    /// Sockets can't be counted in the kernel.
    #[error("source ebpf: {0}")]
    Ebpf(ebpf::OpenError),
    /// There is no procfs.
    #[error("{path}: {errno}{mend}", mend = proc_mend(*.errno, .path))]
    Proc {
        /// Where it should be.
        path: String,
        /// What opening or listing it brought.
        errno: Errno,
    },
}

fn mend(error: &conntrack::ReadError) -> &'static str {
    if error.is_permission() { "; to mend it: run it as root (CAP_NET_ADMIN)" } else { "" }
}

/// What helps where procfs can't be read, if anything does.
fn proc_mend(errno: Errno, path: &str) -> String {
    match errno {
        Errno::NOENT | Errno::NOTDIR => format!(" (mount it: mount -t proc proc {path})"),
        Errno::MFILE => " (allow more open files: ulimit -n)".to_owned(),
        _ => String::new(),
    }
}

// Not the source of the error, but all of it: it would be told twice.
impl From<conntrack::ReadError> for WatchError {
    fn from(error: conntrack::ReadError) -> WatchError {
        WatchError::Conntrack(error)
    }
}

/// What a look found that its user should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Flows that were read.
    pub flows: u64,
    /// Flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Messages and lines that could not be read.
    pub malformed: u64,
    /// What was wrong with the first of them.
    pub first_error: Option<String>,
    /// Processes whose descriptors this user may not read.
    pub denied: usize,
    /// Why descriptors could not be read for another reason.
    #[serde(serialize_with = "text_of")]
    pub failed: Option<Errno>,
    /// How often announcements of ended flows or sockets were lost because they came too fast.
    pub lost_ends: u64,
    /// How often announcements of new flows were.
    pub lost_births: u64,
    /// How many reports of processes that began or ended were lost.
    pub lost_processes: u64,
    /// Other network namespaces into which this user may not go.
    pub refused: usize,
    /// Whether a table changed so fast that it could not be read as a whole.
    pub incomplete: bool,
    /// How many sockets there is room for, where some found none.
    pub overflow: Option<usize>,
    /// Whether the kernel counts sockets but keeps its structures to itself
    /// (see [`Reader::reads_kernel`](crate::ebpf::Reader::reads_kernel)).
    pub unread_kernel: bool,
    /// Why what passes through can't be read any more.
    pub forwarded_error: Option<String>,
    /// What of the first reading was not done yet; nothing from then on.
    pub unread: Unread,
}

/// An error as data.
fn text_of<S: Serializer>(errno: &Option<Errno>, serializer: S) -> Result<S::Ok, S::Error> {
    errno.map(|errno| errno.to_string()).serialize(serializer)
}

impl Looked {
    /// What both this look and the next have found: what is lost is lost, what is there is what the next one says.
    pub(crate) fn follow(&mut self, next: Looked) {
        let before = std::mem::replace(self, next);
        self.malformed += before.malformed;
        self.first_error = before.first_error.or(self.first_error.take());
        self.failed = self.failed.or(before.failed);
        self.lost_ends += before.lost_ends;
        self.lost_births += before.lost_births;
        self.lost_processes += before.lost_processes;
        self.incomplete |= before.incomplete;
        self.overflow = self.overflow.or(before.overflow);
        self.forwarded_error = before.forwarded_error.or(self.forwarded_error.take());
    }

    /// Adds what was found while reading flows beside sockets.
    fn add_flows(&mut self, passing: Looked) {
        self.flows += passing.flows;
        self.uncounted += passing.uncounted;
        self.malformed += passing.malformed;
        self.first_error = self.first_error.take().or(passing.first_error);
        self.lost_ends += passing.lost_ends;
        self.lost_births += passing.lost_births;
        self.incomplete |= passing.incomplete;
    }
}

/// What a watch is told of by the kernel's tracepoints, if they can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// All processes.
    Processes,
    /// Nothing: the watch beside which it is uses them.
    Nothing,
}

/// Reads the kernel once a look, and accounts what it says.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    /// The program's own network namespace first.
    namespaces: Vec<Namespace>,
    /// `None` where no thread is to be had for it.
    tracker: Option<Tracker>,
    owners: Owners,
    attribution: FlowAttribution,
    /// Where the kernel counts socket by socket.
    by_socket: Option<BySocket>,
    /// Processes that have brought bytes and were not listed at that look: they have ended, or are
    /// listed at the next one.
    unlisted: Vec<ProcessId>,
    /// Processes that hold a listening socket together with others.
    acceptors: Vec<u32>,
    looks: u32,
    told: Told,
    /// What of the first reading is not done yet.
    unread: Unread,
    /// Whether that is still to be finished.
    begins: bool,
    /// Whether only what has no socket is accounted: what passes through, and pings that are answered.
    socketless: bool,
    /// What was accounted, where the slots of sockets have counted some of it, too.
    past: Option<Past>,
    /// This process, and the ports of its pipes.
    own: Option<ProcessId>,
    pipes: HashSet<u16>,
    proc: PathBuf,
}

impl Watch {
    /// Opens what it takes to watch `source` in the network namespaces `netns` through the procfs at
    /// `proc`. With `lookback` what was counted before the start is accounted too.
    ///
    /// # Errors
    /// If the host's addresses or processes can't be listed at all.
    pub fn open(
        source: Source,
        netns: NetnsChoice,
        lookback: bool,
        proc: &Path,
    ) -> Result<Watch, WatchError> {
        let names = Names::default();
        names.listen(proc);
        Watch::with_names(source, netns, lookback, proc, names, Told::Processes)
    }

    /// The same beside another watch, with its names of processes.
    fn beside(
        names: &Names,
        source: Source,
        netns: NetnsChoice,
        lookback: bool,
        proc: &Path,
    ) -> Result<Watch, WatchError> {
        Watch::with_names(source, netns, lookback, proc, names.clone(), Told::Nothing)
    }

    fn with_names(
        source: Source,
        netns: NetnsChoice,
        lookback: bool,
        proc: &Path,
        names: Names,
        told: Told,
    ) -> Result<Watch, WatchError> {
        let by_socket = match source {
            Source::Ebpf => Some(BySocket::open(netns, lookback, proc)?),
            _ => None,
        };
        let own = Namespace::open(source, NetnsKey::OWN, None, proc, "self");
        let own = own.map_err(WatchError::Addresses)?;
        let owners = Owners::with_names(proc, names.clone());
        let owners = owners.map_err(|errno| no_proc(proc, errno))?;
        Ok(Watch {
            source,
            namespaces: vec![own],
            // Whoever may not be told of flows is told so by the first look.
            tracker: Tracker::start(source, netns, proc, names, told).ok(),
            told,
            own: owners.own(),
            owners,
            attribution: FlowAttribution::new(lookback),
            by_socket,
            unlisted: Vec::new(),
            acceptors: Vec::new(),
            looks: 0,
            unread: Unread::default(),
            begins: true,
            socketless: false,
            past: None,
            pipes: HashSet::new(),
            proc: proc.to_owned(),
        })
    }

    /// From now on processes are labelled by the first of these that they have.
    pub fn label_by(&mut self, labels: Vec<LabelBy>) {
        if let Some(tracker) = &self.tracker {
            tracker.label_by(labels.clone());
        }
        if let Some(by_socket) = &mut self.by_socket {
            by_socket.label_by(labels.clone());
        }
        self.owners.label_by(labels);
    }

    /// Also accounts what passes through this host on the way from one to another, where it takes more
    /// than the source to see it: connection tracking, if that counts.
    pub fn count_passing(&mut self) {
        if let Some(by_socket) = &mut self.by_socket {
            by_socket.count_passing(self.owners.names(), &self.proc);
        }
    }

    /// This process forwards TCP connections between these local and those remote ports, and
    /// accounts them itself: what it holds of them is [`Reason::OwnPipe`](crate::attribution::Reason) from
    /// now on.
    pub fn leave_to_pipes(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.pipes.extend(ports);
    }

    /// Whether not everything was read for the first time: see [`Watch::look_until`].
    pub fn is_reading(&self) -> bool {
        self.begins
    }

    /// What is watched.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Descriptors that become readable when there is something for [`Watch::drain`].
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let call = self.tracker.iter().map(Tracker::events);
        let passing = self.by_socket.iter().flat_map(BySocket::events);
        self.namespaces.iter().filter_map(Namespace::events).chain(call).chain(passing)
    }

    /// Takes what was announced since the last time, so that the kernel's buffer never fills. The
    /// next look accounts it. Returns whether that should not wait.
    pub fn drain(&mut self) -> bool {
        self.namespaces.iter_mut().for_each(Namespace::drain);
        let passing = self.by_socket.as_mut().is_some_and(BySocket::drain);
        passing
            || self.tracker.as_ref().is_some_and(Tracker::is_calling)
            || self.by_socket.as_ref().is_some_and(BySocket::is_filling)
    }

    /// Whether there is something to [drain](Watch::drain) that nothing announces, so that it should be seen
    /// to several times a second.
    pub fn needs_glances(&self) -> bool {
        self.by_socket.is_some()
    }

    /// Looks once and accounts the new bytes to `ledger`.
    ///
    /// # Errors
    /// If the source can't be read (any more). What was accounted before stays right.
    pub fn look(&mut self, ledger: &mut Ledger) -> Result<Looked, WatchError> {
        self.look_until(ledger, None)
    }

    /// The same, but what takes long when everything is read for the first time is not waited for after
    /// `until`: it goes on in the background, and another look takes what has come of it.
    /// [`Looked::unread`] says what is left. Bytes whose socket or process was not read yet wait
    /// under [`Reason::Unread`](crate::attribution::Reason), or are accounted when they are read first.
    ///
    /// # Errors
    /// As above.
    pub fn look_until(
        &mut self,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        let mut looked = self.look_once(ledger, until.filter(|_| self.begins))?;
        let unread = &looked.unread;
        self.begins &= unread.is_anything();
        if self.told == Told::Processes {
            looked.lost_processes = self.owners.names().take_lost();
        }
        Ok(looked)
    }

    fn look_once(
        &mut self,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        self.looks += 1;
        if self.told == Told::Processes {
            self.owners.names().begin_look();
        }
        if self.looks == 1 {
            self.owners.list().map_err(|errno| no_proc(&self.proc, errno))?;
        }
        if let Some(mut by_socket) = self.by_socket.take() {
            let looked = self.look_at_sockets(&mut by_socket, ledger, until);
            self.by_socket = Some(by_socket);
            return looked;
        }
        // Before anything is listed: who has not run from here on has accepted nothing that is new
        // at the next look.
        self.owners.note_run_times(&self.acceptors);
        let mut looked = Looked::default();
        let namespaces = self.open_namespaces(until);
        self.list_sockets(&mut looked, |_| true)?;
        // At once: a process that is about to end still has its descriptors.
        let inodes = self.namespaces.iter().flat_map(|readers| readers.table.inodes());
        let processes = self
            .owners
            .look_until(inodes, until, namespaces.is_some())
            .map_err(|errno| no_proc(&self.proc, errno))?;
        self.note_unread(Unread { namespaces, processes: processes.unread, past: false });
        looked.unread = self.unread.clone();
        looked.denied = processes.denied;
        looked.failed = processes.failed;
        self.namespaces.iter_mut().for_each(Namespace::refresh_addresses);

        self.attribution.begin();
        self.hear(ledger, &mut looked);
        let flows = self.flows(ledger, &mut looked);
        let observation = self.attribution.end();
        flows?;
        looked.flows = observation.flows;
        looked.uncounted = observation.uncounted;

        self.name(ledger, processes.ended);
        if let Some(referenced) = observation.referenced {
            ledger.keep_names_of(&referenced);
        }
        self.leave_namespaces();
        self.name_listeners();
        Ok(looked)
    }

    /// Notes what is not read yet. Once it is, whatever was left for later is looked at.
    fn note_unread(&mut self, unread: Unread) {
        let was_opening = self.unread.namespaces.is_some();
        self.attribution.set_opening(match unread.namespaces {
            Some(_) => Opening::UnderWay,
            None if was_opening => Opening::JustDone,
            None => Opening::Done,
        });
        if self.unread.is_anything() {
            // Also connections that are over: a table is asked only for the others otherwise.
            self.namespaces.iter_mut().for_each(|readers| readers.dump_policy.doubt());
        }
        self.unread = unread;
    }

    /// Begins to watch the network namespaces that are new, as far as they can be opened by then. Returns how
    /// many are left, of how many.
    fn open_namespaces(&mut self, until: Option<Instant>) -> Option<(usize, usize)> {
        let tracker = self.tracker.as_mut()?;
        let goes_on = self.unread.namespaces.is_some();
        // Those that turn up later are few, and are waited for: else it might never come to an end.
        let until = until.filter(|_| self.looks == 1 || goes_on);
        let namespaces: Vec<(NetnsId, u32)> = self.owners.namespaces().collect();
        let is_first = self.looks == 1 && until.is_some() && tracker.watches_all();
        let own = if is_first { self.namespaces.pop().map(Box::new) } else { None };
        if !goes_on {
            tracker.discover(own, until.is_some(), &namespaces);
        }
        let (opened, left) = tracker.opened(until);
        self.namespaces.extend(opened);
        self.namespaces.sort_by_key(|readers| readers.key);
        let mut through: Map<NetnsKey, u32> = Map::default();
        tracker.inhabit(&namespaces, |key, pid| {
            through.insert(key, pid);
        });
        for readers in &mut self.namespaces {
            if let Some(pid) = through.get(&readers.key) {
                readers.sockets.through(&self.proc.join(pid.to_string()));
            }
        }
        left
    }

    /// Lists the sockets of these places.
    fn list_sockets(
        &mut self,
        looked: &mut Looked,
        of: impl Fn(&Namespace) -> bool,
    ) -> Result<(), WatchError> {
        let by_sockets = self.source == Source::Sockets;
        for readers in self.namespaces.iter_mut().filter(|readers| of(readers)) {
            // Ends first: what ends from now on is still listed, and told in its turn. Conntrack's
            // reader sees to that itself.
            if let Counting::Sockets(Some(ends)) = &mut readers.counting {
                ends.drain();
            }
            let own = readers.key == NetnsKey::OWN;
            match readers.list_sockets(by_sockets) {
                Ok(listing) if by_sockets && own && listing.tcp_from_proc => {
                    return Err(WatchError::NoCounters);
                }
                Ok(listing) => {
                    looked.malformed += listing.malformed;
                    looked.incomplete |= listing.interrupted > 0;
                }
                Err(error) if own => return Err(error.into()),
                // Another namespace's: it is about to end.
                Err(_) => readers.table.clear(),
            }
        }
        Ok(())
    }

    /// Brings what processes are called up to date, and tells which have ended.
    fn name(&mut self, ledger: &mut Ledger, ended: Vec<ProcessId>) {
        let Watch { owners, unlisted, .. } = self;
        let active: Vec<_> = ledger.active().collect();
        let gone = unlisted.drain(..).filter(|process| !owners.is_there(*process));
        ledger.ended(gone.collect::<Vec<_>>());
        for process in active {
            owners.refresh(process);
            if let Some(described) = owners.described(process) {
                ledger.rename(process, &described);
            }
            if !owners.is_there(process) {
                unlisted.push(process);
            }
        }
        // Names that are cut here would be kept there by those that are silent.
        for process in owners.names().take_cut() {
            if let Some(described) = owners.described(process) {
                ledger.rename(process, &described);
            }
        }
        for process in &ended {
            // The last title that it had.
            if let Some(described) = owners.described(*process) {
                ledger.rename(*process, &described);
            }
        }
        ledger.ended(ended);
    }

    /// Forgets the network namespaces that were left, now that they were read for the last time, and
    /// wants to leave those in which nobody is any more: to watch one keeps it from going.
    fn leave_namespaces(&mut self) {
        let Some(tracker) = &self.tracker else { return };
        for left in tracker.left() {
            self.namespaces.retain(|readers| readers.key != left);
            self.attribution.forget(left);
        }
        let mut empty = deserted(&self.namespaces, &mut self.owners);
        if !empty.is_empty() {
            // Somebody may have gone there since he was asked.
            self.owners.doubt_namespaces();
            empty = deserted(&self.namespaces, &mut self.owners);
        }
        empty.into_iter().for_each(|key| tracker.leave(key));
    }

    /// Tells the tracker where it need not ask who accepts a connection.
    fn name_listeners(&mut self) {
        let Some(tracker) = self.tracker.as_mut().filter(|tracker| tracker.listens()) else {
            return;
        };
        let sockets = self.namespaces.iter().flat_map(|readers| readers.table.iter());
        let mut listeners = Listeners::default();
        for inode in sockets.filter(|s| s.state == State::LISTEN).filter_map(|s| s.inode) {
            let acceptors = self.owners.acceptors(inode);
            if acceptors.as_ref().is_none_or(|acceptors| acceptors.holders() > 1) {
                listeners.together.extend(self.owners.holders(inode));
            }
            listeners.alike.extend(acceptors.map(|acceptors| (inode, acceptors)));
        }
        listeners.together.sort_unstable();
        listeners.together.dedup();
        self.acceptors.clone_from(&listeners.together);
        tracker.know_listeners(listeners);
    }
}

/// The namespaces, other than the program's own, in which no process is.
fn deserted(places: &[Namespace], owners: &mut Owners) -> HashSet<NetnsKey> {
    let mut empty: Map<NetnsId, NetnsKey> =
        places.iter().filter_map(|readers| Some((readers.id?, readers.key))).collect();
    if !empty.is_empty() {
        owners.namespaces().for_each(|(id, _)| {
            empty.remove(&id);
        });
    }
    empty.into_values().collect()
}

fn no_proc(path: &Path, errno: Errno) -> WatchError {
    WatchError::Proc { path: path.display().to_string(), errno }
}
