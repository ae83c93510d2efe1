//! Finds the process of a socket while its connection starts: it may be gone in a millisecond.
//!
//! Reading every descriptor of a host takes tens of milliseconds. So processes are checked in order
//! of likelihood, up to the first that has the socket: first processes that had a socket at that
//! descriptor a moment ago, then the youngest processes, then, as long as the budget of links
//! allows, all others.

mod order;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustix::io::Errno;

use super::ProcessId;
use super::descriptors::{Descriptors, Proc};
use super::events::Event;
use super::label::{Labelling, Labels};
use super::names::{Missing, Names};
use crate::netns::NetnsId;
use crate::sockets::Inode;

/// Number of recent holders of sockets whose descriptors are kept open.
const RECENT_HOLDERS: usize = 32;
/// Number of processes that accept connections together whose descriptors are kept open.
const ACCEPTORS: usize = 64;
/// Number of the youngest processes that are remembered, and of those whose descriptors are kept
/// open.
const YOUNG: usize = 512;
const YOUNG_OPEN: usize = 128;
/// Number of the youngest whose descriptors are all read before those of any older process.
const YOUNGEST: usize = 6;
/// Number of peeks at a young process.
const PEEKS: u32 = 4;
/// Number of recent holders, and of young processes, that are checked regardless of the budget.
const NEAREST: usize = 4;
/// Number of sockets that are remembered with their descriptor.
const PLACES: usize = 4096;

/// Budget of links for unlikely processes: about 4 % of a processor, and 15 ms at once.
const LINKS_PER_SECOND: f64 = 20_000.0;
const LINKS_AT_ONCE: f64 = 8_192.0;
/// Budget of links for one socket: it may be gone before all processes are checked. The next search
/// continues where this one has ended.
const LINKS_A_SOCKET: f64 = 1_024.0;

/// A process whose descriptors are kept open.
#[derive(Debug)]
struct KnownProcess {
    id: ProcessId,
    descriptors: Descriptors,
    netns: Option<NetnsId>,
    /// The descriptor that was its last socket, or would be its next.
    last: u32,
}

impl KnownProcess {
    /// Whether the socket is this far after the last one.
    fn has_behind(&mut self, distance: u32, inode: Inode) -> bool {
        let at = self.last.saturating_add(distance);
        let has = self.descriptors.socket(at) == Some(inode.0);
        if has {
            self.last = at;
        }
        has
    }
}

#[derive(Debug)]
struct Young {
    pid: u32,
    /// The process of which it is a copy, until it calls exec.
    parent: Option<u32>,
    /// The namespace of such a copy, of which nothing else is read.
    netns: Option<NetnsId>,
    known: Option<KnownProcess>,
    peeks: u32,
}

impl Young {
    /// Whether it is not known to be in another network namespace than this one.
    fn may_be_in(&self, netns: Option<NetnsId>) -> bool {
        let its = self.known.as_ref().map_or(self.netns, |known| known.netns);
        its.is_none() || netns.is_none() || its == netns
    }
}

/// Finds the process of a socket at once.
#[derive(Debug)]
pub(crate) struct DescriptorSearch {
    proc: Proc,
    labels: Labels,
    names: Names,
    /// The most recent first.
    recent_holders: VecDeque<KnownProcess>,
    /// Processes that may accept connections at a socket that they share. Those that have accepted
    /// come first, the one idle for longest in front: the kernel wakes them in turn.
    acceptors: Vec<KnownProcess>,
    /// Number of them that have accepted.
    accepting: usize,
    /// The youngest first.
    young: VecDeque<Young>,
    /// Processes that were not read yet.
    unread: Vec<u32>,
    /// Copies of others whose namespace was not read yet.
    copies: Vec<u32>,
    /// The only network namespace to search, if not all.
    only: Option<NetnsId>,
    /// The result of the last peek.
    peeked: Vec<(Inode, ProcessId, u32)>,
    /// The process and descriptor at which each socket was found.
    places: HashMap<Inode, (u32, u32), RandomState>,
    links: f64,
    refilled: Option<Instant>,
    /// The process after which the search among all continues.
    turn: u32,
    buffer: Vec<u8>,
}

impl DescriptorSearch {
    /// As [`DescriptorSearch::with_names`], with names of its own.
    #[cfg(test)]
    pub(crate) fn open(path: &Path) -> Result<DescriptorSearch, Errno> {
        DescriptorSearch::with_names(path, Names::default())
    }

    /// Opens the procfs that is mounted at `path`. `names` is the table of process names, which it
    /// shares with others.
    ///
    /// # Errors
    /// If no procfs is mounted there.
    pub(crate) fn with_names(path: &Path, names: Names) -> Result<DescriptorSearch, Errno> {
        Ok(DescriptorSearch {
            proc: Proc::open(path)?,
            labels: Labels::default(),
            names,
            recent_holders: VecDeque::new(),
            acceptors: Vec::new(),
            accepting: 0,
            young: VecDeque::new(),
            unread: Vec::new(),
            copies: Vec::new(),
            only: None,
            peeked: Vec::new(),
            places: HashMap::default(),
            links: LINKS_AT_ONCE,
            refilled: None,
            turn: u32::MAX,
            buffer: Vec::with_capacity(32 * 1024),
        })
    }

    /// Ignores new processes of other network namespaces than this one.
    pub(crate) fn keep_to(&mut self, netns: Option<NetnsId>) {
        self.only = netns;
    }

    /// Reads these of processes from now on.
    pub(crate) fn label_by(&mut self, labelling: Labelling) {
        self.names.label_by(&labelling);
        self.labels = Labels::new(labelling);
    }

    /// Sets the processes that accept connections at sockets that they share, and are likely to be
    /// searched soon.
    pub(crate) fn expect(&mut self, acceptors: &[u32]) {
        self.keep_acceptors(|pid| acceptors.contains(&pid));
        for &pid in acceptors.iter().take(ACCEPTORS) {
            if !self.acceptors.iter().any(|known| known.id.pid == pid)
                && let Some(known) = self.know(pid, None)
            {
                self.acceptors.push(known);
            }
        }
    }

    /// Takes a process event.
    pub(crate) fn notice(&mut self, event: Event) {
        if !self.names.are_reported() {
            self.names.notice(event);
        }
        match event {
            Event::Fork { parent, pid } => {
                self.forget(pid);
                self.begin(pid, Some(parent));
                self.copies.push(pid);
            }
            Event::Exec { pid } => {
                self.forget(pid);
                self.begin(pid, None);
                self.unread.push(pid);
            }
            Event::Exit { pid } => self.forget(pid),
        }
    }

    /// Reads the processes that have called exec since the last call, while they still exist: soon,
    /// but after any search for a socket. Hands on the pid and the network namespace of each.
    pub(crate) fn read_up(&mut self, mut each: impl FnMut(u32, Option<NetnsId>)) {
        for pid in std::mem::take(&mut self.unread) {
            let elsewhere = |only| self.proc.netns(pid).is_some_and(|netns| netns != only);
            if self.only.is_some_and(elsewhere) {
                self.young.retain(|young| young.pid != pid);
                continue;
            }
            let known = self.know(pid, None);
            let netns = known.as_ref().and_then(|known| known.netns);
            if let Some(young) = self.young.iter_mut().find(|young| young.pid == pid)
                && young.known.is_none()
            {
                young.known = known;
            }
            each(pid, netns);
        }
        self.place_copies();
        let open = self.young.iter_mut().filter(|young| young.known.is_some());
        open.skip(YOUNG_OPEN).for_each(|old| old.known = None);
    }

    /// Reads the namespaces of those that have not called exec yet. Many of them may live on, and would all be
    /// searched for each socket of another namespace.
    fn place_copies(&mut self) {
        for pid in std::mem::take(&mut self.copies) {
            // A copy that has called exec has left its place to what it executes.
            let is_copy = |young: &Young| young.pid == pid && young.parent.is_some();
            let Some(at) = self.young.iter().position(is_copy) else { continue };
            let netns = self.proc.netns(pid);
            if self.only.is_some_and(|only| netns.is_some_and(|netns| netns != only)) {
                self.young.remove(at);
            } else if let Some(young) = self.young.get_mut(at) {
                young.netns = netns;
            }
        }
    }

    fn begin(&mut self, pid: u32, parent: Option<u32>) {
        self.young.push_front(Young { pid, parent, netns: None, known: None, peeks: 0 });
        self.young.truncate(YOUNG);
    }

    fn forget(&mut self, pid: u32) {
        self.recent_holders.retain(|known| known.id.pid != pid);
        self.keep_acceptors(|acceptor| acceptor != pid);
        self.young.retain(|young| young.pid != pid);
    }

    /// Forgets all processes, and closes their descriptors.
    pub(crate) fn clear(&mut self) {
        self.recent_holders.clear();
        self.acceptors.clear();
        self.accepting = 0;
        self.young.clear();
        self.unread.clear();
        self.copies.clear();
        self.peeked.clear();
        self.places.clear();
    }

    fn keep_acceptors(&mut self, kept: impl Fn(u32) -> bool) {
        let accepting = self.acceptors.iter().take(self.accepting);
        self.accepting = accepting.filter(|known| kept(known.id.pid)).count();
        self.acceptors.retain(|known| kept(known.id.pid));
    }

    /// Whether a process may have run since its run time was `run_time`, in nanoseconds.
    pub(crate) fn may_have_run(&self, pid: u32, run_time: u64) -> bool {
        self.proc.may_have_run(pid, run_time)
    }

    /// Whether [expected](DescriptorSearch::expect) processes have accepted connections.
    pub(crate) fn accepts_together(&self) -> bool {
        self.accepting > 0
    }

    /// The [expected](DescriptorSearch::expect) process that holds the socket `inode`.
    pub(crate) fn find_acceptor(&mut self, inode: Inode) -> Option<ProcessId> {
        // First the last descriptor of all of them, then the one after it: the socket may be closed
        // in a moment.
        let acceptors = &mut self.acceptors;
        let at = [0, 1].into_iter().find_map(|distance| {
            acceptors.iter_mut().position(|known| known.has_behind(distance, inode))
        })?;
        let known = self.acceptors.remove(at);
        self.accepting += usize::from(at >= self.accepting);
        let found = known.id;
        self.acceptors.insert(self.accepting - 1, known);
        Some(found)
    }

    /// Reads the next sockets of the two likeliest processes in advance: a socket may be closed before
    /// it is searched.
    pub(crate) fn peek(&mut self) {
        self.peeked.clear();
        let last = self.recent_holders.front();
        // The youngest, but not endlessly: it may never have a socket.
        let young = self.young.front_mut().filter(|young| young.peeks < PEEKS);
        let young = young.and_then(|young| {
            young.peeks += 1;
            young.known.as_ref()
        });
        for known in last.into_iter().chain(young) {
            if let Some(inode) = known.descriptors.socket(known.last) {
                self.peeked.push((Inode(inode), known.id, known.last));
            }
        }
    }

    /// The process that held the socket `inode` at the last peek or before.
    pub(crate) fn find_at_once(&mut self, inode: Inode) -> Option<ProcessId> {
        let peeked = self.peeked.iter().find(|(seen, ..)| *seen == inode);
        if let Some(&(_, id, last)) = peeked {
            let of = |known: &KnownProcess| known.id == id;
            let at = match self.recent_holders.iter().position(of) {
                Some(at) => at,
                None => {
                    let young = |young: &Young| young.known.as_ref().is_some_and(of);
                    let at = self.young.iter().position(young)?;
                    let known = self.young.remove(at)?.known?;
                    self.remember(known);
                    0
                }
            };
            return self.found_at(at, inode, last);
        }
        let at = self.where_it_was(inode)?;
        self.found_near(at, inode)
    }

    fn found_at(&mut self, at: usize, inode: Inode, last: u32) -> Option<ProcessId> {
        let known = KnownProcess { last, ..self.recent_holders.remove(at)? };
        if self.places.len() >= PLACES {
            self.places.clear();
        }
        self.places.insert(inode, (known.id.pid, last));
        let found = known.id;
        self.recent_holders.push_front(known);
        Some(found)
    }

    /// The likely process that holds the socket `inode` of the network namespace `netns`, at a cost of a few
    /// microseconds.
    pub(crate) fn find_near(&mut self, inode: Inode, netns: Option<NetnsId>) -> Option<ProcessId> {
        let at = self.at_hand(inode, netns, 0..NEAREST)?;
        self.found_near(at, inode)
    }

    /// The process among all others than [the likely ones](DescriptorSearch::find_near) that holds the socket
    /// `inode` of the network namespace `netns`, which `user` has made. `now` refills the budget of links.
    pub(crate) fn find_far(
        &mut self,
        inode: Inode,
        user: u32,
        netns: Option<NetnsId>,
        now: Instant,
    ) -> Option<ProcessId> {
        if let Some(refilled) = self.refilled {
            let passed = now.saturating_duration_since(refilled).min(Duration::from_secs(1));
            self.links += passed.as_secs_f64() * LINKS_PER_SECOND;
            self.links = self.links.min(LINKS_AT_ONCE);
        }
        self.refilled = Some(now);
        if self.links <= 0.0 {
            return None;
        }
        // Two links each; the nearest ones, which are checked in any case, cost nothing.
        self.links -= 2.0 * (self.recent_holders.len() + self.young.len().min(YOUNG_OPEN)) as f64;
        let at = self
            .at_hand(inode, netns, NEAREST..YOUNG_OPEN)
            .or_else(|| self.among_the_young(inode, netns))
            .or_else(|| self.among_recent_holders(inode))
            .or_else(|| self.among_all(inode, user))?;
        self.found_near(at, inode)
    }

    fn found_near(&mut self, at: usize, inode: Inode) -> Option<ProcessId> {
        let last = self.recent_holders.get(at)?.last;
        self.found_at(at, inode, last)
    }

    fn know(&mut self, pid: u32, parent: Option<u32>) -> Option<KnownProcess> {
        let descriptors = self.proc.descriptors(pid).ok()?;
        self.know_by(descriptors, pid, parent)
    }

    fn know_by(
        &mut self,
        descriptors: Descriptors,
        pid: u32,
        parent: Option<u32>,
    ) -> Option<KnownProcess> {
        let (start_time, comm) = descriptors.stat().ok()?;
        let id = ProcessId { start_time, pid };
        let Missing { command_line, label } = self.names.missing(id);
        if command_line || label {
            let program = self.names.program(id);
            let cmdline = descriptors.cmdline().unwrap_or_default();
            self.names.read(id, program, &cmdline, &comm);
            // A process that is ending has freed its command line; that of a copy was its parent's.
            if !self.names.has_command_line(id)
                && let Some(parent) = parent.and_then(|parent| self.command_line_of(parent, &comm))
            {
                self.names.read(id, program, &parent, &comm);
            }
            if !self.labels.is_empty() {
                let labelled = self.labels.of(&self.proc, pid, &cmdline, &comm);
                self.names.label(id, program, labelled);
            }
        }
        let netns = descriptors.netns();
        let last = lowest_free(&descriptors.numbers(&mut self.buffer));
        Some(KnownProcess { id, descriptors, netns, last })
    }

    /// The raw command line of `pid`, if `copy` still runs the same program.
    fn command_line_of(&mut self, pid: u32, copy: &[u8]) -> Option<Vec<u8>> {
        let parent = self.proc.descriptors(pid).ok()?;
        let (_, comm) = parent.stat().ok()?;
        parent.cmdline().ok().filter(|cmdline| comm == copy && !cmdline.is_empty())
    }

    /// Reads the label of a process that has just called exec, if labels are asked for.
    pub(crate) fn label(&mut self, id: ProcessId) {
        if self.labels.is_empty() || !self.names.missing(id).label {
            return;
        }
        let program = self.names.program(id);
        let Ok((start_time, comm)) = self.proc.stat(id.pid) else { return };
        let Ok(cmdline) = self.proc.cmdline(id.pid) else { return };
        if start_time == id.start_time && !cmdline.is_empty() {
            let labelled = self.labels.of(&self.proc, id.pid, &cmdline, &comm);
            self.names.label(id, program, labelled);
        }
    }
}

/// The descriptor of this socket, and the number of links that were read.
fn descriptor(
    descriptors: &Descriptors,
    inode: Inode,
    buffer: &mut Vec<u8>,
) -> (Option<u32>, usize) {
    let mut links = 2; // the listing
    let found = descriptors.numbers(buffer).into_iter().find(|number| {
        links += 1;
        descriptors.socket(*number) == Some(inode.0)
    });
    (found, links)
}

/// The lowest number that is not among `numbers`, which are in descending order.
fn lowest_free(numbers: &[u32]) -> u32 {
    numbers
        .iter()
        .rev()
        .zip(0..)
        .find(|(number, at)| *number != at)
        .map_or(numbers.len() as u32, |(_, at)| at)
}

fn spend(left: &mut f64, (found, links): (Option<u32>, usize)) -> Option<u32> {
    *left -= links as f64;
    found
}

#[cfg(test)]
mod tests;
