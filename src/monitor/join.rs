//! The join: which socket is at an end of a flow, and who holds it.

use crate::addresses::LocalAddresses;
use crate::flow::{Address, CountedAt, Counters, Flow, Protocol, Tuple};
use crate::processes::{Ownership, ProcessId};
use crate::sockets::{Inode, Socket, SocketTable, State};
use crate::traffic::Traffic;

use super::Reason;

/// What a flow's bytes are attributed by.
pub struct Surroundings<'a> {
    /// The sockets, listed just before the flows.
    pub sockets: &'a SocketTable,
    /// The addresses of this host.
    pub addresses: &'a LocalAddresses,
    /// Who holds a socket.
    pub owner: &'a mut dyn FnMut(Inode) -> Ownership,
}

impl Surroundings<'_> {
    /// Whether the end of a flow that has this address is on this host.
    fn is_here(&self, address: &Address, side: Side) -> bool {
        match side {
            Side::Originator => self.addresses.sends_from(address),
            Side::Responder => self.addresses.receives_at(address),
        }
    }
}

/// Which end of a flow, and how to read its counters from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Originator = 0,
    Responder = 1,
}

impl Side {
    /// Counters as the program at this end sees them.
    pub(super) fn view(self, counters: Counters) -> Traffic {
        let originator = Traffic::new(counters.reply, counters.original);
        match self {
            Side::Originator => originator,
            Side::Responder => originator.swapped(),
        }
    }
}

/// What was found at one end of a flow: a process or the reason why none; `None` if it isn't here.
pub(super) type Found = Option<Result<ProcessId, Reason>>;

/// Whose the ends of a flow are: `None` for one that is not here. At least one of them is, or it
/// was forwarded: then it stands at the originator's.
pub(super) fn whose(flow: &Flow, around: &mut Surroundings<'_>) -> [Found; 2] {
    if flow.counted_at == CountedAt::Socket {
        let socket = around.sockets.find(&flow.original).and_then(|found| {
            found.sockets().find(|socket| Some(socket.cookie) == flow.generation)
        });
        let owner = socket.map_or(Err(Reason::Exited), |socket| holder(socket, around.owner));
        return [Some(owner), None];
    }
    let mut originator = named(&flow.original, Side::Originator, around);
    let mut responder = named(&flow.reply, Side::Responder, around);
    if originator.is_none() && around.is_here(&flow.original.source.address, Side::Originator) {
        originator = Some(Err(without_socket(flow, Side::Originator)));
    }
    if responder.is_none() && around.is_here(&flow.reply.source.address, Side::Responder) {
        responder = Some(Err(without_socket(flow, Side::Responder)));
    }
    if originator.is_none() && responder.is_none() {
        originator = Some(Err(Reason::Forwarded));
    }
    [originator, responder]
}

/// Who holds the socket at one end; `None` if there is no socket.
fn named(tuple: &Tuple, side: Side, around: &mut Surroundings<'_>) -> Found {
    // The kernel answers pings; a raw socket only gets to see them.
    if tuple.protocol.is_icmp() && side == Side::Responder {
        return None;
    }
    let found = around.sockets.find(tuple)?;
    // Bound to the wildcard address it has its port here, not everywhere: a name server's socket
    // isn't the end of the queries that this host sends to others, or passes on.
    let unbound = |socket: &Socket| socket.tuple.source.address.is_unspecified();
    if found.sockets().any(unbound) && !around.is_here(&tuple.source.address, side) {
        return None;
    }
    let owner = &mut *around.owner;
    let mut owners = found.sockets().map(|socket| holder(socket, owner));
    let first = owners.next()?;
    if owners.all(|owner| owner == first) { Some(first) } else { Some(Err(Reason::Ambiguous)) }
}

fn holder(socket: &Socket, owner: &mut dyn FnMut(Inode) -> Ownership) -> Result<ProcessId, Reason> {
    let Some(inode) = socket.inode else { return Err(without_descriptor(socket)) };
    match owner(inode) {
        Ownership::Process(process) => Ok(process),
        Ownership::Denied => Err(Reason::NoPermission),
        Ownership::Hidden => Err(Reason::OtherNamespace),
        Ownership::Nobody => Err(Reason::Kernel),
    }
}

/// A socket that no descriptor refers to is either not accepted yet, or was closed while the
/// kernel still sends what is left.
fn without_descriptor(socket: &Socket) -> Reason {
    match socket.state {
        State::SYN_RECV | State::NEW_SYN_RECV | State::ESTABLISHED | State::CLOSE_WAIT => {
            Reason::Kernel
        }
        _ => Reason::Exited,
    }
}

/// An end that is here and has no socket.
fn without_socket(flow: &Flow, side: Side) -> Reason {
    match flow.original.protocol {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP | Protocol::DCCP => {
            Reason::Exited
        }
        Protocol::ICMP | Protocol::ICMPV6 if side == Side::Originator => Reason::Exited,
        _ => Reason::Kernel,
    }
}
