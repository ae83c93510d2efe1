//! Whose the bytes are that were counted socket by socket.
//!
//! Whoever made a socket is known from its first packet on. That is who its bytes belong to, unless
//! somebody else holds it: it was accepted, inherited or handed on. Who holds a socket is seen in `/proc`
//! while it is open; of one that was closed before anybody looked, the process that closed it is known.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::{Reason, Share};
use crate::ebpf::{Bytes, Counted, Origin};
use crate::processes::{Ownership, ProcessId};
use crate::sockets::Inode;
use crate::traffic::Traffic;

/// For how many observations a socket without traffic keeps its slot: one that is open, one that is
/// closed (the kernel may still send what is left), and one of which nothing more comes. It gets
/// another slot if it needs it; one that accepts connections keeps its own.
const IDLE: u32 = 600;
const IDLE_CLOSED: u32 = 30;
const IDLE_ENDED: u32 = 2;

/// For how many observations the holder of a socket is looked for although it has no traffic.
const YOUNG: u32 = 3;

/// What there is to know of the processes at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who holds it; `None` if the socket wasn't listed, or no descriptor can refer to it.
    pub holder: Option<Ownership>,
    /// Who made it, or its listening socket.
    pub maker: Option<ProcessId>,
    /// Who let go of it last.
    pub closer: Option<ProcessId>,
}

/// Whose a socket is. `held` is who was found to hold it before.
pub fn whose(
    origin: &Origin,
    evidence: &Evidence,
    held: Option<ProcessId>,
) -> Result<ProcessId, Reason> {
    if !origin.released
        && let Some(Ownership::Process(holder)) = evidence.holder
    {
        return Ok(holder);
    }
    if let Some(held) = held {
        return Ok(held);
    }
    let passed_on = origin.accepted || origin.maker.is_none();
    let known = if passed_on { evidence.closer } else { evidence.maker };
    // Whoever accepted a connection has it, or else nobody has yet.
    let accepted = || if origin.accepted && !origin.released { None } else { evidence.maker };
    if let Some(known) = known.or_else(accepted) {
        return Ok(known);
    }
    Err(match evidence.holder {
        Some(Ownership::Denied) => Reason::NoPermission,
        Some(Ownership::Hidden) => Reason::OtherNamespace,
        // A socket that nobody lets go of is the kernel's, or not accepted yet.
        _ if !origin.released => Reason::Kernel,
        _ => Reason::Exited,
    })
}

#[derive(Clone, Copy, Debug)]
struct Known {
    cookie: u64,
    /// What was accounted.
    last: Bytes,
    /// What was counted at the observation before.
    before: Bytes,
    remembered: Remembered,
    /// To whom its last bytes were accounted.
    owner: Option<ProcessId>,
    /// Why what has come so far is nobody's, and how much that is.
    waiting: Option<(Reason, Bytes)>,
    /// The first observation that showed bytes.
    begun: u32,
    idle: u32,
}

impl Known {
    fn new(cookie: u64, begun: u32) -> Known {
        Known {
            cookie,
            last: Bytes::default(),
            before: Bytes::default(),
            remembered: Remembered::default(),
            owner: None,
            waiting: None,
            begun,
            idle: 0,
        }
    }
}

/// Remembers of every socket what it takes to subtract, and who held it.
#[derive(Debug)]
pub struct SocketAttribution {
    /// By their slots.
    known: Vec<Option<Known>>,
    observation: u32,
    /// The bytes of sockets without a slot.
    without: Bytes,
    referenced: HashSet<ProcessId, RandomState>,
}

/// Whose a socket is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
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

impl SocketAttribution {
    /// Nothing was observed yet.
    pub fn new() -> SocketAttribution {
        SocketAttribution {
            known: Vec::new(),
            observation: 0,
            without: Bytes::default(),
            referenced: HashSet::default(),
        }
    }

    /// Begins an observation of all sockets. The first one shows where counting begins; its bytes are
    /// no rate.
    pub fn begin(&mut self) {
        self.observation += 1;
        self.referenced.clear();
    }

    /// Whether it takes a list of all sockets to say whose this one is.
    pub fn is_new(&self, counted: &Counted) -> bool {
        let known = self.known.get(counted.slot as usize).and_then(Option::as_ref);
        counted.has_bytes()
            && known.filter(|known| known.cookie == counted.cookie).is_none_or(|known| {
                known.remembered.inode.is_none() && self.observation - known.begun < YOUNG
            })
    }

    /// Takes the bytes of one socket and hands the shares of those that are new to `each`. `origin` and
    /// `whose` are asked only where there are any, or some still have no process; `None` says that the
    /// socket is not to be accounted. Returns for how many observations it had no traffic.
    pub fn socket(
        &mut self,
        counted: &Counted,
        last: bool,
        origin: impl FnOnce() -> Option<Origin>,
        whose: impl FnOnce(&Origin, &Remembered) -> Option<Verdict>,
        mut each: impl FnMut(Share),
    ) -> u32 {
        let first = self.observation == 1;
        let place = counted.slot as usize;
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        let Some(entry) = self.known.get_mut(place) else { return 0 };
        let known = match entry {
            Some(known) if known.cookie == counted.cookie => known,
            _ => entry.insert(Known::new(counted.cookie, self.observation)),
        };
        if !counted.has_bytes() {
            known.begun = self.observation + 1;
        }
        known.idle = if counted.bytes == known.before { known.idle + 1 } else { 0 };
        let settled = known.waiting.is_none() && known.before == known.last;
        if known.idle > 0 && settled {
            self.referenced.extend(known.owner);
            return known.idle;
        }
        let Some(origin) = origin() else { return known.idle };
        // What a listening socket has counted of a connection goes over to that one's own socket: only
        // what stays is its own.
        let listening = origin.listening && !last;
        let stays = if listening { counted.bytes.min(known.before) } else { counted.bytes };
        known.before = counted.bytes;
        let new = stays - known.last;
        known.last = known.last + new;
        if new == Bytes::default() && known.waiting.is_none() {
            self.referenced.extend(known.owner);
            return known.idle;
        }
        let Some(Verdict { to, held, inode }) = whose(&origin, &known.remembered) else {
            return known.idle;
        };
        known.remembered.inode = inode.or(known.remembered.inode);
        if held {
            known.remembered.held = to.ok();
        }
        known.owner = to.ok();
        self.referenced.extend(known.owner);
        let (from, moved) = match (to, known.waiting) {
            (Ok(_), Some((reason, waiting))) => (Some(reason), new + waiting),
            _ => (None, new),
        };
        let recent = if first { Bytes::default() } else { new };
        for (traffic, recent, local) in
            [(moved.remote, recent.remote, false), (moved.local, recent.local, true)]
        {
            if !traffic.is_zero() {
                each(Share { to, traffic, recent, from, local });
            }
        }
        known.waiting = match (to, known.waiting) {
            (Err(reason), Some((before, waiting))) if reason == before => {
                Some((reason, waiting + new))
            }
            // What came under another reason stays there.
            (Err(reason), _) => Some((reason, new)),
            (Ok(_), _) => None,
        };
        known.idle
    }

    /// Whether a socket that has had no traffic for so many observations may have been so for long
    /// enough: then its [origin](SocketAttribution::is_done) is worth a look.
    pub const fn may_be_done(idle: u32, crowded: bool) -> bool {
        crowded || idle == IDLE_ENDED || idle >= IDLE_CLOSED && idle.is_multiple_of(IDLE_CLOSED)
    }

    /// Whether a socket that has had no traffic for so many observations does without its slot; where
    /// it is `crowded`, with others waiting for one, that is soon, and at once where it was let go of.
    pub const fn is_done(idle: u32, origin: &Origin, crowded: bool) -> bool {
        // What it has counted of connections goes over to them from where it was counted.
        if origin.listening && !origin.released {
            return false;
        }
        let patience = match (origin.released, origin.ended) {
            (true, _) if crowded => 0,
            (_, true) => IDLE_ENDED,
            _ if crowded => IDLE_ENDED,
            (true, false) => IDLE_CLOSED,
            (false, false) => IDLE,
        };
        idle >= patience
    }

    /// Forgets a socket: these were its last bytes in this slot.
    pub fn forget(&mut self, slot: u32) {
        if let Some(known) = self.known.get_mut(slot as usize) {
            *known = None;
        }
    }

    /// Takes the bytes of the sockets for which there was no room.
    pub fn without_slot(&mut self, bytes: Bytes, mut each: impl FnMut(Share)) {
        let new = bytes - self.without;
        self.without = bytes;
        for (traffic, local) in [(new.remote, false), (new.local, true)] {
            let to = Err(Reason::Overflow);
            let recent = if self.observation == 1 { Traffic::ZERO } else { traffic };
            if !traffic.is_zero() {
                each(Share { to, traffic, recent, from: None, local });
            }
        }
    }

    /// The processes to which the sockets of this observation belong.
    pub fn referenced(&self) -> &HashSet<ProcessId, RandomState> {
        &self.referenced
    }
}

impl Default for SocketAttribution {
    fn default() -> SocketAttribution {
        SocketAttribution::new()
    }
}

#[cfg(test)]
mod tests;
