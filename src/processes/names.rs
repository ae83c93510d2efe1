//! What processes are named, from their beginning until well after their end.
//!
//! A name that was read once stays until exec or a new title. A process that is ending, and a zombie, have
//! no command line any more: that never replaces anything. A copy has the name of its parent.
//!
//! One table serves the thread that is told of processes and the look that accounts their bytes. Whoever
//! comes first takes what the kernel has reported, so that a look never waits for the thread.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::events::Event;
use super::label::{self, LabelBy};
use super::{Described, Label, ProcessId, describe};
use crate::brief::shortened;
use crate::ebpf::{ProcessEvent, ProcessReader, Started, Wake, What};
use crate::netns::NetnsId;
use crate::traffic::Name;

type Map<K, V> = HashMap<K, V, RandomState>;

/// For how many looks the name of an ended process is kept at the least: counters are read before processes
/// are listed, so that the last bytes may come a look later.
const LOOKS: u32 = 2;
/// Names of ended processes that are kept beyond that, and their bytes.
const ENDED: usize = 4096;
const ENDED_BYTES: usize = 1 << 20;
/// And in any case.
const MOST_ENDED: usize = 1 << 18;
/// Bytes of all names, those of processes that live too. A name has up to 64 KiB, and a user without privileges can
/// give each process another one that takes no memory of its own (`PR_SET_MM_MAP`).
const MOST_BYTES: usize = 64 << 20;
/// What is left of a long name where bytes are short. The longest are cut first, so no process loses its name
/// because others have long ones.
const SHORT: usize = MOST_BYTES / MOST_ENDED;
/// How many events wait for the thread.
const WAITING: usize = 1 << 16;
/// How many parents are asked for a name.
const GENERATIONS: usize = 16;

/// An event as the thread is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// What happened.
    pub event: Event,
    /// The process.
    pub process: ProcessId,
    /// Its network namespace, if it is in one.
    pub netns: Option<NetnsId>,
}

/// The name of a process, and what it was made of.
#[derive(Clone, Debug)]
struct Named {
    described: Described,
    /// The short name of its program.
    comm: Name,
    /// Whether the command line is one, not the short name in brackets.
    has_command_line: bool,
}

impl Named {
    fn new(cmdline: &[u8], comm: &[u8], label: Option<Label>) -> Named {
        let command_line = describe::command_line(cmdline, comm);
        let described = Described { command_line, label };
        Named { described, comm: comm.into(), has_command_line: !cmdline.is_empty() }
    }

    /// Bytes of the command line, and of the label, which may be made of it.
    fn lengths(&self) -> [usize; 2] {
        let Described { command_line, label } = &self.described;
        [command_line.len(), label.as_ref().map_or(0, |label| label.name.len())]
    }

    fn cut(&mut self) {
        let Described { command_line, label } = &mut self.described;
        *command_line = shortened(command_line, SHORT);
        label.iter_mut().for_each(|label| label.name = shortened(&label.name, SHORT));
    }
}

#[derive(Debug, Default)]
struct Entry {
    named: Option<Named>,
    /// Whether its label belongs to this program.
    labelled: bool,
    /// Whether it has called exec since its name was read.
    stale: bool,
    /// Whose copy it is, while that one has no name yet.
    parent: Option<ProcessId>,
    /// The process that had its number before.
    before: Option<ProcessId>,
    /// How often it was seen to call exec.
    execs: u32,
    ended: bool,
    /// What its name adds to the bytes of all.
    bytes: usize,
    /// Where it stands among the long ones, if its name is long.
    long: Option<Place>,
}

/// The order in which names are cut, the last one first: the number of bits of the length, and when it was given.
/// Of names that are about as long the newest is cut.
type Place = (u32, u64);

/// What is still missing of a process's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) command_line: bool,
    pub(super) label: bool,
}

#[derive(Debug, Default)]
struct Table {
    /// `None` where the kernel refuses it.
    reader: Option<ProcessReader>,
    /// Whether every start, exec and exit is reported.
    reported: bool,
    look: u32,
    processes: Map<ProcessId, Entry>,
    /// The process that had a number last.
    numbers: Map<u32, ProcessId>,
    /// The ended ones in their order, and the look at which they ended.
    ended: VecDeque<(ProcessId, u32)>,
    ended_bytes: usize,
    /// Bytes of the names of all.
    bytes: usize,
    /// Those whose names can be cut.
    long: BTreeMap<Place, ProcessId>,
    /// How many long names were given.
    given: u64,
    /// Living processes whose names were cut.
    cut: HashSet<ProcessId, RandomState>,
    /// Where starts are not reported: whose copy has a number, its name at that time, and the look.
    copies: Map<u32, (u32, Option<Named>, u32)>,
    /// For the thread, if it wants them.
    announced: Option<Vec<Announced>>,
    announced_lost: bool,
    /// How many events the ring had no room for.
    lost: u64,
    /// Whether events were lost, so that all has to be read again.
    doubt: bool,
    labels: Vec<LabelBy>,
}

/// The table of names. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub struct Names {
    table: Arc<Mutex<Table>>,
}

impl Names {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every entry is whole by itself.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the kernel report processes from now on, where it and this user's rights allow that. Returns
    /// whether they do.
    pub fn listen(&self, proc: &Path) -> bool {
        let reader = ProcessReader::open(proc).ok();
        let mut table = self.table();
        table.reported = reader.is_some();
        table.reader = reader;
        table.reported
    }

    /// Whether the kernel reports processes with their names.
    pub fn are_reported(&self) -> bool {
        self.table().reported
    }

    /// Keeps events for a thread, and hands on what becomes readable with those for which it wants to be
    /// woken. `None` where the kernel reports none.
    pub fn announce<T>(&self, wake: Wake, wait: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        let mut table = self.table();
        table.announced.get_or_insert_default();
        let reader = table.reader.as_mut()?;
        let _ = reader.wake_for(wake);
        Some(wait(reader.as_fd()))
    }

    /// What happened since this was asked last, in its order, and whether some of it was lost.
    pub fn announced(&self) -> (Vec<Announced>, bool) {
        let mut table = self.table();
        table.drain();
        let lost = std::mem::take(&mut table.announced_lost);
        (table.announced.as_mut().map(std::mem::take).unwrap_or_default(), lost)
    }

    /// Takes everything that the kernel has reported.
    pub fn drain(&self) {
        self.table().drain();
    }

    /// Begins a look: what ended long ago is forgotten.
    pub fn begin_look(&self) {
        let mut table = self.table();
        table.drain();
        table.look = table.look.wrapping_add(1);
        table.forget();
    }

    pub(super) fn label_by(&self, labels: &[LabelBy]) {
        self.table().labels = labels.to_vec();
    }

    /// What a process is or was named; `None` if nothing is known of it.
    pub fn described(&self, id: ProcessId) -> Option<Described> {
        self.table().named(id).map(|named| named.described.clone())
    }

    /// Whether a process is known by its command line, not by its short name alone.
    pub(super) fn has_command_line(&self, id: ProcessId) -> bool {
        self.table().named(id).is_some_and(|named| named.has_command_line)
    }

    /// The process that had this number at a time, in clock ticks since boot.
    pub fn by_number(&self, pid: u32, at: u64) -> Option<ProcessId> {
        let table = self.table();
        let mut id = table.numbers.get(&pid).copied();
        while let Some(found) = id.filter(|id| id.start_time > at) {
            id = table.processes.get(&found).and_then(|entry| entry.before);
        }
        id
    }

    /// The kernel has seen a process with this short name.
    pub fn seen(&self, id: ProcessId, comm: &[u8]) {
        let mut table = self.table();
        // Its start may be reported by now.
        table.drain();
        let is_new = !table.processes.contains_key(&id);
        table.take(id, None, &[], comm);
        if is_new && table.reported {
            // The exit of a process that has no entry has been reported: nothing else would end this one.
            table.end(id);
        }
    }

    /// What there is to read of a process that is listed.
    pub(super) fn missing(&self, id: ProcessId) -> Missing {
        let mut table = self.table();
        let command_line = table.named(id).is_none_or(|named| !named.has_command_line)
            || table.processes.get(&id).is_some_and(|entry| entry.stale);
        let labels = !table.labels.is_empty();
        let label = labels && table.processes.get(&id).is_none_or(|entry| !entry.labelled);
        Missing { command_line, label }
    }

    /// How often a process was seen to call exec: what is read of it belongs to that program.
    pub(super) fn program(&self, id: ProcessId) -> u32 {
        self.table().processes.get(&id).map_or(0, |entry| entry.execs)
    }

    /// What was read of a process, as the program that it was.
    pub(super) fn read(&self, id: ProcessId, program: u32, cmdline: &[u8], comm: &[u8]) {
        let mut table = self.table();
        // Another program may have begun while this was read.
        table.drain();
        table.take(id, Some(program), cmdline, comm);
    }

    /// The label that was read of a process, as the program that it was.
    pub(super) fn label(&self, id: ProcessId, program: u32, label: Option<Label>) {
        let mut table = self.table();
        let Some(entry) = table.processes.get_mut(&id).filter(|entry| entry.execs == program)
        else {
            return;
        };
        entry.labelled = true;
        if let Some(named) = &mut entry.named
            && named.described.label != label
        {
            named.described.label = label;
            table.weigh(id);
        }
    }

    /// Living processes whose names were cut since this was asked last, because all names together took too
    /// many bytes. Whoever keeps the whole name keeps its memory.
    pub fn take_cut(&self) -> Vec<ProcessId> {
        self.table().cut.drain().collect()
    }

    /// A process is not listed any more.
    pub(super) fn ended(&self, id: ProcessId) {
        self.table().end(id);
    }

    /// How many events were lost since this was asked last, because they were not taken in time.
    pub fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.table().lost)
    }

    /// Whether all has to be read again, because events were lost since this was asked last.
    pub(super) fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.table().doubt)
    }

    /// All processes but these have ended, where that was not reported.
    pub(super) fn keep(&self, there: &HashSet<ProcessId, RandomState>) {
        let mut table = self.table();
        let living = table.processes.iter().filter(|(_, entry)| !entry.ended).map(|(id, _)| *id);
        let gone: Vec<ProcessId> = living.filter(|id| !there.contains(id)).collect();
        gone.into_iter().for_each(|id| table.end(id));
    }

    /// An event that doesn't say when the process started.
    pub fn notice(&self, event: Event) {
        let mut table = self.table();
        match event {
            Event::Fork { parent, pid } => {
                let of = table.numbers.get(&parent).copied();
                let copied = table.copies.get(&parent).and_then(|(_, named, _)| named.clone());
                let named = copied.or_else(|| of.and_then(|of| table.named(of)).cloned());
                let look = table.look;
                table.copies.insert(pid, (parent, named, look));
            }
            Event::Exec { pid } => {
                table.copies.remove(&pid);
                let id = table.numbers.get(&pid).copied();
                if let Some(entry) = id.and_then(|id| table.processes.get_mut(&id)) {
                    entry.execs += 1;
                    entry.labelled = false;
                    entry.stale = true;
                }
            }
            Event::Exit { pid } => {
                if let Some(id) = table.numbers.get(&pid).copied() {
                    table.end(id);
                }
            }
        }
    }
}

impl Table {
    fn drain(&mut self) {
        let Some(mut reader) = self.reader.take() else { return };
        reader.drain(|event| self.apply(&event));
        let lost = reader.take_lost();
        if lost > 0 {
            self.lost += lost;
            self.doubt = true;
            self.announced_lost = true;
        }
        self.reader = Some(reader);
    }

    fn apply(&mut self, event: &ProcessEvent<'_>) {
        let id = identity(event.process);
        let pid = id.pid;
        let told = match event.what {
            What::Fork(parent) => {
                let of = identity(parent);
                let named = self.named(of).cloned();
                let labelled = self.processes.get(&of).is_some_and(|entry| entry.labelled);
                let entry = self.entry(id);
                entry.parent = named.is_none().then_some(of);
                (entry.named, entry.labelled) = (named, labelled);
                self.weigh(id);
                Event::Fork { parent: parent.pid, pid }
            }
            What::Exec(arguments) => {
                let by_program = self.labels.first() == Some(&LabelBy::Program);
                let label = match self.labels.first() {
                    Some(LabelBy::Program) => {
                        let program = |arguments| label::program(arguments, event.name).into();
                        arguments.map(|of| Label { name: program(of), chosen: true })
                    }
                    Some(LabelBy::Exe) => None,
                    // Users, units and containers hardly ever change with the program.
                    _ => self.named(id).and_then(|named| named.described.label.clone()),
                };
                let entry = self.entry(id);
                entry.execs += 1;
                entry.parent = None;
                entry.labelled = by_program && arguments.is_some();
                // Where it could not be read here it is read in `/proc`, soon.
                entry.named = Some(Named::new(arguments.unwrap_or_default(), event.name, label));
                self.weigh(id);
                Event::Exec { pid }
            }
            What::Exit(title) => {
                let title = title.unwrap_or_default();
                if !title.is_empty() || !self.processes.contains_key(&id) {
                    self.take(id, None, title, event.name);
                }
                self.end(id);
                Event::Exit { pid }
            }
        };
        if let Some(announced) = &mut self.announced {
            if announced.len() >= WAITING {
                self.announced_lost = true;
                return;
            }
            let netns = event.netns.map(NetnsId);
            announced.push(Announced { event: told, process: id, netns });
        }
    }

    fn entry(&mut self, id: ProcessId) -> &mut Entry {
        let Table { processes, numbers, .. } = self;
        processes.entry(id).or_insert_with(|| {
            let before = numbers.get(&id.pid).copied();
            if before.is_none_or(|before| before < id) {
                numbers.insert(id.pid, id);
            }
            Entry { before: before.filter(|before| *before < id), ..Entry::default() }
        })
    }

    /// The name of a process, or of the one whose copy it is.
    fn named(&mut self, id: ProcessId) -> Option<&Named> {
        let (mut of, mut entry) = (id, self.processes.get(&id));
        for _ in 0..GENERATIONS {
            let Some(known) = entry else { break };
            let Some(parent) = known.parent.filter(|_| known.named.is_none()) else { break };
            (of, entry) = (parent, self.processes.get(&parent));
        }
        let found = entry?.named.as_ref()?;
        if of == id {
            return self.processes.get(&id)?.named.as_ref();
        }
        let found = found.clone();
        let entry = self.processes.get_mut(&id)?;
        entry.parent = None;
        entry.named = Some(found);
        self.weigh(id);
        self.processes.get(&id)?.named.as_ref()
    }

    /// Counts the bytes of a process's name, which is another one now. Where all take too many, the longest are
    /// cut.
    fn weigh(&mut self, id: ProcessId) {
        self.count(id);
        while self.bytes > MOST_BYTES
            && let Some((_, longest)) = self.long.pop_last()
        {
            let Some(entry) = self.processes.get_mut(&longest) else { continue };
            entry.long = None;
            entry.named.iter_mut().for_each(Named::cut);
            if !entry.ended {
                self.cut.insert(longest);
            }
            self.count(longest);
        }
    }

    fn count(&mut self, id: ProcessId) {
        let Some(entry) = self.processes.get_mut(&id) else { return };
        let lengths = entry.named.as_ref().map_or([0; 2], Named::lengths);
        let bytes: usize = lengths.iter().sum();
        let is_long = lengths.iter().any(|length| *length > SHORT);
        if bytes == entry.bytes && is_long == entry.long.is_some() {
            return; // it was read again, and keeps its place
        }
        let before = std::mem::replace(&mut entry.bytes, bytes);
        self.bytes = self.bytes - before + bytes;
        if entry.ended {
            self.ended_bytes = self.ended_bytes - before + bytes;
        }
        if let Some(place) = entry.long.take() {
            self.long.remove(&place);
        }
        if is_long {
            self.given += 1;
            let place = (bytes.ilog2(), self.given);
            entry.long = Some(place);
            self.long.insert(place, id);
        }
    }

    /// Takes what a process was seen to be named, unless it was another program by then.
    fn take(&mut self, id: ProcessId, program: Option<u32>, cmdline: &[u8], comm: &[u8]) {
        let copy = match self.processes.get(&id) {
            Some(_) => None,
            None => self.copied(id.pid).filter(|copied| *copied.comm == *comm),
        };
        self.named(id);
        self.take_name(id, program, cmdline, comm, copy);
        self.weigh(id);
    }

    fn take_name(
        &mut self,
        id: ProcessId,
        program: Option<u32>,
        cmdline: &[u8],
        comm: &[u8],
        copy: Option<Named>,
    ) {
        let entry = self.entry(id);
        if program.is_some_and(|program| program != entry.execs) {
            return;
        }
        if cmdline.is_empty() && entry.parent.is_some() && program.is_some() {
            return; // its parent may be read in a moment
        }
        entry.named = entry.named.take().or(copy);
        let stale = std::mem::take(&mut entry.stale);
        // Where it was not seen which program this is, its short name tells whether it is the same.
        let keeps = |named: &Named| named.has_command_line && !(stale && *named.comm != *comm);
        if cmdline.is_empty() && entry.named.as_ref().is_some_and(keeps) {
            return;
        }
        let label = entry.named.as_ref().and_then(|named| named.described.label.clone());
        let named = Named::new(cmdline, comm, label);
        let same = |before: &Named| before.described.command_line == named.described.command_line;
        if !entry.named.as_ref().is_some_and(same) {
            entry.named = Some(named);
        } else if let Some(before) = &mut entry.named {
            before.has_command_line = named.has_command_line;
            if before.comm != named.comm {
                before.comm = named.comm;
            }
        }
    }

    /// The name of the process whose copy has this number.
    fn copied(&mut self, pid: u32) -> Option<Named> {
        let (parent, named, _) = self.copies.get(&pid)?;
        let parent = *parent;
        let named = named.clone();
        let of = self.numbers.get(&parent).copied();
        named.or_else(|| of.and_then(|of| self.named(of)).cloned())
    }

    fn end(&mut self, id: ProcessId) {
        let look = self.look;
        // Its name is asked for later, when its parent's may be gone.
        self.named(id);
        let Some(entry) = self.processes.get_mut(&id).filter(|entry| !entry.ended) else { return };
        entry.ended = true;
        self.ended.push_back((id, look));
        self.ended_bytes += entry.bytes;
        if self.ended.len() > MOST_ENDED {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let look = self.look;
        self.copies.retain(|_, (.., told)| look.wrapping_sub(*told) <= LOOKS);
        while let Some((id, ended)) = self.ended.front().copied() {
            let many = self.ended.len() > ENDED || self.ended_bytes > ENDED_BYTES;
            let too_many = self.ended.len() > MOST_ENDED;
            if !(too_many || many && look.wrapping_sub(ended) > LOOKS) {
                break;
            }
            self.ended.pop_front();
            let Some(Entry { bytes, long, .. }) = self.processes.remove(&id) else { continue };
            self.ended_bytes -= bytes;
            self.bytes -= bytes;
            if let Some(place) = long {
                self.long.remove(&place);
            }
            if self.numbers.get(&id.pid) == Some(&id) {
                self.numbers.remove(&id.pid);
            }
        }
    }
}

fn identity(process: Started) -> ProcessId {
    ProcessId { start_time: process.start, pid: process.pid }
}

#[cfg(test)]
mod tests;
