//! The listening sockets whose acceptor is known without a search.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Map;
use crate::processes::{Acceptors, DescriptorSearch, ProcessId};
use crate::sockets::Inode;

/// Interval at which processes that only hold a listening socket are checked for having run.
const REST: Duration = Duration::from_millis(5);

/// The acceptor at each listening socket, as the last look found it and as long as it stays valid.
#[derive(Debug)]
pub(super) struct Accepting {
    known: Map<Inode, Acceptors>,
    rested: Instant,
    /// Processes that have had children since the thread started: these may inherit what the
    /// process accepts.
    parents: HashSet<u32>,
}

impl Accepting {
    pub(super) fn begin(now: Instant) -> Accepting {
        Accepting { known: Map::default(), rested: now, parents: HashSet::new() }
    }

    /// Takes the result of a look.
    pub(super) fn know(&mut self, known: Map<Inode, Acceptors>) {
        self.known = known;
    }

    pub(super) fn had_child(&mut self, parent: u32) {
        self.parents.insert(parent);
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.parents.remove(&pid);
    }

    /// Whether any acceptor is known. If other holders have run, it is unknown until the next look.
    pub(super) fn is_known_anywhere(&mut self, search: &DescriptorSearch, now: Instant) -> bool {
        if now - self.rested >= REST {
            self.rested = now;
            self.known.retain(|_, acceptors| others_rest(acceptors, search));
        }
        !self.known.is_empty()
    }

    /// Whether nobody else holds this listening socket. Otherwise the others only had not run so far, and a connection
    /// that is not accepted yet may be theirs.
    pub(super) fn is_alone(&self, listener: Option<Inode>) -> bool {
        let acceptors = listener.and_then(|inode| self.known.get(&inode));
        acceptors.is_some_and(|acceptors| acceptors.resting.is_empty())
    }

    /// Who has accepted a connection at this listening socket. If others have run, nobody knows until the next look.
    pub(super) fn has_accepted(
        &mut self,
        listener: Option<Inode>,
        search: &DescriptorSearch,
    ) -> Option<ProcessId> {
        let inode = listener?;
        if !others_rest(self.known.get(&inode)?, search) {
            self.known.remove(&inode);
        }
        self.at(listener)
    }

    /// The acceptor at a listening socket.
    pub(super) fn at(&self, listener: Option<Inode>) -> Option<ProcessId> {
        let acceptors = listener.and_then(|inode| self.known.get(&inode))?;
        let have_children = acceptors.alike.iter().any(|pid| self.parents.contains(pid));
        (!have_children).then_some(acceptors.process)
    }
}

/// Whether the other holders have not run since the look.
fn others_rest(acceptors: &Acceptors, search: &DescriptorSearch) -> bool {
    let rests = |(pid, run_time): &(u32, u64)| !search.may_have_run(*pid, *run_time);
    acceptors.resting.iter().all(rests)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LISTENER: Inode = Inode(7);

    #[test]
    fn it_is_known_until_others_have_run_or_there_are_children() {
        let search = DescriptorSearch::open(Path::new("/proc")).unwrap();
        let mut now = Instant::now();
        let mut accepting = Accepting::begin(now);
        assert!(!accepting.is_known_anywhere(&search, now));
        let process = ProcessId { start_time: 1, pid: 2 };
        let alike = |resting| Acceptors { process, alike: vec![2, 3], resting };
        accepting.know([(LISTENER, alike(Vec::new()))].into_iter().collect());
        now += REST;
        assert!(accepting.is_known_anywhere(&search, now));
        assert_eq!(accepting.at(Some(LISTENER)), Some(process));
        assert_eq!((accepting.at(Some(Inode(8))), accepting.at(None)), (None, None));
        accepting.had_child(3);
        assert_eq!(accepting.at(Some(LISTENER)), None);
        accepting.ended(3);
        assert_eq!(accepting.at(Some(LISTENER)), Some(process));
        assert!(accepting.is_alone(Some(LISTENER)) && !accepting.is_alone(None));
        assert_eq!(accepting.has_accepted(Some(LISTENER), &search), Some(process));
        // This process has run for longer than that, and has several threads.
        accepting.know([(LISTENER, alike(vec![(std::process::id(), 0)]))].into_iter().collect());
        assert!(!accepting.is_alone(Some(LISTENER)));
        assert_eq!(accepting.at(Some(LISTENER)), Some(process));
        assert_eq!(accepting.has_accepted(Some(LISTENER), &search), None);
        assert_eq!(accepting.at(Some(LISTENER)), None);
        accepting.know([(LISTENER, alike(vec![(std::process::id(), 0)]))].into_iter().collect());
        assert!(accepting.is_known_anywhere(&search, now), "it was asked a moment ago");
        assert!(!accepting.is_known_anywhere(&search, now + REST));
        assert_eq!(accepting.at(Some(LISTENER)), None);
    }
}
