//! The table of names, and the effects of the kernel's events on it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::{
    Announced, ENDED, ENDED_BYTES, GENERATIONS, LOOKS, MOST_BYTES, MOST_ENDED, Map, SHORT, WAITING,
};
use crate::brief::shortened;
use crate::ebpf::{ProcessEvent, ProcessReader, Started, What};
use crate::model::Attributes;
use crate::model::traffic::Name;
use crate::netns::NetnsId;
use crate::processes::events::Event;
use crate::processes::label::{self, LabelBy, Labelled, Labelling};
use crate::processes::{Described, Label, ProcessId, describe};

/// The name of a process, and its parts.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) described: Described,
    /// The short name of its program.
    pub(super) comm: Name,
    /// Whether the command line is a real one, not the short name in brackets.
    pub(super) has_command_line: bool,
}

impl Named {
    pub(super) fn new(cmdline: &[u8], comm: &[u8], labelled: Labelled) -> Named {
        let command_line = describe::command_line(cmdline, comm);
        let Labelled { label, attributes } = labelled;
        let described = Described { command_line, label, attributes };
        Named { described, comm: comm.into(), has_command_line: !cmdline.is_empty() }
    }

    fn labelled(&self) -> Labelled {
        let Described { label, attributes, .. } = self.described.clone();
        Labelled { label, attributes }
    }

    /// Whether it has this label and these attributes.
    pub(super) fn is_labelled(&self, with: &Labelled) -> bool {
        self.described.label == with.label && self.described.attributes == with.attributes
    }

    /// Bytes of the command line, of the label, which may be a part of it, and of the attributes.
    pub(super) fn lengths(&self) -> [usize; 3] {
        let Described { command_line, label, attributes } = &self.described;
        let label = label.as_ref().map_or(0, |label| label.name.len());
        [command_line.len(), label, attributes.as_ref().map_or(0, |of| of.bytes())]
    }

    pub(super) fn cut(&mut self) {
        let Described { command_line, label, attributes } = &mut self.described;
        *command_line = shortened(command_line, SHORT);
        label.iter_mut().for_each(|label| label.name = shortened(&label.name, SHORT));
        if let Some(of) = attributes.as_mut().filter(|of| of.bytes() > SHORT) {
            let of = Arc::make_mut(of);
            // A process chooses these itself; the others have the lengths that the system gives them.
            for chosen in [&mut of.program, &mut of.exe] {
                *chosen = chosen.as_ref().map(|name| shortened(name, SHORT / 4));
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) named: Option<Named>,
    /// Whether its label belongs to this program.
    pub(super) labelled: bool,
    /// Whether it has called exec since its name was read.
    pub(super) stale: bool,
    /// The process of which it is a copy, until it has a name of its own.
    pub(super) parent: Option<ProcessId>,
    /// The process that had its pid before.
    pub(super) before: Option<ProcessId>,
    /// Number of times that it was seen to call exec.
    pub(super) execs: u32,
    pub(super) ended: bool,
    /// Bytes of its name.
    pub(super) bytes: usize,
    /// Its key among the long names, if its name is long.
    pub(super) long: Option<Place>,
}

/// The order in which names are cut, from the last: the number of bits of the length, and the time at which it
/// was given. Of names with similar lengths the newest is cut first.
pub(super) type Place = (u32, u64);

#[derive(Debug, Default)]
pub(super) struct Table {
    /// `None` if the kernel refuses it.
    pub(super) reader: Option<ProcessReader>,
    /// Whether every start, exec and exit is reported.
    pub(super) reported: bool,
    pub(super) look: u32,
    /// Boxed, because up to half of the map is empty.
    pub(super) processes: Map<ProcessId, Box<Entry>>,
    /// The last process with each pid.
    pub(super) numbers: Map<u32, ProcessId>,
    /// Ended processes in order, and the look at which they ended.
    pub(super) ended: VecDeque<(ProcessId, u32)>,
    pub(super) ended_bytes: usize,
    /// Bytes of all names.
    pub(super) bytes: usize,
    /// Processes whose names can be cut.
    pub(super) long: BTreeMap<Place, ProcessId>,
    /// Number of long names that were given.
    pub(super) given: u64,
    /// Living processes whose names were cut.
    pub(super) cut: HashSet<ProcessId, RandomState>,
    /// If starts are not reported: for each copied process the parent's pid, its name at that time,
    /// and the look.
    pub(super) copies: Map<u32, (u32, Option<Named>, u32)>,
    /// Events for the thread, if it wants them.
    pub(super) announced: Option<Vec<Announced>>,
    pub(super) announced_lost: bool,
    /// Number of events for which the ring had no room.
    pub(super) lost: u64,
    /// Whether events were lost, so that everything has to be read again.
    pub(super) doubt: bool,
    pub(super) labelling: Labelling,
}

impl Table {
    pub(super) fn drain(&mut self) {
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

    pub(super) fn apply(&mut self, event: &ProcessEvent<'_>) {
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
                let first = self.labelling.by.first();
                let by_program = first == Some(&LabelBy::Program) && !self.labelling.attributes;
                let label = match first {
                    Some(LabelBy::Program) => {
                        let program = |arguments| label::program(arguments, event.name).into();
                        arguments.map(|of| Label { name: program(of), chosen: true })
                    }
                    Some(LabelBy::Exe) => None,
                    // Users, units and containers hardly ever change with the program.
                    _ => self.named(id).and_then(|named| named.described.label.clone()),
                };
                let attributes = self.labelling.attributes.then(|| {
                    let before = self.named(id).and_then(|of| of.described.attributes.as_deref());
                    let before = before.cloned().unwrap_or_default();
                    let program =
                        arguments.map(|arguments| label::program(arguments, event.name).into());
                    Arc::new(Attributes { program, exe: None, ..before })
                });
                let labelled = Labelled { label, attributes };
                let entry = self.entry(id);
                entry.execs += 1;
                entry.parent = None;
                entry.labelled = by_program && arguments.is_some();
                // A command line that could not be read here is soon read in `/proc`.
                entry.named = Some(Named::new(arguments.unwrap_or_default(), event.name, labelled));
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

    pub(super) fn entry(&mut self, id: ProcessId) -> &mut Entry {
        let Table { processes, numbers, .. } = self;
        processes.entry(id).or_insert_with(|| {
            let before = numbers.get(&id.pid).copied();
            if before.is_none_or(|before| before < id) {
                numbers.insert(id.pid, id);
            }
            Box::new(Entry { before: before.filter(|before| *before < id), ..Entry::default() })
        })
    }

    /// The name of a process, or of the process of which it is a copy.
    pub(super) fn named(&mut self, id: ProcessId) -> Option<&Named> {
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

    /// Updates the bytes of a process's changed name. If all names take too many bytes, the longest are cut.
    pub(super) fn weigh(&mut self, id: ProcessId) {
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

    pub(super) fn count(&mut self, id: ProcessId) {
        let Some(entry) = self.processes.get_mut(&id) else { return };
        let lengths = entry.named.as_ref().map_or([0; 3], Named::lengths);
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

    /// Takes a name that was read of a process, unless it was another program by then.
    pub(super) fn take(
        &mut self,
        id: ProcessId,
        program: Option<u32>,
        cmdline: &[u8],
        comm: &[u8],
    ) {
        let copy = match self.processes.get(&id) {
            Some(_) => None,
            None => self.copied(id.pid).filter(|copied| *copied.comm == *comm),
        };
        self.named(id);
        self.take_name(id, program, cmdline, comm, copy);
        self.weigh(id);
    }

    pub(super) fn take_name(
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
        // If it is unknown which program this is, its short name shows whether it is the same.
        let keeps = |named: &Named| named.has_command_line && !(stale && *named.comm != *comm);
        if cmdline.is_empty() && entry.named.as_ref().is_some_and(keeps) {
            return;
        }
        let labelled = entry.named.as_ref().map_or_else(Labelled::default, Named::labelled);
        let named = Named::new(cmdline, comm, labelled);
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

    /// The name of the process of which the one with this pid is a copy.
    pub(super) fn copied(&mut self, pid: u32) -> Option<Named> {
        let (parent, named, _) = self.copies.get(&pid)?;
        let parent = *parent;
        let named = named.clone();
        let of = self.numbers.get(&parent).copied();
        named.or_else(|| of.and_then(|of| self.named(of)).cloned())
    }

    pub(super) fn end(&mut self, id: ProcessId) {
        let look = self.look;
        // Its name is needed later, when its parent's may be gone.
        self.named(id);
        let Some(entry) = self.processes.get_mut(&id).filter(|entry| !entry.ended) else { return };
        entry.ended = true;
        self.ended.push_back((id, look));
        self.ended_bytes += entry.bytes;
        if self.ended.len() > MOST_ENDED {
            self.forget();
        }
    }

    pub(super) fn forget(&mut self) {
        let look = self.look;
        self.copies.retain(|_, (.., told)| look.wrapping_sub(*told) <= LOOKS);
        while let Some((id, ended)) = self.ended.front().copied() {
            let many = self.ended.len() > ENDED || self.ended_bytes > ENDED_BYTES;
            let too_many = self.ended.len() > MOST_ENDED;
            if !(too_many || many && look.wrapping_sub(ended) > LOOKS) {
                break;
            }
            self.ended.pop_front();
            let Some(entry) = self.processes.remove(&id) else { continue };
            let Entry { bytes, long, .. } = *entry;
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

pub(super) fn identity(process: Started) -> ProcessId {
    ProcessId { start_time: process.start, pid: process.pid }
}
