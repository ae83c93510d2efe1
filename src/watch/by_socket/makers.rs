//! Who made a socket, and who let go of it.

use crate::ebpf::Passing;
use crate::ledger::Ledger;
use crate::monitor::Share;
use crate::processes::{Described, Owners, ProcessId, command_line};
use crate::watch::{Map, flows};

/// Who the processes are that the kernel has seen in passing.
pub(super) struct Makers<'a> {
    pub(super) owners: &'a mut Owners,
    pub(super) witnessed: &'a mut Map<ProcessId, (Described, u32)>,
    pub(super) numbers: &'a Map<u32, ProcessId>,
    pub(super) copies: &'a Map<u32, (u32, u32)>,
    pub(super) looks: u32,
}

impl Makers<'_> {
    /// The process that had a number at a time, in clock ticks since boot. One that nobody has seen is
    /// called what its parent was if it was a copy, else by its short name.
    pub(super) fn find(&mut self, passing: &Passing, at: u64) -> ProcessId {
        if let Some(id) = self.known(passing.pid, at) {
            return id;
        }
        let id = ProcessId { start_time: at, pid: passing.pid };
        if !self.witnessed.contains_key(&id) {
            let parent = self.copies.get(&passing.pid).map(|(parent, _)| *parent);
            let parent = parent.and_then(|parent| self.known(parent, at));
            let described = parent
                .and_then(|parent| flows::described(parent, self.owners, self.witnessed))
                .unwrap_or_else(|| called(passing));
            self.witnessed.insert(id, (described, self.looks));
        }
        id
    }

    fn known(&self, pid: u32, at: u64) -> Option<ProcessId> {
        let seen = self.numbers.get(&pid).copied().filter(|id| id.start_time <= at);
        self.owners.by_number(pid, at).or(seen)
    }

    pub(super) fn credit(&mut self, ledger: &mut Ledger, share: &Share) {
        ledger.credit(share, || flows::described_or_unknown(share, self.owners, self.witnessed));
    }
}

/// A process of which nothing but its name is known.
fn called(passing: &Passing) -> Described {
    let end = passing.name.iter().position(|byte| *byte == 0).unwrap_or(passing.name.len());
    let name = passing.name.get(..end).unwrap_or_default();
    Described { command_line: command_line(&[], name), label: None }
}
