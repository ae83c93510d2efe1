//! Whose the bytes are that were counted socket by socket.
//!
//! Whoever made a socket is known from its first packet on. That is who its bytes belong to, unless
//! somebody else holds it: it was accepted, inherited or handed on. Who holds a socket is seen in `/proc`
//! while it is open; of one that was closed before anybody looked, the process that closed it is known.

mod candidates;
mod memory;
mod pressure;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::Share;
use super::settle::{Settled, Standing, settle};
use crate::ebpf::{Bytes, Counted, Origin, Outside};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::processes::ProcessId;
use crate::sockets::Inode;
use memory::Memory;

pub(crate) use candidates::{Candidates, holder, resolve};
pub(crate) use pressure::SlotPressure;

/// For how many observations the holder of a socket is looked for although it has no traffic.
const YOUNG: u32 = 3;

/// Remembers of every socket what it takes to subtract, and who held it.
#[derive(Debug)]
pub(crate) struct SocketAttribution {
    memory: Memory,
    observation: u32,
    /// What was counted outside the slots, by network namespaces.
    outside: HashMap<u64, Outside, RandomState>,
    referenced: HashSet<ProcessId, RandomState>,
}

/// Whose a socket is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolution {
    /// Its process, or why it has none.
    pub to: Owner,
    /// Whether the process was seen to hold it.
    pub held: bool,
    /// Its inode, if it is listed.
    pub inode: Option<Inode>,
}

/// What is remembered of a socket that is to be resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Its inode, if it was ever listed.
    pub inode: Option<Inode>,
    /// Who was seen to hold it last.
    pub held: Option<ProcessId>,
}

/// A socket that has changed, or of which more may be known by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketChange {
    /// Its new bytes.
    pub new: Bytes,
    /// What is known of it.
    pub remembered: Remembered,
}

impl SocketAttribution {
    /// Nothing was observed yet.
    pub(crate) fn new() -> SocketAttribution {
        SocketAttribution {
            memory: Memory::default(),
            observation: 0,
            outside: HashMap::default(),
            referenced: HashSet::default(),
        }
    }

    /// Begins an observation of all sockets. The first one shows where counting begins; its bytes are
    /// no rate.
    pub(crate) fn begin(&mut self) {
        self.observation += 1;
        self.referenced.clear();
    }

    /// Whether it takes a list of all sockets to say whose this one is. Under `pressure` most of
    /// those that are seen for the first time are gone in a moment, and need none.
    pub(crate) fn is_new(&self, counted: &Counted, pressure: SlotPressure) -> bool {
        counted.has_bytes()
            && counted.inode.is_none()
            && self.memory.get(counted).map_or(pressure == SlotPressure::Low, |known| {
                // A connection that nobody has accepted may be accepted at any time.
                known.remembered.inode.is_none()
                    && (self.observation - known.begun < YOUNG || known.is_unaccepted)
            })
    }

    /// Whether anything is remembered of a socket.
    pub(crate) fn is_remembered(&self, counted: &Counted) -> bool {
        self.memory.get(counted).is_some()
    }

    /// Whether a socket of which nothing is remembered need not be: most of those that come and go
    /// between two observations, under `pressure`.
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

    /// Takes the bytes of one socket, which is remembered from now on. `None` if nothing has changed, or can
    /// have.
    pub(crate) fn read(&mut self, counted: &Counted) -> Option<SocketChange> {
        let known = self.memory.remember(counted, self.observation);
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

    /// Accounts a change of a socket that was [read](SocketAttribution::read), now that it is known whose it
    /// is; `None` if it is not to be accounted.
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
        let Some(Resolution { to, held, inode }) = resolution else { return };
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
        share_out(to, from, bytes, recent, each);
    }

    /// Accounts new bytes of a socket of which nothing is remembered.
    pub(crate) fn account_in_passing(
        &mut self,
        new: Bytes,
        resolution: Option<Resolution>,
        each: impl FnMut(Share),
    ) {
        let Some(Resolution { to, .. }) = resolution else { return };
        // Nothing is remembered that could move later.
        let unread = to == Owner::Nobody(Reason::Unread);
        let to = if unread { Owner::Nobody(Reason::Exited) } else { to };
        self.referenced.extend(to.process());
        share_out(to, None, new, self.recent(new), each);
    }

    /// Whether a socket may do without its slot, as far as its silence says: then its origin is worth a look.
    pub(crate) fn may_be_done(&self, counted: &Counted, pressure: SlotPressure) -> bool {
        let known = self.memory.get(counted);
        known.is_some_and(|known| pressure::may_be_done(known.idle, pressure))
    }

    /// Whether it does without its slot, under the `pressure` for others.
    pub(crate) fn is_done(
        &self,
        counted: &Counted,
        origin: &Origin,
        pressure: SlotPressure,
    ) -> bool {
        self.memory.get(counted).is_some_and(|known| {
            let unread = matches!(known.standing, Standing::Waiting(Reason::Unread, _));
            // Bytes that wait for somebody to accept their connection, or to be read, would be left behind.
            let waits = (known.is_unaccepted || unread) && !origin.released;
            !waits && pressure::is_done(known.idle, origin, pressure)
        })
    }

    /// Nothing more will be counted in a slot that was taken back.
    pub(crate) fn forget(&mut self, counted: &Counted) {
        self.memory.forget(counted);
    }

    fn recent(&self, new: Bytes) -> Bytes {
        if self.observation == 1 { Bytes::default() } else { new }
    }

    /// Takes what was counted outside the slots, by network namespaces. One that is left out begins anew. Returns
    /// what the kernel has sent in answer to pings.
    pub(crate) fn outside(
        &mut self,
        all: impl Iterator<Item = (u64, Outside)>,
        mut each: impl FnMut(Share),
    ) -> Traffic {
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

    /// The processes to which the sockets of this observation belong.
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
    for (traffic, recent, local) in
        [(moved.remote, recent.remote, false), (moved.local, recent.local, true)]
    {
        if !traffic.is_zero() {
            each(Share { to, traffic, recent, from, local });
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
