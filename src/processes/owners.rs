//! Finds the process that holds a socket.
//!
//! One call of [`Owners::look`] is a *look*. Reading every descriptor of a host costs tens of
//! milliseconds. So a look reads the descriptors only of processes whose descriptor table can have
//! changed since the look before, and one readlink confirms a holder before it is reported.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use foldhash::fast::RandomState;
use rustix::io::Errno;

use super::descriptors::{Proc, TableSize, Unreadable};
use super::label::{Labelling, Labels};
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

pub(crate) use acceptors::Acceptors;

type Map<K, V> = HashMap<K, V, RandomState>;
type Set<K> = HashSet<K, RandomState>;

/// Links that one look reads beyond those that can have changed (about 10 ms), in search of sockets
/// that appeared although no descriptor table seems to have changed. On a busy host there is always
/// such a socket, and most of them are closed at once. A socket that still has no holder at the
/// next look makes that look read everything.
const LINKS_BEYOND: usize = 4096;

/// Looks between two readings of a process whose descriptor table has no known size: kernels before
/// 6.2 don't report it.
const UNTOLD_ROUND: u32 = 8;

/// Looks between two readings of a process's network namespace.
const NAMESPACE_ROUND: u32 = 8;

/// The process that holds a socket, or the reason why none is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This process holds the socket.
    Process(ProcessId),
    /// No readable process holds it. A process whose descriptors this user may not read may.
    Denied,
    /// No visible process holds it. A process outside this procfs's PID namespace may.
    Hidden,
    /// No process holds it: all were read.
    Nobody,
    /// Not known yet: some processes have not been read.
    Unread,
}

/// Answers which process holds a socket, and which one accepts at a listening socket.
pub(crate) trait SocketOwners {
    /// The process that holds this socket now.
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

/// One process, as the last look found it.
#[derive(Debug)]
struct Known {
    id: ProcessId,
    /// See [`Listed::directory`](super::descriptors::Listed::directory).
    directory: u64,
    /// The size of its descriptor table when its descriptors were last read.
    size: TableSize,
    /// The look that last read its descriptors; 0 before that.
    scanned: u32,
    /// The look that last read its descriptors without assuming that some are unchanged.
    exact: u32,
    /// Its descriptors that are sockets, in ascending order of the descriptor.
    sockets: Vec<(u32, Inode)>,
    denied: bool,
    /// The look that last confirmed identity, command line and label; 0 before that.
    read: u32,
    netns: Option<NetnsId>,
    /// Its run time in nanoseconds, as noted at the look before and at this one.
    run_times: [Option<u64>; 2],
}

/// A descriptor that refers to a socket.
#[derive(Clone, Copy, Debug)]
struct Holder {
    pid: u32,
    descriptor: u32,
    /// The first look that saw the descriptor refer to the socket.
    since: u32,
    /// The last look that saw it.
    seen: u32,
}

/// The result of one look at the processes.
#[derive(Debug, Default)]
pub struct Look {
    /// Processes that have ended since the look before.
    pub ended: Vec<ProcessId>,
    /// Number of processes.
    pub processes: usize,
    /// Number of processes that were not read yet, and of all that the first reading covers; `None`
    /// once all were read.
    pub unread: Option<(usize, usize)>,
    /// Number of processes whose descriptors this user may not read.
    pub denied: usize,
    /// Whether this procfs shows every process of the host: false inside a PID namespace.
    pub whole: bool,
    /// Why descriptors could not be read although the user may, such as `EMFILE`.
    pub failed: Option<Errno>,
}

/// Finds the process of a socket.
#[derive(Debug)]
pub struct Owners {
    proc: Proc,
    /// Whether this procfs shows every process of the host.
    whole: bool,
    /// Number of this look, from 1.
    look: u32,
    processes: Map<u32, Known>,
    /// Processes that have ended since the look before.
    ended: Vec<ProcessId>,
    /// The sockets of this look to which a descriptor can refer.
    alive: Set<Inode>,
    /// The holders of each socket, nearly always one.
    holders: Map<Inode, Vec<Holder>>,
    /// Sockets without a known holder, with the look at which they appeared.
    unknown: Map<Inode, u32>,
    /// Sockets that no process held although all were read since they appeared.
    unheld: Set<Inode>,
    /// Whether this look has searched for a socket whose holder closed it.
    searched: bool,
    /// Processes that have run since their run times were noted, as far as this look has checked.
    ran: Set<ProcessId>,
    /// The first reading of all processes, until it is complete and no socket of that moment can
    /// come later.
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
    /// The error of opening it, such as `ENOENT`.
    pub fn open(path: &Path) -> Result<Owners, Errno> {
        Owners::with_names(path, Names::default())
    }

    /// As [`Owners::open`], with a table of process names that is shared with others.
    ///
    /// # Errors
    /// As [`Owners::open`].
    pub(crate) fn with_names(path: &Path, names: Names) -> Result<Owners, Errno> {
        let namespace = std::fs::read_link(path.join("self/ns/pid"));
        Ok(Owners {
            proc: Proc::open(path)?,
            // A procfs without namespaces is that of an old kernel, which has only one.
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

    /// The table of process names.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Lists the processes, reads the descriptor tables that can have changed, and finds the
    /// holders of those `sockets` that are new. `sockets` are all that exist now. Call it right
    /// after they were listed, while a process that is about to end still exists.
    ///
    /// # Errors
    /// If `/proc` itself can't be listed.
    pub fn look(&mut self, sockets: impl IntoIterator<Item = Inode>) -> Result<Look, Errno> {
        self.look_until(sockets, None, false)
    }

    /// As [`Owners::look`], but the first look, which reads all descriptors, waits for that until `until`
    /// at most. Until a later look the holders of some sockets are then [`Ownership::Unread`]. `more` says
    /// that sockets which exist now will be listed only at a later look.
    ///
    /// # Errors
    /// As [`Owners::look`].
    pub(crate) fn look_until(
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
            // A part of the processes gives no meaningful number.
            denied: if unread.is_some() { 0 } else { self.denied },
            whole: self.whole,
            failed: self.failed,
        })
    }

    /// Also finds the holders of these sockets, as far as this look did not list them yet.
    pub(crate) fn look_also(&mut self, sockets: impl IntoIterator<Item = Inode>) {
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

    /// Marks sockets as unheld: every process was read after the socket appeared, and none had it.
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

    /// Takes what the thread that the first look starts has read of all descriptors so far.
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
            // The process was read after the sockets of the first look were listed, and maybe
            // before others were.
            known.exact = 1;
        }
        // At each look: a socket that is listed only now may have existed when its process was
        // read.
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
                    // The link is read again before the holder is reported: the first reading may
                    // be old.
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

    /// The process that holds `inode` now. Of several holders it is the youngest of those seen at
    /// an earlier look too, or the youngest of all if there are none.
    ///
    /// A server that forks for each connection holds the socket together with its child for a
    /// moment, and the child serves the connection. A socket that was passed to another process and
    /// kept is the receiver's if the receiver is younger.
    pub fn owner(&mut self, inode: Inode) -> Ownership {
        if let Some(id) = self.confirmed(inode) {
            return Ownership::Process(id);
        }
        if self.first.is_some() {
            return Ownership::Unread;
        }
        if !self.searched && self.alive.contains(&inode) && !self.unheld.contains(&inode) {
            // The holder has closed it since it was seen. One search a look, as the socket may be
            // closed by now.
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

    /// The process with this pid, as the last look listed it, if it started at `started_by` (clock
    /// ticks since boot) or earlier.
    pub(crate) fn by_number(&self, pid: u32, started_by: u64) -> Option<ProcessId> {
        self.processes.get(&pid).map(|known| known.id).filter(|id| id.start_time <= started_by)
    }

    /// Whether this look listed the process.
    pub(crate) fn is_there(&self, id: ProcessId) -> bool {
        self.processes.get(&id.pid).is_some_and(|known| known.id == id)
    }

    /// The calling process, as this procfs shows it.
    pub(crate) fn own(&self) -> Option<ProcessId> {
        let pid = self.proc.own()?;
        Some(ProcessId { start_time: self.proc.stat(pid).ok()?.0, pid })
    }

    /// Reads these of processes from now on.
    pub fn label_by(&mut self, labelling: impl Into<Labelling>) {
        let labelling = labelling.into();
        self.names.label_by(&labelling);
        self.labels = Labels::new(labelling);
    }

    /// Command line and label of a process, also of one that ended recently; `None` if they are
    /// unknown.
    pub fn described(&self, id: ProcessId) -> Option<Described> {
        self.names.described(id)
    }

    /// Confirms the holders of `inode`, forgets those that no longer hold it, and picks one.
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
        // Between fork and exec a child holds all sockets of its parent, and must not take bytes
        // from it. So a holder of a shared socket applies from the second look that sees it.
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

/// Removes descriptors that a process has closed.
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
