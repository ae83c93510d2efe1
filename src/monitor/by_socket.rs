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
/// another slot if it needs it.
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
    /// Its place among the sockets of its namespace, if it was ever listed.
    inode: Option<Inode>,
    /// Who was seen to hold it.
    held: Option<ProcessId>,
    /// To whom its last bytes were accounted.
    owner: Option<ProcessId>,
    /// Why what has come so far is nobody's, and how much that is.
    waiting: Option<(Reason, Bytes)>,
    born: u32,
    idle: u32,
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

/// What is wanted to know of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The socket and its bytes.
    pub counted: Counted,
    /// Its inode, if that is known already.
    pub inode: Option<Inode>,
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
        known
            .filter(|known| known.cookie == counted.cookie)
            .is_none_or(|known| known.inode.is_none() && self.observation - known.born < YOUNG)
    }

    /// Takes the bytes of one socket, which may be `listening`, and hands the shares of those that are
    /// new to `each`.
    /// `whose` says whom they belong to, and is asked only where there are any; its second value is
    /// the socket's inode, if it is listed. Returns for how long it had no traffic, in observations.
    pub fn socket(
        &mut self,
        counted: &Counted,
        listening: bool,
        whose: impl FnOnce(Asked, Option<ProcessId>) -> (Result<ProcessId, Reason>, Option<Inode>, bool),
        mut each: impl FnMut(Share),
    ) -> u32 {
        let place = counted.slot as usize;
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        let Some(entry) = self.known.get_mut(place) else { return 0 };
        let fresh = Known {
            cookie: counted.cookie,
            last: Bytes::default(),
            before: Bytes::default(),
            inode: None,
            held: None,
            owner: None,
            waiting: None,
            born: self.observation,
            idle: 0,
        };
        let known = match entry {
            Some(known) if known.cookie == counted.cookie => known,
            _ => entry.insert(fresh),
        };
        // What a listening socket has counted of a connection goes over to that one's own socket: only
        // what stays is its own.
        let stays = if listening { counted.bytes.min(known.before) } else { counted.bytes };
        known.before = counted.bytes;
        let new = stays - known.last;
        let quiet = new == Bytes::default();
        known.idle = if quiet { known.idle + 1 } else { 0 };
        if quiet && known.waiting.is_none() {
            self.referenced.extend(known.owner);
            return known.idle;
        }
        let asked = Asked { counted: *counted, inode: known.inode };
        let (to, inode, is_holder) = whose(asked, known.held);
        known.inode = inode.or(known.inode);
        if is_holder {
            known.held = to.ok();
        }
        known.owner = to.ok();
        self.referenced.extend(known.owner);
        let recent = if self.observation == 1 { Bytes::default() } else { new };
        let (from, moved) = match (to, known.waiting) {
            (Ok(_), Some((reason, waiting))) => (Some(reason), new + waiting),
            _ => (None, new),
        };
        for (traffic, recent, local) in
            [(moved.remote, recent.remote, false), (moved.local, recent.local, true)]
        {
            if !traffic.is_zero() {
                each(Share { to, traffic, recent, from, local });
            }
        }
        known.waiting = match (to, known.waiting) {
            (Ok(_), _) => None,
            (Err(reason), None) => Some((reason, new)),
            // What came under another reason stays there until somebody is known.
            (Err(reason), Some((before, waiting))) if reason == before => {
                Some((reason, waiting + new))
            }
            (Err(reason), Some(_)) => Some((reason, new)),
        };
        known.last = known.last + new;
        known.idle
    }

    /// Whether a socket has been without traffic for so long that its slot can be had by another one.
    pub fn is_idle(idle: u32, origin: &Origin) -> bool {
        let patience = match (origin.released, origin.ended) {
            (_, true) => IDLE_ENDED,
            (true, _) => IDLE_CLOSED,
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
