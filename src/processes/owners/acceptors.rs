//! Who accepts connections at a listening socket.

use super::Owners;
use crate::processes::{ProcessId, describe};
use crate::sockets::Inode;

/// Who accepts at a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acceptors {
    /// The process to name, as in [`Owners::acceptor`].
    pub(crate) process: ProcessId,
    /// All that have its name.
    pub(crate) alike: Vec<u32>,
    /// Those that are not, and for how long each has run when it was noted last (in nanoseconds): as
    /// long as that is so, it has accepted nothing.
    pub(crate) resting: Vec<(u32, u64)>,
}

impl Acceptors {
    /// How many processes hold the socket.
    pub(crate) fn holders(&self) -> usize {
        self.alike.len() + self.resting.len()
    }
}

impl Owners {
    /// The only process that holds `inode`, if there is but one and nobody's descriptors are hidden.
    /// As it was at the beginning of this look: nobody is asked again.
    pub(crate) fn sole(&self, inode: Inode) -> Option<ProcessId> {
        if self.denied > 0 || !self.whole {
            return None;
        }
        let holders = self.holders.get(&inode)?;
        let pid = holders.first()?.pid;
        let sole = holders.iter().all(|holder| holder.pid == pid);
        self.processes.get(&pid).filter(|_| sole).map(|known| known.id)
    }

    /// Who has accepted a connection at one of these listening sockets since the look before: the
    /// only process that can have. Where several can, and they have one name, it is the
    /// youngest of them: the line is the same.
    ///
    /// Whoever holds a listening socket and has not run since can't have accepted: a parent that has
    /// forked its workers only holds it.
    pub(crate) fn acceptor(&mut self, listeners: impl Iterator<Item = Inode>) -> Option<ProcessId> {
        if self.denied > 0 || !self.whole {
            return None;
        }
        let pids = self.holders_of(listeners).into_iter();
        let ids = pids.filter_map(|pid| self.describe(pid)).collect();
        let ids = self.without_endings(ids);
        if self.have_one_name(&ids) {
            return ids.into_iter().max();
        }
        // Those that are known to have run first: if they differ, nobody else needs to be asked.
        let (mut ran, resting): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| self.ran.contains(id));
        if !self.have_one_name(&ran) {
            return None;
        }
        for id in resting {
            if self.may_have_run(id.pid) {
                self.ran.insert(id);
                ran.push(id);
            }
        }
        ran.iter().copied().max().filter(|_| self.have_one_name(&ran))
    }

    /// Without those that are about to end and have no command line any more, if they were the same
    /// program as one of the others: of a server that forks there is always one that has just ended.
    fn without_endings(&self, ids: Vec<ProcessId>) -> Vec<ProcessId> {
        let ending = |id: &ProcessId| !self.names.has_command_line(*id);
        let (mut ending, mut living): (Vec<_>, Vec<_>) = ids.into_iter().partition(ending);
        if !ending.is_empty() {
            let names = living.iter().filter_map(|id| self.proc.stat(id.pid).ok());
            let names: Vec<_> = names.map(|(_, comm)| describe::command_line(&[], &comm)).collect();
            let line = |id: &ProcessId| self.described(*id).map(|known| known.command_line);
            ending.retain(|id| !names.iter().any(|name| line(id).as_ref() == Some(name)));
            living.append(&mut ending);
        }
        living
    }

    /// Whether all of these have one name.
    fn have_one_name(&self, ids: &[ProcessId]) -> bool {
        let mut called = ids.iter().filter_map(|id| self.described(*id));
        let first = called.next();
        called.all(|described| Some(&described) == first.as_ref())
    }

    /// Who accepts at this listening socket: whoever is alone to hold it, or those that hold it and have
    /// run since the look before, if they all have one name.
    pub(crate) fn acceptors(&mut self, inode: Inode) -> Option<Acceptors> {
        if let Some(process) = self.sole(inode) {
            return Some(Acceptors { process, alike: vec![process.pid], resting: Vec::new() });
        }
        let process = self.acceptor(std::iter::once(inode))?;
        let (mut alike, mut resting) = (Vec::new(), Vec::new());
        for pid in self.holders_of(std::iter::once(inode)) {
            let known = self.processes.get(&pid)?;
            if self.described(known.id) == self.described(process) {
                alike.push(pid);
            } else {
                resting.push((pid, known.run_times[0]?));
            }
        }
        Some(Acceptors { process, alike, resting })
    }

    /// Takes note of which of these processes have run. To be called at the beginning of a look: a
    /// connection that is new at the look after it began later.
    pub(crate) fn note_run_times(&mut self, pids: &[u32]) {
        for pid in pids {
            let run_time = self.proc.run_time(*pid);
            if let Some(known) = self.processes.get_mut(pid) {
                known.run_times = [known.run_times[1], run_time];
            }
        }
    }

    fn may_have_run(&self, pid: u32) -> bool {
        let before = self.processes.get(&pid).and_then(|known| known.run_times[0]);
        before.is_none_or(|before| self.proc.may_have_run(pid, before))
    }

    /// Each process that holds any of these once.
    fn holders_of(&self, inodes: impl Iterator<Item = Inode>) -> Vec<u32> {
        let mut pids: Vec<u32> = inodes.flat_map(|inode| self.holders(inode)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The numbers of all processes that hold `inode`, as [`Owners::sole`].
    pub(crate) fn holders(&self, inode: Inode) -> impl Iterator<Item = u32> {
        self.holders.get(&inode).into_iter().flatten().map(|holder| holder.pid)
    }
}
