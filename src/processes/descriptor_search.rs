//! Whose a socket is, asked while its connection begins: it may be gone in a millisecond.
//!
//! Reading every descriptor of a host takes tens of milliseconds, so it is asked in the order of
//! likelihood, and stops at the first that has it: who had a socket at that place a moment ago, the
//! youngest processes, then, as long as there are links to spare, all others.

mod order;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustix::io::Errno;

use super::ProcessId;
use super::descriptors::{Descriptors, Proc};
use super::events::Event;
use super::label::{LabelBy, Labels};
use super::names::{Missing, Names};
use crate::netns::NetnsId;
use crate::sockets::Inode;

/// How many processes that had a socket lately are remembered with their descriptors.
const RECENT_HOLDERS: usize = 32;
/// How many processes that accept connections together are kept at hand.
const ACCEPTORS: usize = 64;
/// How many of the youngest processes are remembered, and of how many the descriptors are kept open.
const YOUNG: usize = 512;
const YOUNG_OPEN: usize = 128;
/// How many of them are asked for all their descriptors before older ones are for any.
const YOUNGEST: usize = 6;
/// How often a peek is taken at a young process.
const PEEKS: u32 = 4;
/// How many of either are asked whatever it costs.
const NEAREST: usize = 4;
/// How many sockets are remembered with the place at which they were found.
const PLACES: usize = 4096;

/// How many links may be read for what is unlikely: about 4 % of a processor, and 15 ms at once.
const LINKS_PER_SECOND: f64 = 20_000.0;
const LINKS_AT_ONCE: f64 = 8_192.0;
/// How many of them for one socket: it may be gone before everybody was asked. The next time it is
/// begun where this time has ended.
const LINKS_A_SOCKET: f64 = 1_024.0;

/// A process whose descriptors are at hand.
#[derive(Debug)]
struct KnownProcess {
    id: ProcessId,
    descriptors: Descriptors,
    netns: Option<NetnsId>,
    /// The descriptor that was its last socket, or would be its next.
    last: u32,
}

impl KnownProcess {
    /// Whether the socket is where the last one was, or behind it: a new one gets the lowest
    /// descriptor that is free.
    fn has_at_hand(&mut self, inode: Inode) -> bool {
        self.has_behind(0, inode) || self.has_behind(1, inode)
    }

    /// Whether the socket is so far behind the last one.
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
    /// Whose copy it is, as long as it is that.
    parent: Option<u32>,
    known: Option<KnownProcess>,
    peeks: u32,
}

/// Finds the process of a socket at once.
#[derive(Debug)]
pub(crate) struct DescriptorSearch {
    proc: Proc,
    labels: Labels,
    names: Names,
    /// The last one first.
    recent_holders: VecDeque<KnownProcess>,
    /// Those that may accept connections at a socket that several of them hold. Those that have come
    /// first, and among them the one that has waited longest: the kernel wakes them in turn.
    acceptors: Vec<KnownProcess>,
    /// How many of them have accepted any.
    accepting: usize,
    /// The youngest first.
    young: VecDeque<Young>,
    /// Those of which nothing was read yet.
    unread: Vec<u32>,
    /// The only network namespace that matters, if it is not all of them.
    only: Option<NetnsId>,
    /// What the last peek has shown.
    peeked: Vec<(Inode, ProcessId, u32)>,
    /// Where sockets were found: the process and its descriptor.
    places: HashMap<Inode, (u32, u32), RandomState>,
    links: f64,
    refilled: Option<Instant>,
    /// After which process the search among all goes on.
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
            only: None,
            peeked: Vec::new(),
            places: HashMap::default(),
            links: LINKS_AT_ONCE,
            refilled: None,
            turn: u32::MAX,
            buffer: Vec::with_capacity(32 * 1024),
        })
    }

    /// Leaves new processes of other network namespaces than this one alone: their sockets are not looked
    /// for.
    pub(crate) fn keep_to(&mut self, netns: Option<NetnsId>) {
        self.only = netns;
    }

    /// From now on processes are labelled by the first of these that they have.
    pub(crate) fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.names.label_by(&labels);
        self.labels = Labels::new(labels);
    }

    /// These processes accept connections at sockets that several of them hold: which of them has one
    /// will be asked soon.
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

    /// Takes notice of what has happened to a process.
    pub(crate) fn notice(&mut self, event: Event) {
        if !self.names.are_reported() {
            self.names.notice(event);
        }
        match event {
            Event::Fork { parent, pid } => {
                self.forget(pid);
                self.begin(pid, Some(parent));
            }
            Event::Exec { pid } => {
                self.forget(pid);
                self.begin(pid, None);
                self.unread.push(pid);
            }
            Event::Exit { pid } => self.forget(pid),
        }
    }

    /// Reads what there is to know of the processes that have become another program since this was
    /// called last, while they certainly live: soon, but not before somebody is looked for. Hands on
    /// each one's number and its network namespace.
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
        for old in self.young.iter_mut().skip(YOUNG_OPEN) {
            old.known = None;
        }
    }

    fn begin(&mut self, pid: u32, parent: Option<u32>) {
        self.young.push_front(Young { pid, parent, known: None, peeks: 0 });
        self.young.truncate(YOUNG);
    }

    fn forget(&mut self, pid: u32) {
        self.recent_holders.retain(|known| known.id.pid != pid);
        self.keep_acceptors(|acceptor| acceptor != pid);
        self.young.retain(|young| young.pid != pid);
    }

    /// Forgets every process, and closes what is open of them.
    pub(crate) fn clear(&mut self) {
        self.recent_holders.clear();
        self.acceptors.clear();
        self.accepting = 0;
        self.young.clear();
        self.unread.clear();
        self.peeked.clear();
        self.places.clear();
    }

    fn keep_acceptors(&mut self, kept: impl Fn(u32) -> bool) {
        let accepting = self.acceptors.iter().take(self.accepting);
        self.accepting = accepting.filter(|known| kept(known.id.pid)).count();
        self.acceptors.retain(|known| kept(known.id.pid));
    }

    /// Whether a process may have run since it had run for so long, in nanoseconds.
    pub(crate) fn may_have_run(&self, pid: u32, run_time: u64) -> bool {
        self.proc.may_have_run(pid, run_time)
    }

    /// Whether processes that were [expected](DescriptorSearch::expect) have accepted connections.
    pub(crate) fn accepts_together(&self) -> bool {
        self.accepting > 0
    }

    /// Which of the processes that were [expected](DescriptorSearch::expect) holds the socket `inode`.
    pub(crate) fn find_acceptor(&mut self, inode: Inode) -> Option<ProcessId> {
        // Where its last one was with all of them, before behind that: it may be closed in a moment.
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

    /// Looks where the two likeliest processes have their next sockets, before it is known which socket
    /// is looked for: in the meantime it may be closed.
    pub(crate) fn peek(&mut self) {
        self.peeked.clear();
        let last = self.recent_holders.front();
        // The youngest, but not for ever: it may never have one.
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

    /// Who was seen to hold the socket `inode`, at the last peek or before.
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

    /// Who of the likeliest holds the socket `inode`. It costs some microseconds at the most.
    pub(crate) fn find_near(&mut self, inode: Inode) -> Option<ProcessId> {
        let at = self.at_hand(inode, NEAREST)?;
        self.found_near(at, inode)
    }

    /// Who of all others holds the socket `inode` of the network namespace `netns`, which `user` has
    /// made. `now` says how much may be looked for.
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
        // Two links each; the nearest, who are asked in any case, are not paid for.
        self.links -= 2.0 * (self.recent_holders.len() + self.young.len().min(YOUNG_OPEN)) as f64;
        let at = self
            .at_hand(inode, YOUNG_OPEN)
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
            // A process that is ending has given its command line back; that of a copy was its parent's.
            if !self.names.has_command_line(id)
                && let Some(parent) = parent.and_then(|parent| self.command_line_of(parent, &comm))
            {
                self.names.read(id, program, &parent, &comm);
            }
            if !self.labels.is_empty() {
                let label = self.labels.of(&self.proc, pid, &cmdline, &comm);
                self.names.label(id, program, label);
            }
        }
        let netns = descriptors.netns();
        let last = lowest_free(&descriptors.numbers(&mut self.buffer));
        Some(KnownProcess { id, descriptors, netns, last })
    }

    /// The raw command line of `pid`, if its copy is still the same program.
    fn command_line_of(&mut self, pid: u32, copy: &[u8]) -> Option<Vec<u8>> {
        let parent = self.proc.descriptors(pid).ok()?;
        let (_, comm) = parent.stat().ok()?;
        parent.cmdline().ok().filter(|cmdline| comm == copy && !cmdline.is_empty())
    }

    /// Reads the label of a process that has just become another program, if there is any to read.
    pub(crate) fn label(&mut self, id: ProcessId) {
        if self.labels.is_empty() || !self.names.missing(id).label {
            return;
        }
        let program = self.names.program(id);
        let Ok((start_time, comm)) = self.proc.stat(id.pid) else { return };
        let Ok(cmdline) = self.proc.cmdline(id.pid) else { return };
        if start_time == id.start_time && !cmdline.is_empty() {
            let label = self.labels.of(&self.proc, id.pid, &cmdline, &comm);
            self.names.label(id, program, label);
        }
    }
}

/// The descriptor that is this socket, and how many links it took to know.
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

/// The lowest number that is not among `numbers`, which begin with the highest.
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
