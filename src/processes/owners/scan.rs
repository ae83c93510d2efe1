//! Reads descriptors: of processes whose descriptors can have changed, and in search of sockets without a
//! holder.

use std::cmp::Reverse;

use super::first::FirstReading;
use super::{Holder, Owners, UNTOLD_ROUND, let_go};
use crate::processes::descriptors::Unreadable;
use crate::sockets::Inode;

/// What a scan may assume of a descriptor without reading its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: every link is read.
    Nothing,
    /// That it is still the same socket, if that socket is alive: this is nearly always so.
    WhatIsAlive,
}

impl Owners {
    /// Reads the descriptors of every process that can have new ones, the youngest first. As long
    /// as sockets have no holder, it then reads those of the others, up to `beyond` links.
    pub(super) fn read_changed(&mut self, beyond: usize) {
        let mut pids = self.read_changed_ones();
        if self.unknown.is_empty() || self.first.is_some() {
            return;
        }
        // The remaining sockets belong to a process that closed one descriptor and opened another,
        // perhaps under the number of a socket that another process still holds (a server that
        // forks). The likeliest come first: processes that have sockets, and the youngest.
        pids.sort_by_key(|pid| self.processes.get(pid).is_none_or(|p| p.sockets.is_empty()));
        let mut links = 0usize;
        for pid in pids {
            if self.processes.get(&pid).is_none_or(|p| p.exact == self.look) {
                continue;
            }
            links += self.scan(pid, Trust::Nothing);
            if self.unknown.is_empty() || links >= beyond {
                break;
            }
        }
    }

    /// Reads the descriptors of every process that can have new ones. Returns all processes, the youngest
    /// first.
    pub(super) fn read_changed_ones(&mut self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.processes.keys().copied().collect();
        pids.sort_unstable_by_key(|pid| self.processes.get(pid).map(|p| Reverse(p.id)));
        // New processes always: one may have inherited a socket whose other holder is known.
        let changed: Vec<u32> =
            pids.iter().copied().filter(|p| self.may_have_changed(*p)).collect();
        for &pid in &changed {
            self.scan(pid, Trust::WhatIsAlive);
        }
        pids
    }

    /// Whether a process was never read, or has another number of descriptors than when it was.
    pub(super) fn may_have_changed(&self, pid: u32) -> bool {
        let Some(known) = self.processes.get(&pid) else { return false };
        let is_to_read = |first: &FirstReading| first.is_to_read(known.id);
        if self.first.as_ref().is_some_and(is_to_read) {
            false
        } else if known.scanned == 0 {
            true
        } else if known.denied || known.scanned == self.look && !self.searched {
            false
        } else if known.size.is_known() {
            self.proc.table_size(pid).is_ok_and(|now| now != known.size)
        } else {
            self.look - known.scanned >= UNTOLD_ROUND
        }
    }

    /// Reads the descriptors of a process; returns the number of links that were read.
    pub(super) fn scan(&mut self, pid: u32, trust: Trust) -> usize {
        let Some(known) = self.processes.get_mut(&pid) else { return 0 };
        if let Some(first) = &mut self.first {
            // It has other sockets by now.
            first.read.remove(&known.id);
        }
        let alive = &self.alive;
        let before = std::mem::take(&mut known.sockets);
        let mut now = Vec::with_capacity(before.len());
        let (mut links, mut trusted) = (0, 0);
        let outcome = self.proc.sockets(
            pid,
            |descriptor| {
                let same = match trust {
                    Trust::Nothing => None,
                    Trust::WhatIsAlive => before
                        .binary_search_by_key(&descriptor, |(d, _)| *d)
                        .ok()
                        .and_then(|at| before.get(at))
                        .filter(|(_, inode)| alive.contains(inode)),
                };
                match same {
                    Some((_, inode)) => {
                        trusted += 1;
                        Some(inode.0)
                    }
                    None => {
                        links += 1;
                        None
                    }
                }
            },
            |descriptor, inode| {
                if alive.contains(&Inode(inode)) {
                    now.push((descriptor, Inode(inode)));
                }
            },
        );
        match outcome {
            Ok(size) => {
                known.size = size;
                known.denied = false;
            }
            Err(Unreadable::Denied) => known.denied = true,
            Err(Unreadable::Vanished) => {}
            Err(Unreadable::Failed(errno)) => self.failed = Some(errno),
        }
        known.scanned = self.look;
        if trusted == 0 {
            known.exact = self.look;
        }
        now.sort_unstable();
        let kept = |held: &(u32, Inode)| now.binary_search(held).is_ok();
        let closed: Vec<_> = before.iter().copied().filter(|held| !kept(held)).collect();
        let_go(&mut self.holders, pid, &closed);
        for &(descriptor, inode) in &now {
            let holders = self.holders.entry(inode).or_default();
            if !holders.iter().any(|h| (h.pid, h.descriptor) == (pid, descriptor)) {
                // What was assumed has not been seen.
                let read =
                    trust == Trust::Nothing || before.binary_search(&(descriptor, inode)).is_err();
                let seen = if read { self.look } else { 0 };
                holders.push(Holder { pid, descriptor, since: self.look, seen });
            }
            self.unknown.remove(&inode);
            self.unheld.remove(&inode);
        }
        known.sockets = now;
        links
    }
}
