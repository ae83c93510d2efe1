//! Whose the bytes are that were counted socket by socket.
//!
//! Whoever made a socket is known from its first packet on. That is who its bytes belong to, unless
//! somebody else holds it: it was accepted, inherited or handed on. Who holds a socket is seen in `/proc`
//! while it is open; of one that was closed before anybody looked, the process that closed it is known.

mod memory;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::{Reason, Share};
use crate::ebpf::{Bytes, Counted, Origin, Outside};
use crate::processes::{Ownership, ProcessId};
use crate::sockets::Inode;
use crate::traffic::Traffic;
use memory::Memory;

/// For how many observations a socket without traffic keeps its slot where there is room for others: one
/// that is open, one that is closed (the kernel may still send what is left), and one of which nothing more
/// comes. It gets another slot if it needs it; one that accepts connections keeps its own.
const IDLE: u32 = 600;
const IDLE_CLOSED: u32 = 30;
const IDLE_ENDED: u32 = 2;

/// For how many observations the holder of a socket is looked for although it has no traffic.
const YOUNG: u32 = 3;

/// How much pressure there is for sockets other than those that have a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPressure {
    /// Whoever is silent can keep his slot for a while.
    Low,
    /// Whoever was let go of does without it.
    Medium,
    /// And whoever is silent.
    High,
}

impl SlotPressure {
    /// With so many slots `taken` of `capacity`.
    pub const fn beside(taken: usize, capacity: usize) -> SlotPressure {
        match capacity / 8 {
            eighth if taken > eighth * 4 => SlotPressure::High,
            eighth if taken > eighth => SlotPressure::Medium,
            _ => SlotPressure::Low,
        }
    }
}

/// What there is to know of the processes at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Who holds it; `None` if the socket wasn't listed, or no descriptor can refer to it.
    pub holder: Option<Ownership>,
    /// Who made it, or its listening socket.
    pub maker: Option<ProcessId>,
    /// Who let go of it last.
    pub closer: Option<ProcessId>,
}

/// The process that holds a socket, or has held it last: neither its maker nor its closer matters then.
pub fn holder(
    origin: &Origin,
    now: Option<Ownership>,
    held: Option<ProcessId>,
) -> Option<ProcessId> {
    match now {
        Some(Ownership::Process(holder)) if !origin.released => Some(holder),
        _ => held,
    }
}

/// Whose a socket is. `held` is who was found to hold it before.
pub fn whose(
    origin: &Origin,
    candidates: &Candidates,
    held: Option<ProcessId>,
) -> Result<ProcessId, Reason> {
    if let Some(holder) = holder(origin, candidates.holder, held) {
        return Ok(holder);
    }
    let passed_on = origin.accepted || origin.maker.is_none();
    let known = if passed_on { candidates.closer } else { candidates.maker };
    // Whoever accepted a connection has it, or else nobody has yet.
    let accepted = || if origin.accepted && !origin.released { None } else { candidates.maker };
    if let Some(known) = known.or_else(accepted) {
        return Ok(known);
    }
    Err(match candidates.holder {
        Some(Ownership::Denied) => Reason::NoPermission,
        Some(Ownership::Hidden) => Reason::OtherNamespace,
        Some(Ownership::Unread) if !origin.released => Reason::Unread,
        // A socket that nobody lets go of is the kernel's, or not accepted yet.
        _ if !origin.released => Reason::Kernel,
        _ => Reason::Exited,
    })
}

/// Remembers of every socket what it takes to subtract, and who held it.
#[derive(Debug)]
pub struct SocketAttribution {
    memory: Memory,
    observation: u32,
    /// What was counted outside the slots, by network namespaces.
    outside: HashMap<u64, Outside, RandomState>,
    referenced: HashSet<ProcessId, RandomState>,
}

/// Whose a socket is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Its process, or why it has none.
    pub to: Result<ProcessId, Reason>,
    /// Whether the process was seen to hold it.
    pub held: bool,
    /// Its inode, if it is listed.
    pub inode: Option<Inode>,
}

/// What is remembered of a socket that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Its inode, if it was ever listed.
    pub inode: Option<Inode>,
    /// Who was seen to hold it last.
    pub held: Option<ProcessId>,
}

/// Who knows of processes, and keeps accounts.
pub trait Judge {
    /// What is known of a socket, if anything is. Asked only where bytes are new, or still have no process.
    fn origin(&self, of: &Counted) -> Option<Origin>;

    /// Whose it is; `None` if it is not to be accounted.
    fn whose(
        &mut self,
        counted: &Counted,
        origin: &Origin,
        remembered: &Remembered,
    ) -> Option<Resolution>;

    /// Accounts a share of a socket's new bytes.
    fn take(&mut self, origin: &Origin, share: Share);
}

impl SocketAttribution {
    /// Nothing was observed yet.
    pub fn new() -> SocketAttribution {
        SocketAttribution {
            memory: Memory::default(),
            observation: 0,
            outside: HashMap::default(),
            referenced: HashSet::default(),
        }
    }

    /// Begins an observation of all sockets. The first one shows where counting begins; its bytes are
    /// no rate.
    pub fn begin(&mut self) {
        self.observation += 1;
        self.referenced.clear();
    }

    /// Whether it takes a list of all sockets to say whose this one is. Where there is little `pressure` most of
    /// those that are seen for the first time are gone in a moment, and need none.
    pub fn is_new(&self, counted: &Counted, pressure: SlotPressure) -> bool {
        counted.has_bytes()
            && counted.inode.is_none()
            && self.memory.get(counted).map_or(pressure == SlotPressure::Low, |known| {
                // A connection that nobody has accepted may be accepted at any time.
                known.remembered.inode.is_none()
                    && (self.observation - known.begun < YOUNG || known.is_unaccepted)
            })
    }

    /// Takes the bytes of one socket. Returns its origin if it can do without its slot, seeing the `pressure` for
    /// others.
    pub fn socket(
        &mut self,
        counted: &Counted,
        pressure: SlotPressure,
        judge: &mut impl Judge,
    ) -> Option<Origin> {
        // Most of those that come and go between two observations need not be remembered.
        if pressure != SlotPressure::Low && self.memory.get(counted).is_none() {
            let origin = judge.origin(counted)?;
            if origin.released && !origin.listening {
                self.in_passing(counted, counted.bytes, &origin, judge);
                return Some(origin);
            }
        }
        let idle = self.remembered(counted, judge);
        if !may_be_done(idle, pressure) {
            return None;
        }
        let waits = self.memory.get(counted).is_some_and(|known| {
            known.is_unaccepted || matches!(known.waiting, Some((Reason::Unread, _)))
        });
        judge.origin(counted).filter(|origin| {
            // Bytes that wait for somebody to accept their connection, or to be read, would be left behind.
            let waits = waits && !origin.released;
            !waits && is_done(idle, origin, pressure)
        })
    }

    /// Takes the bytes that were the last in this slot, of which so many were taken `before`.
    pub fn last(&mut self, counted: &Counted, before: Bytes, judge: &mut impl Judge) {
        if self.memory.get(counted).is_some() {
            self.remembered(counted, judge);
            self.memory.forget(counted);
        } else if let Some(origin) = judge.origin(counted) {
            self.in_passing(counted, counted.bytes - before, &origin, judge);
        }
    }

    /// Nothing was counted since the slot was taken back.
    pub fn forget(&mut self, counted: &Counted) {
        self.memory.forget(counted);
    }

    /// Takes new bytes of a socket of which nothing is remembered.
    fn in_passing(
        &mut self,
        counted: &Counted,
        new: Bytes,
        origin: &Origin,
        judge: &mut impl Judge,
    ) {
        if new == Bytes::default() {
            return;
        }
        if let Some(Resolution { to, .. }) = judge.whose(counted, origin, &Remembered::default()) {
            // Nothing is remembered that could move later.
            let to = to.map_err(|why| if why == Reason::Unread { Reason::Exited } else { why });
            self.referenced.extend(to);
            share_out(to, None, new, self.recent(new), |share| judge.take(origin, share));
        }
    }

    /// Takes the bytes of a socket that is remembered from now on; returns for how many observations it had
    /// no traffic.
    fn remembered(&mut self, counted: &Counted, judge: &mut impl Judge) -> u32 {
        let known = self.memory.remember(counted, self.observation);
        if !counted.has_bytes() {
            known.begun = self.observation + 1;
        }
        let new = counted.bytes - known.last;
        known.idle = if new.is_zero() { known.idle + 1 } else { 0 };
        let idle = known.idle;
        if new.is_zero() && known.waiting.is_none() {
            self.referenced.extend(known.owner);
            return idle;
        }
        let Some(origin) = judge.origin(counted) else { return idle };
        known.last = counted.bytes;
        let Some(Resolution { to, held, inode }) = judge.whose(counted, &origin, &known.remembered)
        else {
            return idle;
        };
        known.remembered.inode = inode.or(known.remembered.inode);
        if held {
            known.remembered.held = to.ok();
        }
        // Whoever had it once has it as long as nobody else is known to.
        let to = to.or_else(|reason| known.owner.ok_or(reason));
        known.owner = to.ok();
        known.is_unaccepted = to.is_err() && origin.accepted && !origin.released;
        self.referenced.extend(known.owner);
        let (from, moved) = match (to, known.waiting) {
            (Ok(_), Some((reason, waiting))) => (Some(reason), new + waiting),
            // Why they have none is known only now.
            (Err(reason), Some((Reason::Unread, waiting))) if reason != Reason::Unread => {
                (Some(Reason::Unread), new + waiting)
            }
            _ => (None, new),
        };
        known.waiting = match (to, known.waiting) {
            (Err(reason), Some((before, waiting)))
                if reason == before || before == Reason::Unread =>
            {
                Some((reason, waiting + new))
            }
            // What came under another reason stays there.
            (Err(reason), _) => Some((reason, new)),
            (Ok(_), _) => None,
        };
        share_out(to, from, moved, self.recent(new), |share| judge.take(&origin, share));
        idle
    }

    fn recent(&self, new: Bytes) -> Bytes {
        if self.observation == 1 { Bytes::default() } else { new }
    }

    /// Takes what was counted outside the slots, by network namespaces. One that is left out begins anew. Returns
    /// what the kernel has sent in answer to pings.
    pub fn outside(
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
                share_out(Err(reason), None, new, self.recent(new), &mut each);
            }
            pings = pings + (outside.pings - before.pings);
            self.outside.insert(netns, outside);
        }
        pings.remote + pings.local
    }

    /// The processes to which the sockets of this observation belong.
    pub fn referenced(&self) -> &HashSet<ProcessId, RandomState> {
        &self.referenced
    }
}

fn share_out(
    to: Result<ProcessId, Reason>,
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

/// Whether a socket that has had no traffic for so many observations may have been so for long enough: then
/// its origin is worth a look.
const fn may_be_done(idle: u32, pressure: SlotPressure) -> bool {
    match pressure {
        SlotPressure::Low => {
            idle == IDLE_ENDED || idle >= IDLE_CLOSED && idle.is_multiple_of(IDLE_CLOSED)
        }
        SlotPressure::Medium | SlotPressure::High => true,
    }
}

/// Whether such a socket does without its slot.
const fn is_done(idle: u32, origin: &Origin, pressure: SlotPressure) -> bool {
    // Connections that it has yet to accept ask for it.
    if origin.listening && !origin.released {
        return false;
    }
    // The kernel gives such a slot to another socket that needs it.
    if origin.silent && !origin.released {
        return false;
    }
    let patience = match (pressure, origin.released, origin.ended) {
        (SlotPressure::Medium | SlotPressure::High, true, _) => 0,
        (_, _, true) | (SlotPressure::High, ..) => IDLE_ENDED,
        (_, true, false) => IDLE_CLOSED,
        (_, false, false) => IDLE,
    };
    idle >= patience
}

impl Default for SocketAttribution {
    fn default() -> SocketAttribution {
        SocketAttribution::new()
    }
}

#[cfg(test)]
mod tests;
