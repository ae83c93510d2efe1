//! The order in which processes are searched for a socket.

use std::ops::Range;

use super::{
    DescriptorSearch, KnownProcess, LINKS_A_SOCKET, RECENT_HOLDERS, YOUNGEST, Young, descriptor,
    spend,
};
use crate::netns::NetnsId;
use crate::sockets::Inode;

impl DescriptorSearch {
    pub(super) fn where_it_was(&mut self, inode: Inode) -> Option<usize> {
        let &(pid, descriptor) = self.places.get(&inode)?;
        let at = self.recent_holders.iter().position(|known| known.id.pid == pid)?;
        let known = self.recent_holders.get_mut(at)?;
        known.last = descriptor;
        (known.descriptors.socket(descriptor) == Some(inode.0)).then_some(at)
    }

    /// The last descriptor of recent holders, and the first one of young processes, in turn, because either
    /// socket may be gone in a moment; then the descriptor after it, because a new descriptor is the lowest free
    /// one. Young processes of other namespaces are left out. `places` are the places in either list.
    pub(super) fn at_hand(
        &mut self,
        inode: Inode,
        netns: Option<NetnsId>,
        places: Range<usize>,
    ) -> Option<usize> {
        let likely = self.young.iter().enumerate().filter(|(_, young)| young.may_be_in(netns));
        // Of the youngest all descriptors are read, if none is open.
        let likely = likely
            .enumerate()
            .filter(|(place, (_, young))| young.known.is_some() || *place < YOUNGEST);
        let likely: Vec<usize> = likely.map(|(_, (at, _))| at).take(places.end).collect();
        for distance in [0, 1] {
            let end = places.end.min(likely.len().max(self.recent_holders.len()));
            for place in places.start..end {
                let recent_holder = self.recent_holders.get_mut(place);
                if recent_holder.is_some_and(|known| known.has_behind(distance, inode)) {
                    return Some(place);
                }
                let Some(&at) = likely.get(place) else { continue };
                let young = self.young.get_mut(at)?;
                if let Some(known) = &mut young.known {
                    if known.has_behind(distance, inode) {
                        let known = self.young.remove(at)?.known?;
                        self.remember(known);
                        return Some(0);
                    }
                    continue;
                }
                // A process that has just started is likelier than one that had a socket long ago.
                if distance == 0
                    && let Some(found) = self.among_all_of(at, inode)
                {
                    return Some(found);
                }
            }
        }
        None
    }

    /// All descriptors of a young process, of which none is open.
    fn among_all_of(&mut self, at: usize, inode: Inode) -> Option<usize> {
        let Young { pid, parent, .. } = *self.young.get(at)?;
        let descriptors = self.proc.descriptors(pid).ok()?;
        let found = descriptor(&descriptors, inode, &mut self.buffer);
        let last = spend(&mut self.links, found)?;
        let known = self.know_by(descriptors, pid, parent)?;
        self.young.remove(at);
        self.remember(KnownProcess { last, ..known });
        Some(0)
    }

    /// Processes of the socket's namespace come first.
    pub(super) fn among_the_young(
        &mut self,
        inode: Inode,
        netns: Option<NetnsId>,
    ) -> Option<usize> {
        let mut order: Vec<usize> = (0..self.young.len()).collect();
        order.sort_by_key(|at| self.young.get(*at).is_none_or(|young| !young.may_be_in(netns)));
        let before = self.links;
        for (place, at) in order.into_iter().enumerate() {
            if self.links <= 0.0 || before - self.links > LINKS_A_SOCKET {
                return None;
            }
            let was_read = |young: &Young| young.known.is_none() && young.may_be_in(netns);
            if place < YOUNGEST && self.young.get(at).is_some_and(was_read) {
                continue; // at hand
            }
            let Some(known) = &self.young.get(at)?.known else {
                match self.among_all_of(at, inode) {
                    None => continue,
                    found => return found,
                }
            };
            let found = descriptor(&known.descriptors, inode, &mut self.buffer);
            if let Some(last) = spend(&mut self.links, found) {
                let known = self.young.remove(at)?.known?;
                self.remember(KnownProcess { last, ..known });
                return Some(0);
            }
        }
        None
    }

    pub(super) fn among_recent_holders(&mut self, inode: Inode) -> Option<usize> {
        let before = self.links;
        for (at, known) in self.recent_holders.iter_mut().enumerate() {
            if self.links <= 0.0 || before - self.links > LINKS_A_SOCKET {
                return None;
            }
            let found = descriptor(&known.descriptors, inode, &mut self.buffer);
            if let Some(last) = spend(&mut self.links, found) {
                known.last = last;
                return Some(at);
            }
        }
        None
    }

    /// Processes of the user that made the socket, in descending order of the pid.
    pub(super) fn among_all(&mut self, inode: Inode, user: u32) -> Option<usize> {
        if self.links <= 0.0 {
            return None;
        }
        let before = self.links;
        let mut pids = Vec::new();
        self.proc.list(|listed| pids.push(listed.pid)).ok()?;
        pids.sort_unstable_by(|a, b| b.cmp(a));
        self.links -= pids.len() as f64 / 2.0;
        // Processes for which the budget did not suffice come first.
        let first = pids.iter().position(|pid| *pid < self.turn).unwrap_or(0);
        pids.rotate_left(first);
        for pid in pids {
            if self.links <= 0.0 || before - self.links > LINKS_A_SOCKET {
                return None;
            }
            self.turn = pid;
            if self.proc.directory_user(pid) != Some(user) {
                continue;
            }
            let Ok(descriptors) = self.proc.descriptors(pid) else { continue };
            let found = descriptor(&descriptors, inode, &mut self.buffer);
            if let Some(last) = spend(&mut self.links, found) {
                let known = self.know_by(descriptors, pid, None)?;
                self.remember(KnownProcess { last, ..known });
                return Some(0);
            }
        }
        self.turn = u32::MAX;
        None
    }

    pub(super) fn remember(&mut self, known: KnownProcess) {
        self.recent_holders.push_front(known);
        self.recent_holders.truncate(RECENT_HOLDERS);
    }
}
