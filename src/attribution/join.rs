//! The join: which socket is at an end of a flow, and who holds it.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::addresses::LocalAddresses;
use crate::flow::{Address, CountedAt, Counters, Flow, Protocol, Tuple};
use crate::netns::NetnsKey;
use crate::processes::{Ownership, ProcessId};
use crate::sockets::{Inode, Match, Socket, SocketTable, State};
use crate::traffic::Traffic;

use super::Reason;

/// What a flow's bytes are attributed by.
pub struct NamespaceView<'a> {
    /// The network namespace in which the flow was counted.
    pub netns: NetnsKey,
    /// Its sockets, listed just before the flows.
    pub sockets: &'a SocketTable,
    /// The addresses of this host there.
    pub addresses: &'a LocalAddresses,
    /// The other network namespaces.
    pub other_namespaces: &'a OtherNamespaces<'a>,
    /// Who holds a socket.
    pub owner: &'a mut dyn FnMut(Inode) -> Ownership,
    /// Who alone can have accepted a connection at one of these listening sockets.
    pub acceptor: &'a mut dyn FnMut(&[Inode]) -> Option<ProcessId>,
    /// Which of several sockets that share an address the kernel would choose for a packet that
    /// comes back along this tuple, in this namespace.
    pub choose: &'a mut dyn FnMut(&Tuple) -> Option<Inode>,
    /// Whether the descriptors of some processes were not read yet.
    pub unread: bool,
}

/// The network namespaces of this host, by their addresses: an end that isn't in the namespace in
/// which a flow was counted may be in one of them.
#[derive(Debug, Default)]
pub struct OtherNamespaces<'a> {
    by_address: HashMap<Address, Vec<(NetnsKey, &'a SocketTable)>, RandomState>,
}

impl<'a> OtherNamespaces<'a> {
    /// Adds a namespace.
    pub fn add(&mut self, key: NetnsKey, addresses: &LocalAddresses, sockets: &'a SocketTable) {
        for address in addresses.own().filter(|address| addresses.is_known_as(address)) {
            self.by_address.entry(address).or_default().push((key, sockets));
        }
    }

    fn at(&self, address: &Address) -> &[(NetnsKey, &'a SocketTable)] {
        self.by_address.get(address).map_or(&[], Vec::as_slice)
    }
}

impl NamespaceView<'_> {
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

/// Whose the ends of a flow are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whose {
    /// `None` for an end that is not here. At least one of them is, or the flow was forwarded: then it
    /// stands at the originator's. Where an end that is here is counted there, neither may be.
    pub(super) found: [Found; 2],
    /// The other namespace in which an end was found.
    pub(super) netns: [Option<NetnsKey>; 2],
}

/// Whose the ends of a flow are. `settled` says of each end whether a process is known already;
/// `counted` whether a namespace's own table has the flow that sends along a tuple there: then its
/// bytes are counted there, and not here as well.
pub(super) fn whose(
    flow: &Flow,
    around: &mut NamespaceView<'_>,
    settled: [bool; 2],
    counted: impl Fn(NetnsKey, &Tuple) -> bool,
) -> Whose {
    if flow.counted_at == CountedAt::Socket {
        let socket = around.sockets.find(&flow.original).and_then(|found| {
            found.sockets().find(|socket| Some(socket.cookie) == flow.generation)
        });
        let owner = socket.map_or(Err(Reason::Exited), |socket| holder(socket, around.owner));
        return Whose { found: [Some(owner), None], ..Whose::default() };
    }
    let mut whose = Whose::default();
    let mut elsewhere = false;
    for (side, tuple) in [(Side::Originator, &flow.original), (Side::Responder, &flow.reply)] {
        let end = side as usize;
        whose.found[end] = named(tuple, side, settled[end], around);
        if whose.found[end].is_none() && around.is_here(&tuple.source.address, side) {
            whose.found[end] = Some(without_socket(flow, side, settled[end], around));
        }
        if whose.found[end].is_some() {
            continue;
        }
        let (found, netns) =
            in_other_namespace(flow, side, settled[end], around, &counted, &mut elsewhere);
        whose.found[end] = found;
        whose.netns[end] = netns;
    }
    if whose.found == [None, None] && !elsewhere {
        whose.found[Side::Originator as usize] = Some(Err(Reason::Forwarded));
    }
    whose
}

/// Who holds the socket at an end that is in another namespace. `settled` says whether a process is
/// known already.
fn in_other_namespace(
    flow: &Flow,
    side: Side,
    settled: bool,
    around: &mut NamespaceView<'_>,
    counted: impl Fn(NetnsKey, &Tuple) -> bool,
    elsewhere: &mut bool,
) -> (Found, Option<NetnsKey>) {
    let tuple = if side == Side::Originator { &flow.original } else { &flow.reply };
    let server = side == Side::Responder && tuple.protocol == Protocol::TCP;
    let mut found = (None, None);
    for (key, sockets) in around.other_namespaces.at(&tuple.source.address) {
        if *key == around.netns {
            continue;
        }
        if counted(*key, tuple) {
            *elsewhere = true;
            return (None, None);
        }
        // As in `named`.
        if tuple.protocol.is_icmp() && side == Side::Responder {
            continue;
        }
        let here = match sockets.find(tuple) {
            Some(matching) if settled && are_raw(tuple.protocol, matching) => continue,
            Some(matching) => {
                let owner = &mut *around.owner;
                let mut owners = matching.sockets().map(|socket| holder(socket, owner));
                let Some(first) = owners.next() else { continue };
                if owners.all(|o| o == first) { first } else { Err(Reason::Ambiguous) }
            }
            None if server && !settled => match acceptor(flow, sockets, around.acceptor) {
                Some(process) => Ok(process),
                None => continue,
            },
            None => continue,
        };
        found = match found {
            (None, _) => (Some(here), Some(*key)),
            // Two namespaces with the same address and the same ports: nobody can tell them apart.
            (Some(_), netns) => (Some(Err(Reason::Ambiguous)), netns),
        };
    }
    found
}

/// Whether a ping was matched with raw sockets, of which each receives what any of them has asked for.
/// Who was there when the flow began is better candidates.
fn are_raw(protocol: Protocol, found: Match<'_>) -> bool {
    protocol.is_icmp() && found.sockets().all(|socket| socket.tuple.source.port == 0)
}

/// Who holds the socket at one end; `None` if there is no socket. `settled` says whether a process is
/// known already.
fn named(tuple: &Tuple, side: Side, settled: bool, around: &mut NamespaceView<'_>) -> Found {
    // The kernel answers pings; a raw socket only gets to see them.
    if tuple.protocol.is_icmp() && side == Side::Responder {
        return None;
    }
    let found = around.sockets.find(tuple)?;
    if settled && are_raw(tuple.protocol, found) {
        return None;
    }
    // Bound to the wildcard address it has its port here, not everywhere: a name server's socket
    // isn't the end of the queries that this host sends to others, or passes on.
    let unbound = |socket: &Socket| socket.tuple.source.address.is_unspecified();
    if found.sockets().any(unbound) && !around.is_here(&tuple.source.address, side) {
        return None;
    }
    let owner = &mut *around.owner;
    let mut owners = found.sockets().map(|socket| holder(socket, owner));
    let first = owners.next()?;
    if owners.all(|owner| owner == first) {
        return Some(first);
    }
    let chosen = (around.choose)(tuple);
    let chosen = chosen.and_then(|chosen| found.sockets().find(|s| s.inode == Some(chosen)));
    Some(chosen.map_or(Err(Reason::Ambiguous), |chosen| holder(chosen, around.owner)))
}

fn holder(socket: &Socket, owner: &mut dyn FnMut(Inode) -> Ownership) -> Result<ProcessId, Reason> {
    let Some(inode) = socket.inode else { return Err(without_descriptor(socket)) };
    match owner(inode) {
        Ownership::Process(process) => Ok(process),
        Ownership::Denied => Err(Reason::NoPermission),
        Ownership::Hidden => Err(Reason::OtherNamespace),
        Ownership::Nobody => Err(Reason::Kernel),
        Ownership::Unread => Err(Reason::Unread),
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

/// An end that is here and has no socket: who accepted it, where only one can have, or why nobody is
/// known.
fn without_socket(
    flow: &Flow,
    side: Side,
    settled: bool,
    around: &mut NamespaceView<'_>,
) -> Result<ProcessId, Reason> {
    match flow.original.protocol {
        Protocol::TCP if side == Side::Responder && !settled => {
            let nobody = if around.unread { Reason::Unread } else { Reason::Exited };
            acceptor(flow, around.sockets, around.acceptor).ok_or(nobody)
        }
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP | Protocol::DCCP => {
            Err(Reason::Exited)
        }
        Protocol::ICMP | Protocol::ICMPV6 if side == Side::Originator => Err(Reason::Exited),
        _ => Err(Reason::Kernel),
    }
}

/// The process that alone can have accepted a connection.
fn acceptor(
    flow: &Flow,
    sockets: &SocketTable,
    of: &mut dyn FnMut(&[Inode]) -> Option<ProcessId>,
) -> Option<ProcessId> {
    // One that was never answered was never accepted: its port may have been opened since.
    if flow.counters.is_none_or(|counters| counters.reply == 0) {
        return None;
    }
    let listeners = sockets.listeners(flow.reply.source);
    let inodes: Option<Vec<Inode>> = listeners.map(|socket| socket.inode).collect();
    of(&inodes?)
}
