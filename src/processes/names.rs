//! The names of processes, from their start until well after their end.
//!
//! A name that was read stays until exec or a new title. A process that is ending, and a zombie, have no
//! command line any more, which replaces nothing. A copy has the name of its parent.
//!
//! The tracker's thread and the looks share one table. The first that needs events takes them from the kernel,
//! so that a look never waits for the thread.

mod table;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::events::Event;
use super::label::{Labelled, Labelling};
use super::{Described, ProcessId};
use crate::ebpf::{ProcessReader, Wake};
use crate::netns::NetnsId;
use table::Table;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Number of looks for which the name of an ended process is kept at least: counters are read before
/// processes are listed, so that the last bytes may come a look later.
const LOOKS: u32 = 2;
/// Names of ended processes that are kept beyond that, and their bytes.
const ENDED: usize = 4096;
const ENDED_BYTES: usize = 1 << 20;
/// Maximum number of names of ended processes.
const MOST_ENDED: usize = 1 << 18;
/// Maximum bytes of all names. A name has up to 64 KiB, and a user without privileges can give each process another
/// one that takes no memory of its own (`PR_SET_MM_MAP`).
const MOST_BYTES: usize = 64 << 20;
/// Bytes that are kept of a long name if all take too many. The longest are cut first, so no
/// process loses its name because others have long ones.
const SHORT: usize = MOST_BYTES / MOST_ENDED;
/// Number of events that wait for the thread.
const WAITING: usize = 1 << 16;
/// Number of ancestors that are searched for a name.
const GENERATIONS: usize = 16;

/// An event for the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The event.
    pub event: Event,
    /// The process.
    pub process: ProcessId,
    /// Its network namespace, if it has one.
    pub netns: Option<NetnsId>,
}

/// The parts of a process's description that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) command_line: bool,
    pub(super) label: bool,
}

/// The table of names. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    table: Arc<Mutex<Table>>,
}

impl Names {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every entry is complete by itself.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to process events, if the kernel and this user's privileges allow it. Returns whether
    /// they do.
    pub(crate) fn listen(&self, proc: &Path) -> bool {
        let reader = ProcessReader::open(proc).ok();
        let mut table = self.table();
        table.reported = reader.is_some();
        table.reader = reader;
        table.reported
    }

    /// Whether the kernel reports processes with their names.
    pub(crate) fn are_reported(&self) -> bool {
        self.table().reported
    }

    /// Queues events for a thread, and hands on the descriptor that becomes readable for those of
    /// `wake`. `None` if the kernel reports none.
    pub(crate) fn announce<T>(
        &self,
        wake: Wake,
        wait: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Option<T> {
        let mut table = self.table();
        table.announced.get_or_insert_default();
        let reader = table.reader.as_mut()?;
        let _ = reader.wake_for(wake);
        Some(wait(reader.as_fd()))
    }

    /// The events since the last call, in order, and whether some were lost.
    pub(crate) fn announced(&self) -> (Vec<Announced>, bool) {
        let mut table = self.table();
        table.drain();
        let lost = std::mem::take(&mut table.announced_lost);
        (table.announced.as_mut().map(std::mem::take).unwrap_or_default(), lost)
    }

    /// Takes all events from the kernel.
    pub(crate) fn drain(&self) {
        self.table().drain();
    }

    /// Starts a look: forgets processes that ended long ago.
    pub(crate) fn begin_look(&self) {
        let mut table = self.table();
        table.drain();
        table.look = table.look.wrapping_add(1);
        table.forget();
    }

    pub(super) fn label_by(&self, labelling: &Labelling) {
        self.table().labelling = labelling.clone();
    }

    /// The command line and label of a process; `None` if nothing is known of it.
    pub(crate) fn described(&self, id: ProcessId) -> Option<Described> {
        self.table().named(id).map(|named| named.described.clone())
    }

    /// Whether a process's command line is known, and not only its short name.
    pub(super) fn has_command_line(&self, id: ProcessId) -> bool {
        self.table().named(id).is_some_and(|named| named.has_command_line)
    }

    /// The process that had this pid at a time, in clock ticks since boot.
    pub(crate) fn by_number(&self, pid: u32, at: u64) -> Option<ProcessId> {
        let table = self.table();
        let mut id = table.numbers.get(&pid).copied();
        while let Some(found) = id.filter(|id| id.start_time > at) {
            id = table.processes.get(&found).and_then(|entry| entry.before);
        }
        id
    }

    /// Adds a process that the kernel has seen with this short name.
    pub(crate) fn seen(&self, id: ProcessId, comm: &[u8]) {
        let mut table = self.table();
        // Its start may be reported by now.
        table.drain();
        let is_new = !table.processes.contains_key(&id);
        table.take(id, None, &[], comm);
        if is_new && table.reported {
            // The exit of a process without an entry was reported already: nothing else would end
            // this entry.
            table.end(id);
        }
    }

    /// The parts to read of a process that is listed.
    pub(super) fn missing(&self, id: ProcessId) -> Missing {
        let mut table = self.table();
        let command_line = table.named(id).is_none_or(|named| !named.has_command_line)
            || table.processes.get(&id).is_some_and(|entry| entry.stale);
        let labels = !table.labelling.is_empty();
        let label = labels && table.processes.get(&id).is_none_or(|entry| !entry.labelled);
        Missing { command_line, label }
    }

    /// Number of times that a process was seen to call exec, which identifies its program.
    pub(super) fn program(&self, id: ProcessId) -> u32 {
        self.table().processes.get(&id).map_or(0, |entry| entry.execs)
    }

    /// Adds what was read of a process while it ran this program.
    pub(super) fn read(&self, id: ProcessId, program: u32, cmdline: &[u8], comm: &[u8]) {
        let mut table = self.table();
        // It may have called exec while this was read.
        table.drain();
        table.take(id, Some(program), cmdline, comm);
    }

    /// Adds the label and the attributes that were read of a process while it ran this program.
    pub(super) fn label(&self, id: ProcessId, program: u32, labelled: Labelled) {
        let mut table = self.table();
        let Some(entry) = table.processes.get_mut(&id).filter(|entry| entry.execs == program)
        else {
            return;
        };
        entry.labelled = true;
        if let Some(named) = &mut entry.named
            && !named.is_labelled(&labelled)
        {
            let Labelled { label, attributes } = labelled;
            named.described.label = label;
            named.described.attributes = attributes;
            table.weigh(id);
        }
    }

    /// Living processes whose names were cut since the last call, because all names together took too many
    /// bytes. A copy of the whole name would keep its memory.
    pub(crate) fn take_cut(&self) -> Vec<ProcessId> {
        self.table().cut.drain().collect()
    }

    /// A process is no longer listed.
    pub(super) fn ended(&self, id: ProcessId) {
        self.table().end(id);
    }

    /// Number of events that were lost since the last call, because they were not taken in time.
    pub(crate) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.table().lost)
    }

    /// Whether everything has to be read again, because events were lost since the last call.
    pub(super) fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.table().doubt)
    }

    /// Ends all processes except these, if their end was not reported.
    pub(super) fn keep(&self, there: &HashSet<ProcessId, RandomState>) {
        let mut table = self.table();
        let living = table.processes.iter().filter(|(_, entry)| !entry.ended).map(|(id, _)| *id);
        let gone: Vec<ProcessId> = living.filter(|id| !there.contains(id)).collect();
        gone.into_iter().for_each(|id| table.end(id));
    }

    /// Takes an event without the start time of its process.
    pub(crate) fn notice(&self, event: Event) {
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

#[cfg(test)]
mod tests;
