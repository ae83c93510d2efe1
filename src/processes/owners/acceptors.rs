//! The processes that accept connections at a listening socket.

use super::Owners;
use crate::processes::{ProcessId, describe};
use crate::sockets::Inode;

/// The processes that accept at a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acceptors {
    /// The process that represents them, as in [`Owners::acceptor`].
    pub(crate) process: ProcessId,
    /// All processes of its name.
    pub(crate) alike: Vec<u32>,
    /// The other holders, with their last noted run time in nanoseconds: while it stays the same,
    /// they have accepted nothing.
    pub(crate) resting: Vec<(u32, u64)>,
}

impl Acceptors {
    /// Number of processes that hold the socket.
    pub(crate) fn holders(&self) -> usize {
        self.alike.len() + self.resting.len()
    }
}

impl Owners {
    /// The only process that holds `inode`, if there is only one and all descriptors can be read.
    /// This is the state at the start of this look; nothing is read again.
    pub(crate) fn sole(&self, inode: Inode) -> Option<ProcessId> {
        if self.denied > 0 || !self.whole {
            return None;
        }
        let holders = self.holders.get(&inode)?;
        let pid = holders.first()?.pid;
        let sole = holders.iter().all(|holder| holder.pid == pid);
        self.processes.get(&pid).filter(|_| sole).map(|known| known.id)
    }

    /// The process that has accepted a connection at one of these listening sockets since the look
    /// before: the only one that can have. If several can, and have the same name, it is the
    /// youngest of them: their line is the same.
    ///
    /// A process that holds a listening socket and has not run since can't have accepted: a parent
    /// that has forked its workers only holds it.
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
        // Those known to have run come first: if their names differ, no other needs to be checked.
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

    /// Removes processes that are about to end and have no command line any more, if they were the
    /// same program as one of the others: a server that forks always has one that has just ended.
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

    /// Whether all of these have the same name.
    fn have_one_name(&self, ids: &[ProcessId]) -> bool {
        let mut called = ids.iter().filter_map(|id| self.described(*id));
        let first = called.next();
        called.all(|described| Some(&described) == first.as_ref())
    }

    /// The processes that accept at this listening socket: its only holder, or those holders that have
    /// run since the look before, if they all have the same name.
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

    /// Notes the run times of these processes. Call it at the start of a look: a connection that is
    /// new at the look after it started later.
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

    /// Each process that holds any of these, once.
    fn holders_of(&self, inodes: impl Iterator<Item = Inode>) -> Vec<u32> {
        let mut pids: Vec<u32> = inodes.flat_map(|inode| self.holders(inode)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The pids of all holders of `inode`, in the state of [`Owners::sole`].
    pub(crate) fn holders(&self, inode: Inode) -> impl Iterator<Item = u32> {
        self.holders.get(&inode).into_iter().flatten().map(|holder| holder.pid)
    }
}
