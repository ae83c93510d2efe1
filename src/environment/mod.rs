//! What all sources share: network namespaces, the holders of sockets, the tracker and names.
//!
//! This is the only module with system calls after the counters were read: for the holder of a socket, the
//! process that accepted it, and the name of a process.

mod error;
mod opening;
mod resolver;

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::cpu;
use crate::netns::{self, NetnsChoice, NetnsId, NetnsKey};
use crate::processes::{Labelling, Names, Owners, ProcessId};
use crate::sockets::{Inode, TcpState};
use crate::tracker::{Listeners, Namespace, NewFlowRecord, Opens, Tracker, open_flows};

pub(crate) use crate::model::{Looked, Unread};
pub use error::WatchError;
pub(crate) use error::no_proc;
pub(crate) use opening::Opening;
pub(crate) use resolver::Side;
pub(crate) use resolver::{FlowResolution, Lookups, NamespaceView, OtherNamespaces, resolve};

type Map<K, V> = HashMap<K, V, RandomState>;

/// The namespaces whose sockets are listed at a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lists {
    /// None.
    #[default]
    Nothing,
    /// Those whose sockets were listed in advance, when they were opened.
    Ahead,
    /// All.
    All,
}

/// The sockets listed at a look.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) namespaces: HashSet<NetnsKey>,
    /// Processor time of listing all; `None` if some were left out.
    pub(crate) all: Option<Duration>,
}

/// The host, as the sources see it.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The namespaces, the program's own first.
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) owners: Owners,
    /// `None` if its thread could not be started.
    tracker: Option<Tracker>,
    /// Records of new flows that were not taken yet, and the number of lost ones.
    records: Vec<NewFlowRecord>,
    missed: u64,
    /// Which sockets were listed at this look.
    pub(crate) listed: Listed,
    /// Processes that share a listening socket with others.
    acceptors: Vec<u32>,
    looks: u32,
    /// The part of the first reading that is not done, and whether any was left before this look.
    unread: Unread,
    was_unread: bool,
    opening: Opening,
    opens: Opens,
    /// Namespaces that can't be entered to open their flows.
    without_flows: HashSet<NetnsKey>,
    searches: bool,
    choice: NetnsChoice,
    proc: PathBuf,
}

impl Environment {
    /// Opens what the network namespaces of this `choice` need, through the procfs at `proc`. With
    /// `searches` the sockets of new flows and processes are searched at once.
    pub(crate) fn open(
        opens: Opens,
        searches: bool,
        choice: NetnsChoice,
        proc: &Path,
        names: Names,
    ) -> Result<Environment, WatchError> {
        let own = Namespace::open(opens, NetnsKey::OWN, None, proc, "self");
        let own = own.map_err(WatchError::Addresses)?;
        let owners = Owners::with_names(proc, names.clone());
        Ok(Environment {
            namespaces: vec![own],
            owners: owners.map_err(|errno| no_proc(proc, errno))?,
            // A user who may not receive announcements of flows gets the error at the first look.
            tracker: Tracker::start(opens, searches, choice, proc, names).ok(),
            records: Vec::new(),
            missed: 0,
            listed: Listed::default(),
            acceptors: Vec::new(),
            looks: 0,
            unread: Unread::default(),
            was_unread: false,
            opening: Opening::Done,
            opens,
            without_flows: HashSet::new(),
            searches,
            choice,
            proc: proc.to_owned(),
        })
    }

    /// Reads these of processes from now on.
    pub(crate) fn label_by(&mut self, labelling: Labelling) {
        if let Some(tracker) = &self.tracker {
            tracker.label_by(labelling.clone());
        }
        self.owners.label_by(labelling);
    }

    /// Also opens connection tracking's tables, from the next look on at the latest.
    pub(crate) fn open_flows(&mut self) {
        self.opens.flows = true;
        self.searches = true;
        if let Some(tracker) = &self.tracker {
            tracker.open_flows();
        }
        self.complete_flows();
    }

    /// Closes connection tracking's tables: otherwise the kernel would keep announcements that are
    /// never read.
    pub(crate) fn close_flows(&mut self) {
        self.opens.flows = false;
        self.searches = false;
        self.records.clear();
        self.acceptors.clear();
        self.namespaces.iter_mut().for_each(|namespace| namespace.flows = None);
        if let Some(tracker) = &mut self.tracker {
            tracker.close_flows();
        }
    }

    /// Opens connection tracking's table in namespaces without it, or closes it.
    fn complete_flows(&mut self) {
        if !self.opens.flows {
            // One that was being opened meanwhile may have it.
            self.namespaces.iter_mut().for_each(|namespace| namespace.flows = None);
            return;
        }
        let is_without = |namespace: &&mut Namespace| namespace.flows.is_none();
        for namespace in self.namespaces.iter_mut().filter(is_without) {
            if self.without_flows.contains(&namespace.key) {
                continue;
            }
            let proc = &self.proc;
            let opened = match namespace.id {
                None => Some(open_flows(proc, true)),
                Some(id) => {
                    let pid =
                        self.owners.namespaces().find(|(of, _)| *of == id).map(|(_, pid)| pid);
                    let open = |pid: u32| {
                        netns::inside(proc, &pid.to_string(), || {
                            // The process may have changed its namespace meanwhile.
                            let there = netns::of(Path::new("/proc"), "thread-self");
                            there.is_ok_and(|there| there == id).then(|| open_flows(proc, false))
                        })
                    };
                    match pid.map(open) {
                        Some(Ok(opened)) => opened,
                        Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                            self.without_flows.insert(namespace.key);
                            None
                        }
                        // It has ended: the next look finds another process there.
                        Some(Err(_)) | None => None,
                    }
                }
            };
            let Some((flows, new_flows)) = opened else { continue };
            namespace.flows = Some(flows);
            if let (Some(tracker), Some(new_flows)) = (&mut self.tracker, new_flows) {
                tracker.follow(namespace.key, new_flows);
            }
        }
    }

    /// Where procfs is mounted.
    pub(crate) fn proc(&self) -> &Path {
        &self.proc
    }

    /// The network namespaces to watch.
    pub(crate) fn choice(&self) -> NetnsChoice {
        self.choice
    }

    /// Number of looks, including this one.
    pub(crate) fn looks(&self) -> u32 {
        self.looks
    }

    /// The part of the first reading that is not done yet.
    pub(crate) fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Whether the first reading was not complete before this look.
    pub(crate) fn was_unread(&self) -> bool {
        self.was_unread
    }

    /// Progress of opening the network namespaces of the start.
    pub(crate) fn opening(&self) -> Opening {
        self.opening
    }

    /// Whether every flow that starts in the program's own namespace is announced.
    pub(crate) fn announces_flows(&self) -> bool {
        self.tracker.as_ref().is_some_and(Tracker::listens)
    }

    /// Descriptors that become readable when [`Environment::drain`] has something to take.
    pub(crate) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let call = self.tracker.iter().map(Tracker::events);
        self.namespaces.iter().flat_map(Namespace::events).chain(call)
    }

    /// Takes announcements, so that the kernel's buffer never fills. Returns whether a look is needed.
    pub(crate) fn drain(&mut self) -> bool {
        self.namespaces.iter_mut().for_each(Namespace::drain);
        self.tracker.as_ref().is_some_and(Tracker::is_calling)
    }

    /// Starts a look.
    pub(crate) fn begin(&mut self) -> Result<(), WatchError> {
        self.looks += 1;
        self.listed = Listed::default();
        self.owners.names().begin_look();
        if self.looks == 1 {
            self.owners.list().map_err(|errno| no_proc(&self.proc, errno))?;
        }
        // Before anything is listed: a process that does not run from here on has accepted no
        // connection that is new at the next look.
        self.owners.note_run_times(&self.acceptors);
        Ok(())
    }

    /// Starts to watch new network namespaces, as far as they can be opened by then. Returns how many are
    /// left, of how many.
    pub(crate) fn open_namespaces(&mut self, until: Option<Instant>) -> Option<(usize, usize)> {
        let left = self.take_namespaces(until);
        self.complete_flows();
        left
    }

    fn take_namespaces(&mut self, until: Option<Instant>) -> Option<(usize, usize)> {
        let tracker = self.tracker.as_mut()?;
        let goes_on = self.unread.namespaces.is_some();
        // Later ones are few, and are waited for: otherwise this might never complete.
        let until = until.filter(|_| self.looks == 1 || goes_on);
        let namespaces: Vec<(NetnsId, u32)> = self.owners.namespaces().collect();
        let is_first = self.looks == 1 && until.is_some() && tracker.watches_all();
        let own = if is_first { self.namespaces.pop().map(Box::new) } else { None };
        if !goes_on {
            tracker.discover(own, until.is_some(), &namespaces);
        }
        let (opened, left) = tracker.opened(until);
        self.namespaces.extend(opened);
        self.namespaces.sort_by_key(|namespace| namespace.key);
        let mut through: Map<NetnsKey, u32> = Map::default();
        tracker.inhabit(&namespaces, |key, pid| {
            through.insert(key, pid);
        });
        for namespace in &mut self.namespaces {
            if let Some(pid) = through.get(&namespace.key) {
                namespace.sockets.through(&self.proc.join(pid.to_string()));
            }
        }
        left
    }

    /// Lists the sockets of this look.
    pub(crate) fn list_sockets(
        &mut self,
        lists: Lists,
        looked: &mut Looked,
    ) -> Result<(), WatchError> {
        let (begun, counters) = (cpu::used(), self.opens.ends);
        for namespace in &mut self.namespaces {
            match lists {
                Lists::Nothing => continue,
                Lists::Ahead if !namespace.is_listed_ahead() => continue,
                Lists::Ahead | Lists::All => {}
            }
            self.listed.namespaces.insert(namespace.key);
            let own = namespace.key == NetnsKey::OWN;
            match namespace.list_sockets(counters) {
                Ok(listing) if counters && own && listing.tcp_from_proc => {
                    return Err(WatchError::NoCounters);
                }
                Ok(listing) => {
                    looked.malformed += listing.malformed;
                    looked.incomplete |= listing.interrupted > 0;
                }
                Err(error) if own => return Err(error.into()),
                // Another namespace's: it is about to end.
                Err(_) => namespace.table.clear(),
            }
        }
        self.listed.all = (lists == Lists::All).then(|| cpu::used().saturating_sub(begun));
        Ok(())
    }

    /// Looks at the processes, right after the sockets were listed: a process that is about to end still has its
    /// descriptors. `beside` are sockets that were not listed. `left` is the result of
    /// [`Environment::open_namespaces`]. Returns the processes that have ended.
    pub(crate) fn look_at_processes(
        &mut self,
        beside: impl IntoIterator<Item = Inode>,
        left: Option<(usize, usize)>,
        until: Option<Instant>,
        looked: &mut Looked,
    ) -> Result<Vec<ProcessId>, WatchError> {
        let inodes = self.namespaces.iter().flat_map(|namespace| namespace.table.inodes());
        let processes = self
            .owners
            .look_until(inodes.chain(beside), until, left.is_some())
            .map_err(|errno| no_proc(&self.proc, errno))?;
        looked.denied = processes.denied;
        looked.failed = processes.failed;
        self.opening = match left {
            Some(_) => Opening::UnderWay,
            None if self.unread.namespaces.is_some() => Opening::JustDone,
            None => Opening::Done,
        };
        self.was_unread = self.unread.is_anything();
        self.unread = Unread { namespaces: left, processes: processes.unread, past: false };
        looked.unread = self.unread.clone();
        Ok(processes.ended)
    }

    /// Takes the tracker's results.
    pub(crate) fn update_tracked(&mut self, looked: &mut Looked) {
        let Some(tracker) = &self.tracker else { return };
        let seen = tracker.take();
        looked.refused = tracker.refused();
        if self.searches {
            self.records.extend(seen.records);
            self.missed += seen.lost;
            looked.lost_new_flows += seen.lost;
        }
    }

    /// The records of new flows since the last call, and the number of lost ones.
    pub(crate) fn take_records(&mut self) -> (Vec<NewFlowRecord>, u64) {
        (std::mem::take(&mut self.records), std::mem::take(&mut self.missed))
    }

    /// Lists the addresses of every namespace again.
    pub(crate) fn refresh_addresses(&mut self) {
        self.namespaces.iter_mut().for_each(Namespace::refresh_addresses);
    }

    /// Ends a look. Returns the network namespaces that were left, after their last reading, and asks the
    /// tracker to leave those without processes: watching a namespace keeps it alive.
    pub(crate) fn end(&mut self) -> Vec<NetnsKey> {
        let left = self.leave_namespaces();
        self.name_listeners();
        left
    }

    fn leave_namespaces(&mut self) -> Vec<NetnsKey> {
        let Some(tracker) = &self.tracker else { return Vec::new() };
        let left = tracker.left();
        self.namespaces.retain(|namespace| !left.contains(&namespace.key));
        self.without_flows.retain(|key| !left.contains(key));
        let mut empty = deserted(&self.namespaces, &mut self.owners);
        if !empty.is_empty() {
            // A process may have entered it since it was asked.
            self.owners.doubt_namespaces();
            empty = deserted(&self.namespaces, &mut self.owners);
        }
        empty.into_iter().for_each(|key| tracker.leave(key));
        left
    }

    /// Passes the listening sockets with a known acceptor to the tracker.
    fn name_listeners(&mut self) {
        let Some(tracker) = self.tracker.as_mut().filter(|tracker| tracker.listens()) else {
            return;
        };
        let sockets = self.namespaces.iter().flat_map(|namespace| namespace.table.iter());
        let mut listeners = Listeners::default();
        for inode in sockets.filter(|s| s.state == TcpState::LISTEN).filter_map(|s| s.inode) {
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

/// The namespaces without a process, except the program's own.
fn deserted(namespaces: &[Namespace], owners: &mut Owners) -> HashSet<NetnsKey> {
    let mut empty: Map<NetnsId, NetnsKey> =
        namespaces.iter().filter_map(|namespace| Some((namespace.id?, namespace.key))).collect();
    if !empty.is_empty() {
        owners.namespaces().for_each(|(id, _)| {
            empty.remove(&id);
        });
    }
    empty.into_values().collect()
}
