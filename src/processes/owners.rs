//! Whose a socket is.
//!
//! A look at every descriptor of a host costs tens of milliseconds, so most of it is remembered:
//! what a process held is looked up again only where it can have changed, and what is about to be
//! believed is checked by one readlink.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use foldhash::fast::RandomState;
use rustix::io::Errno;

use super::descriptors::{Proc, TableSize, Unreadable};
use super::label::{LabelBy, Labels};
use super::names::Names;
use super::{Described, ProcessId};
use crate::ebpf::INITIAL_PID_NAMESPACE;
use crate::netns::NetnsId;
use crate::sockets::Inode;

mod acceptors;
mod first;
mod list;
mod scan;

use first::FirstReading;

pub use acceptors::Acceptors;

type Map<K, V> = HashMap<K, V, RandomState>;
type Set<K> = HashSet<K, RandomState>;

/// How many links a look reads beyond what can have changed, in search of sockets that turned up
/// where nothing seemed to change (about 10 ms): on a busy host there is always one that is closed
/// again meanwhile. What is still there at the next look is worth reading everything.
const LINKS_BEYOND: usize = 4096;

/// Kernels before 6.2 don't tell the size of a descriptor table: there each process is read again
/// at every eighth look.
const UNTOLD_ROUND: u32 = 8;

/// At which looks a process is asked for its network namespace again.
const NAMESPACE_ROUND: u32 = 8;

/// Who holds a socket, or why nobody can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This process.
    Process(ProcessId),
    /// Perhaps one whose descriptors this user may not read.
    Denied,
    /// Perhaps one outside the PID namespace whose processes can be seen here.
    Hidden,
    /// No process: every one was looked at.
    Nobody,
    /// Perhaps one whose descriptors were not read yet.
    Unread,
}

/// Answers for sockets: who holds them, and who accepts at them.
pub trait SocketOwners {
    /// Who holds this socket now.
    fn owner(&mut self, inode: Inode) -> Ownership;

    /// The only process that can have accepted a connection at one of these listening sockets.
    fn acceptor(&mut self, listeners: &[Inode]) -> Option<ProcessId>;
}

impl SocketOwners for Owners {
    fn owner(&mut self, inode: Inode) -> Ownership {
        Owners::owner(self, inode)
    }

    fn acceptor(&mut self, listeners: &[Inode]) -> Option<ProcessId> {
        Owners::acceptor(self, listeners.iter().copied())
    }
}

/// One process, as it was seen last.
#[derive(Debug)]
struct Known {
    id: ProcessId,
    /// See [`Listed::directory`](super::descriptors::Listed::directory).
    directory: u64,
    /// The size of its descriptor table when it was read.
    size: TableSize,
    /// The look at which its descriptors were read last; 0 before that.
    scanned: u32,
    /// The look at which they were read last without taking any for what it was.
    exact: u32,
    /// Its descriptors that are network sockets, in their order.
    sockets: Vec<(u32, Inode)>,
    denied: bool,
    /// The look at which identity, command line and label were confirmed last; 0 before that.
    read: u32,
    netns: Option<NetnsId>,
    /// How long it had run when that was noted at the look before and at this one, in nanoseconds.
    run_times: [Option<u64>; 2],
}

/// A descriptor that refers to a socket.
#[derive(Clone, Copy, Debug)]
struct Holder {
    pid: u32,
    descriptor: u32,
    /// The look at which that was seen first.
    since: u32,
    /// The look at which it was seen last.
    seen: u32,
}

/// What one look at the processes brought.
#[derive(Debug, Default)]
pub struct Look {
    /// Processes that have ended since the look before.
    pub ended: Vec<ProcessId>,
    /// Processes there are.
    pub processes: usize,
    /// How many of them were not read yet, and how many are read in all; `None` once each was.
    pub unread: Option<(usize, usize)>,
    /// Those among them whose descriptors this user may not read.
    pub denied: usize,
    /// Whether every process of the host can be seen: false inside a PID namespace.
    pub whole: bool,
    /// Why descriptors could not be read although the user may: no descriptor free, say.
    pub failed: Option<Errno>,
}

/// Finds the process of a socket.
#[derive(Debug)]
pub struct Owners {
    proc: Proc,
    /// Whether every process of the host can be seen in this procfs.
    whole: bool,
    /// Counts the looks, from 1.
    look: u32,
    processes: Map<u32, Known>,
    /// Those that have ended since the look before.
    ended: Vec<ProcessId>,
    /// The sockets of this look that a descriptor can refer to.
    alive: Set<Inode>,
    /// Who holds each of them. Nearly always one.
    holders: Map<Inode, Vec<Holder>>,
    /// Those whose holder is not known yet, with the look at which they appeared.
    unknown: Map<Inode, u32>,
    /// Those that nobody held although everybody was read since they appeared.
    unheld: Set<Inode>,
    /// Whether the search for a socket that was let go has been made at this look.
    searched: bool,
    /// Those that have run since their run times were noted, as far as they were asked at this look.
    ran: Set<ProcessId>,
    /// While everybody is read for the first time, and sockets may still come that were there by then.
    first: Option<FirstReading>,
    denied: usize,
    failed: Option<Errno>,
    labels: Labels,
    names: Names,
}

impl Owners {
    /// Opens the procfs that is mounted at `path`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Owners, Errno> {
        Owners::with_names(path, Names::default())
    }

    /// The same with the names of processes in this table, which others may use and fill, too.
    ///
    /// # Errors
    /// As above.
    pub fn with_names(path: &Path, names: Names) -> Result<Owners, Errno> {
        let namespace = std::fs::read_link(path.join("self/ns/pid"));
        Ok(Owners {
            proc: Proc::open(path)?,
            // A procfs without namespaces is an old kernel's, which has but one.
            whole: namespace.map_or(true, |n| n.as_os_str() == INITIAL_PID_NAMESPACE),
            look: 0,
            processes: Map::default(),
            ended: Vec::new(),
            alive: Set::default(),
            holders: Map::default(),
            unknown: Map::default(),
            unheld: Set::default(),
            searched: false,
            ran: Set::default(),
            first: None,
            denied: 0,
            failed: None,
            labels: Labels::default(),
            names,
        })
    }

    /// The names of processes.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Looks at what has changed since the last time, and for the holders of those of the `sockets`
    /// there are now that are new. To be called as soon as they have been listed: a process that is
    /// about to end is still there.
    ///
    /// # Errors
    /// If `/proc` itself can't be listed.
    pub fn look(&mut self, sockets: impl IntoIterator<Item = Inode>) -> Result<Look, Errno> {
        self.look_until(sockets, None, false)
    }

    /// The same, but everybody's descriptors, which the first look reads, are not waited for after `until`:
    /// then the holders of some sockets are [`Ownership::Unread`] until another look. `more` says that
    /// sockets of this moment will be told of later.
    ///
    /// # Errors
    /// As above.
    pub fn look_until(
        &mut self,
        sockets: impl IntoIterator<Item = Inode>,
        until: Option<Instant>,
        more: bool,
    ) -> Result<Look, Errno> {
        self.look += 1;
        self.searched = false;
        self.ran.clear();
        self.failed = None;
        self.list()?;
        let ended = std::mem::take(&mut self.ended);

        self.alive.clear();
        self.alive.extend(sockets);
        let alive = &self.alive;
        self.holders.retain(|inode, _| alive.contains(inode));
        self.unknown.retain(|inode, _| alive.contains(inode));
        self.unheld.retain(|inode| alive.contains(inode));
        for inode in alive {
            if !self.holders.contains_key(inode) && !self.unheld.contains(inode) {
                self.unknown.entry(*inode).or_insert(self.look);
            }
        }

        self.read_first(until, more);
        let lasting = self.look == 1 || self.unknown.values().any(|since| *since < self.look);
        self.read_changed(if lasting { usize::MAX } else { LINKS_BEYOND });
        self.note_unheld();
        self.denied = self.processes.values().filter(|p| p.denied).count();
        let unread = self.first.as_ref().filter(|first| !first.is_done()).map(FirstReading::left);
        Ok(Look {
            ended,
            processes: self.processes.len(),
            unread,
            // Some of them is no figure.
            denied: if unread.is_some() { 0 } else { self.denied },
            whole: self.whole,
            failed: self.failed,
        })
    }

    /// Also looks for the holders of those of these sockets that were not listed at this look.
    pub fn look_also(&mut self, sockets: impl IntoIterator<Item = Inode>) {
        for inode in sockets {
            let is_new = self.alive.insert(inode);
            if is_new && !self.holders.contains_key(&inode) && !self.unheld.contains(&inode) {
                self.unknown.insert(inode, self.look);
            }
        }
        if !self.unknown.is_empty() {
            self.read_changed(if self.look == 1 { usize::MAX } else { LINKS_BEYOND });
            self.note_unheld();
        }
    }

    /// Whoever was read after a socket appeared, and didn't have it, doesn't hold it.
    fn note_unheld(&mut self) {
        let oldest = self.processes.values().map(|p| p.exact).min().unwrap_or(self.look);
        let unheld = &mut self.unheld;
        self.unknown.retain(|inode, since| {
            let still = *since > oldest;
            if !still {
                unheld.insert(*inode);
            }
            still
        });
    }

    /// Takes what a thread has read of everybody's descriptors by then, which it begins at the first look.
    fn read_first(&mut self, until: Option<Instant>, more: bool) {
        if let (1, Some(_)) = (self.look, until) {
            let mut processes: Vec<ProcessId> = self.processes.values().map(|p| p.id).collect();
            processes.sort_unstable_by_key(|id| Reverse(*id));
            self.first = FirstReading::start(&self.proc, processes);
        }
        let Some(mut first) = self.first.take() else { return };
        for id in first.receive(until.unwrap_or_else(Instant::now)) {
            let Some(known) = self.processes.get_mut(&id.pid).filter(|known| known.id == id) else {
                continue;
            };
            match first.read.get(&id).map(|read| read.outcome) {
                Some(Ok(size)) => known.size = size,
                Some(Err(Unreadable::Denied)) => known.denied = true,
                Some(Err(Unreadable::Failed(errno))) => self.failed = Some(errno),
                Some(Err(Unreadable::Vanished)) | None => {}
            }
            known.scanned = self.look;
            // It was read after the sockets of the first look were listed, and maybe before others were.
            known.exact = 1;
        }
        // Each time: a socket that is listed only now may have been there.
        for (id, read) in &first.read {
            let Some(known) = self.processes.get_mut(&id.pid).filter(|known| known.id == *id)
            else {
                continue;
            };
            for held in &read.sockets {
                let &(descriptor, inode) = held;
                if !self.unknown.contains_key(&inode) && !self.holders.contains_key(&inode) {
                    continue;
                }
                if let Err(place) = known.sockets.binary_search(held) {
                    known.sockets.insert(place, *held);
                    // The link is read again before that is believed: it may be long ago.
                    let holder = Holder { pid: id.pid, descriptor, since: 1, seen: 0 };
                    self.holders.entry(inode).or_default().push(holder);
                    self.unknown.remove(&inode);
                }
            }
        }
        let goes_on = more || !first.is_done();
        self.first = Some(first);
        self.read_changed_ones();
        self.note_unheld();
        if !goes_on {
            self.first = None;
        }
    }

    /// Who holds `inode` now: the process that holds it alone, else the youngest that has held it
    /// since an earlier look, else the youngest.
    ///
    /// A server that forks for each connection and its child hold it both for a moment; the child
    /// is the one to talk. A socket that was passed on and kept is the receiver's if it is younger.
    pub fn owner(&mut self, inode: Inode) -> Ownership {
        if let Some(id) = self.confirmed(inode) {
            return Ownership::Process(id);
        }
        if self.first.is_some() {
            return Ownership::Unread;
        }
        if !self.searched && self.alive.contains(&inode) && !self.unheld.contains(&inode) {
            // Its holder has let it go since it was seen. Once a look, as it may be closed by now.
            self.searched = true;
            self.unknown.insert(inode, self.look);
            self.read_changed(LINKS_BEYOND);
            if let Some(id) = self.confirmed(inode) {
                return Ownership::Process(id);
            }
        }
        if self.denied > 0 {
            Ownership::Denied
        } else if !self.whole {
            Ownership::Hidden
        } else {
            Ownership::Nobody
        }
    }

    /// The process that has this number since `started_by` at the latest (clock ticks since boot), as
    /// it was listed last.
    pub fn by_number(&self, pid: u32, started_by: u64) -> Option<ProcessId> {
        self.processes.get(&pid).map(|known| known.id).filter(|id| id.start_time <= started_by)
    }

    /// Whether a process was there at this look.
    pub fn is_there(&self, id: ProcessId) -> bool {
        self.processes.get(&id.pid).is_some_and(|known| known.id == id)
    }

    /// The process that asks, as this procfs knows it.
    pub fn own(&self) -> Option<ProcessId> {
        let pid = self.proc.own()?;
        Some(ProcessId { start_time: self.proc.stat(pid).ok()?.0, pid })
    }

    /// From now on processes are labelled by the first of these that they have.
    pub fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.names.label_by(&labels);
        self.labels = Labels::new(labels);
    }

    /// What is known of a process, also of one that has ended lately; `None` if nothing is.
    pub fn described(&self, id: ProcessId) -> Option<Described> {
        self.names.described(id)
    }

    /// The holder of `inode`, of those that still hold it. Others are forgotten.
    fn confirmed(&mut self, inode: Inode) -> Option<ProcessId> {
        let mut holders = self.holders.remove(&inode)?;
        let shared = holders.len() > 1;
        holders.retain_mut(|holder| {
            let holds = self.processes.contains_key(&holder.pid)
                && (holder.seen == self.look && !shared
                    || self.proc.socket(holder.pid, holder.descriptor) == Some(inode.0));
            holder.seen = self.look;
            holds
        });
        // Between fork and exec every child holds all that its parent does, and nobody is to lose
        // bytes to it: who shares a socket counts from the second look that sees it.
        let look = self.look;
        let lasting = holders.iter().any(|holder| holder.since < look);
        let youngest = holders
            .iter()
            .filter(|holder| !lasting || holder.since < look)
            .filter_map(|holder| self.describe(holder.pid))
            .max();
        if !holders.is_empty() {
            self.holders.insert(inode, holders);
        }
        youngest
    }
}

/// A process has these descriptors no longer.
fn let_go(holders: &mut Map<Inode, Vec<Holder>>, pid: u32, closed: &[(u32, Inode)]) {
    for (descriptor, inode) in closed {
        if let Some(of_socket) = holders.get_mut(inode) {
            of_socket.retain(|holder| (holder.pid, holder.descriptor) != (pid, *descriptor));
            if of_socket.is_empty() {
                holders.remove(inode);
            }
        }
    }
}

#[cfg(test)]
mod tests;
