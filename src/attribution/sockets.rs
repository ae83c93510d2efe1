//! Attributes bytes that were counted socket by socket.
//!
//! The maker of a socket is known from its first packet on. It owns the bytes, unless another process
//! holds the socket, which was accepted, inherited or passed on. `/proc` shows the holder while the
//! socket is open. If it was closed before that, the process that closed it is known.

mod candidates;
mod memory;
mod pressure;
mod remotes;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::Share;
use super::settle::{Settled, Standing, settle};
use crate::ebpf::{Bytes, Counted, Origin, Outside, RemoteBytes};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::processes::ProcessId;
use crate::sockets::Inode;
use memory::Memory;
use remotes::{Remotes, Split, places};

pub(crate) use candidates::{Candidates, holder, resolve};
pub(crate) use pressure::SlotPressure;

/// Number of observations for which the holder of a socket is searched although it has no traffic.
const YOUNG: u32 = 3;

/// Remembers the counters to subtract of every socket, and its holder.
#[derive(Debug)]
pub(crate) struct SocketAttribution {
    memory: Memory,
    observation: u32,
    /// Bytes counted outside the slots, by network namespace.
    outside: HashMap<u64, Outside, RandomState>,
    referenced: HashSet<ProcessId, RandomState>,
    /// Bytes of forgotten sockets whose processes were not read in time.
    never_read: Bytes,
    /// Empty if remote ends are not told apart.
    remotes: Remotes,
}

/// The owner that was found for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolution {
    /// Its process, or the reason why it has none.
    pub to: Owner,
    /// Whether the process was seen as its holder.
    pub held: bool,
    /// Its inode, if it is listed.
    pub inode: Option<Inode>,
}

/// What is remembered of a socket that is to be resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Its inode, if it was ever listed.
    pub inode: Option<Inode>,
    /// The last process that was seen as its holder.
    pub held: Option<ProcessId>,
}

/// A socket that has changed, or whose owner may be found by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketChange {
    /// Its new bytes.
    pub new: Bytes,
    /// What is remembered of it.
    pub remembered: Remembered,
}

impl SocketAttribution {
    /// No observation yet.
    pub(crate) fn new() -> SocketAttribution {
        SocketAttribution {
            memory: Memory::default(),
            observation: 0,
            outside: HashMap::default(),
            referenced: HashSet::default(),
            never_read: Bytes::default(),
            remotes: Remotes::default(),
        }
    }

    /// Starts an observation of all sockets. In the first one counting starts; its bytes have no
    /// rate.
    pub(crate) fn begin(&mut self) {
        self.observation += 1;
        self.referenced.clear();
    }

    /// Adds new bytes of a remote end. They are a part of the bytes of its socket, which was read before.
    pub(crate) fn add_remote(&mut self, bytes: &RemoteBytes) {
        self.remotes.add(bytes, self.observation);
    }

    /// Ends an observation.
    pub(crate) fn end(&mut self) {
        self.remotes.end(self.observation);
    }

    /// Whether finding the owner of this socket needs a list of all sockets. Under `pressure` most
    /// sockets that are seen for the first time end in a moment, and need none.
    pub(crate) fn is_new(&self, counted: &Counted, pressure: SlotPressure) -> bool {
        counted.has_bytes()
            && counted.inode.is_none()
            && self.memory.get(counted).map_or(pressure == SlotPressure::Low, |known| {
                // A connection that is not accepted may be accepted at any time.
                known.remembered.inode.is_none()
                    && (self.observation - known.begun < YOUNG || known.is_unaccepted)
            })
    }

    /// Whether a socket is remembered.
    pub(crate) fn is_remembered(&self, counted: &Counted) -> bool {
        self.memory.get(counted).is_some()
    }

    /// Whether a socket that is not remembered need not be: under `pressure`, most of those that
    /// come and go between two observations.
    pub(crate) fn is_passing(
        &self,
        counted: &Counted,
        origin: &Origin,
        pressure: SlotPressure,
    ) -> bool {
        pressure != SlotPressure::Low
            && !self.is_remembered(counted)
            && origin.released
            && !origin.listening
    }

    /// Takes the bytes of one socket, which is remembered from now on. Returns `None` if nothing has
    /// changed, or can have.
    pub(crate) fn read(&mut self, counted: &Counted) -> Option<SocketChange> {
        let (known, never_read) = self.memory.remember(counted, self.observation);
        self.never_read = self.never_read + never_read;
        if !counted.has_bytes() {
            known.begun = self.observation + 1;
        }
        let new = counted.bytes - known.last;
        known.idle = if new.is_zero() { known.idle + 1 } else { 0 };
        if new.is_zero() && !matches!(known.standing, Standing::Waiting(..)) {
            self.referenced.extend(known.standing.owner().and_then(Owner::process));
            return None;
        }
        Some(SocketChange { new, remembered: known.remembered })
    }

    /// Accounts a change that [`SocketAttribution::read`] returned, after its owner was resolved; `None` if
    /// it is not to be accounted.
    pub(crate) fn account(
        &mut self,
        counted: &Counted,
        change: &SocketChange,
        origin: &Origin,
        resolution: Option<Resolution>,
        each: impl FnMut(Share),
    ) {
        let recent = self.recent(change.new);
        let Some(known) = self.memory.get_mut(counted) else { return };
        known.last = counted.bytes;
        let Some(Resolution { to, held, inode }) = resolution else {
            return self.remotes.forget(counted.cookie);
        };
        known.remembered.inode = inode.or(known.remembered.inode);
        if held {
            known.remembered.held = to.process();
        }
        let Some(settled) = settle(known.standing, Some(to), change.new) else { return };
        known.standing = settled.standing;
        known.is_unaccepted =
            matches!(known.standing, Standing::Waiting(..)) && origin.accepted && !origin.released;
        self.referenced.extend(settled.to.process());
        let Settled { to, bytes, from, .. } = settled;
        self.share_out(counted.cookie, to, from, bytes, recent, each);
    }

    /// Accounts new bytes of a socket that is not remembered.
    pub(crate) fn account_in_passing(
        &mut self,
        cookie: u64,
        new: Bytes,
        resolution: Option<Resolution>,
        each: impl FnMut(Share),
    ) {
        let Some(Resolution { to, .. }) = resolution else {
            return self.remotes.forget(cookie);
        };
        // Nothing is remembered that could move later.
        let unread = to == Owner::Nobody(Reason::Unread);
        let to = if unread { Owner::Nobody(Reason::Exited) } else { to };
        self.referenced.extend(to.process());
        self.share_out(cookie, to, None, new, self.recent(new), each);
    }

    /// Hands on bytes of a socket. Those of a process have their remote ends.
    fn share_out(
        &mut self,
        cookie: u64,
        to: Owner,
        from: Option<Reason>,
        moved: Bytes,
        recent: Bytes,
        mut each: impl FnMut(Share),
    ) {
        if to.reason().is_some() {
            return share_out(to, from, moved, recent, each);
        }
        let observation = self.observation;
        for (local, traffic, recent) in places(moved, recent) {
            self.remotes.split(cookie, local, traffic, recent, observation, |split| {
                let Split { remote, traffic, recent } = split;
                each(Share { to, traffic, recent, from, local, remote });
            });
        }
    }

    /// Whether a socket has been silent for long enough that it may no longer need its slot: then
    /// check its origin.
    pub(crate) fn may_be_done(&self, counted: &Counted, pressure: SlotPressure) -> bool {
        let known = self.memory.get(counted);
        known.is_some_and(|known| pressure::may_be_done(known.idle, pressure))
    }

    /// Whether it no longer needs its slot, under the `pressure` of others.
    pub(crate) fn is_done(
        &self,
        counted: &Counted,
        origin: &Origin,
        pressure: SlotPressure,
    ) -> bool {
        self.memory.get(counted).is_some_and(|known| {
            let unread = matches!(known.standing, Standing::Waiting(Reason::Unread, _));
            // Bytes that wait for their connection to be accepted, or for their process to be read,
            // would be lost.
            let waits = (known.is_unaccepted || unread) && !origin.released;
            !waits && pressure::is_done(known.idle, origin, pressure)
        })
    }

    /// Forgets a slot that was taken back.
    pub(crate) fn forget(&mut self, counted: &Counted) {
        self.never_read = self.never_read + self.memory.forget(counted);
        self.remotes.forget(counted.cookie);
    }

    fn recent(&self, new: Bytes) -> Bytes {
        if self.observation == 1 { Bytes::default() } else { new }
    }

    /// Takes bytes counted outside the slots, by network namespace, after those of the sockets. A namespace that is left
    /// out starts anew. Returns the bytes that the kernel has sent in answer to pings.
    pub(crate) fn outside(
        &mut self,
        all: impl Iterator<Item = (u64, Outside)>,
        mut each: impl FnMut(Share),
    ) -> Traffic {
        // There is no process any more that could be read.
        let (never_read, unread) = (std::mem::take(&mut self.never_read), Some(Reason::Unread));
        share_out(Reason::Exited.into(), unread, never_read, Bytes::default(), &mut each);
        let before = std::mem::take(&mut self.outside);
        let mut pings = Bytes::default();
        for (netns, outside) in all {
            let before = before.get(&netns).copied().unwrap_or_default();
            for (reason, new) in [
                (Reason::Overflow, outside.without_slot - before.without_slot),
                (Reason::Exited, outside.without_socket - before.without_socket),
                (Reason::Kernel, outside.pings - before.pings),
                (Reason::Kernel, outside.resets - before.resets),
            ] {
                share_out(reason.into(), None, new, self.recent(new), &mut each);
            }
            pings = pings + (outside.pings - before.pings);
            self.outside.insert(netns, outside);
        }
        pings.remote + pings.local
    }

    /// The processes that own the sockets of this observation.
    pub(crate) fn referenced(&self) -> &HashSet<ProcessId, RandomState> {
        &self.referenced
    }
}

fn share_out(
    to: Owner,
    from: Option<Reason>,
    moved: Bytes,
    recent: Bytes,
    mut each: impl FnMut(Share),
) {
    for (local, traffic, recent) in places(moved, recent) {
        if !traffic.is_zero() {
            each(Share { to, traffic, recent, from, local, remote: None });
        }
    }
}

impl Default for SocketAttribution {
    fn default() -> SocketAttribution {
        SocketAttribution::new()
    }
}

#[cfg(test)]
mod tests;
