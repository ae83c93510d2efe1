//! Finds the socket at each end of a flow, and its holder.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::addresses::LocalAddresses;
use crate::model::flow::{Address, CountedAt, Counters, Flow, Protocol, Tuple};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::netns::NetnsKey;
use crate::processes::{Ownership, ProcessId, SocketOwners};
use crate::sockets::{Inode, Match, Socket, SocketTable, TcpState};

/// What is known of the network namespace in which a flow was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamespaceView<'a> {
    /// The number of the namespace.
    pub netns: NetnsKey,
    /// Its sockets, listed just before the flows.
    pub sockets: &'a SocketTable,
    /// The addresses of this host in it.
    pub addresses: &'a LocalAddresses,
    /// The other network namespaces.
    pub other_namespaces: &'a OtherNamespaces<'a>,
    /// Whether the descriptors of some processes were not read yet.
    pub unread: bool,
}

/// Look-ups of sockets and their owners.
pub(crate) struct Lookups<'a> {
    /// Finds the holders of sockets, and the acceptors at listening sockets.
    pub owners: &'a mut dyn SocketOwners,
    /// Of several sockets that share an address, finds the one that the kernel would choose for a
    /// packet which comes back along this tuple, in the namespace of the flow.
    pub choose: &'a mut dyn FnMut(&Tuple) -> Option<Inode>,
}

/// The network namespaces of this host, by their addresses: an end that isn't in the namespace in
/// which a flow was counted may be in one of them.
#[derive(Debug, Default)]
pub(crate) struct OtherNamespaces<'a> {
    by_address: HashMap<Address, Vec<(NetnsKey, &'a SocketTable)>, RandomState>,
}

impl<'a> OtherNamespaces<'a> {
    /// Adds a namespace.
    pub(crate) fn add(
        &mut self,
        key: NetnsKey,
        addresses: &LocalAddresses,
        sockets: &'a SocketTable,
    ) {
        for address in addresses.own().filter(|address| addresses.is_known_as(address)) {
            self.by_address.entry(address).or_default().push((key, sockets));
        }
    }

    fn at(&self, address: &Address) -> &[(NetnsKey, &'a SocketTable)] {
        self.by_address.get(address).map_or(&[], Vec::as_slice)
    }
}

impl NamespaceView<'_> {
    /// Whether a flow never left this host.
    fn is_local(&self, flow: &Flow) -> bool {
        self.addresses.sends_from(&flow.original.source.address)
            && self.addresses.sends_from(&flow.reply.source.address)
    }

    /// Whether the end of a flow that has this address is on this host.
    fn is_here(&self, address: &Address, side: Side) -> bool {
        match side {
            Side::Originator => self.addresses.sends_from(address),
            Side::Responder => self.addresses.receives_at(address),
        }
    }
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Originator = 0,
    Responder = 1,
}

impl Side {
    /// Counters as the program at this end sees them.
    pub(crate) fn view(self, counters: Counters) -> Traffic {
        let originator = Traffic::new(counters.reply, counters.original);
        match self {
            Side::Originator => originator,
            Side::Responder => originator.swapped(),
        }
    }
}

/// The result at one end of a flow: a process or the reason why there is none; `None` if the end
/// isn't here.
pub(crate) type Found = Option<Owner>;

/// The owners of a flow's ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FlowResolution {
    /// `None` for an end that is not here. At least one end is here, or the flow was forwarded; then
    /// the originator's has that reason. Both may be `None` if another table counts the ends that are
    /// here.
    pub(crate) found: [Found; 2],
    /// The other namespace in which an end was found.
    pub(crate) netns: [Option<NetnsKey>; 2],
    /// Whether the flow never left this host.
    pub(crate) local: bool,
}

/// Finds the owners of a flow's ends. `settled` says for each end whether its process is known
/// already. `counted` says whether a namespace's own table has the flow that sends along a tuple
/// there: then its bytes are counted there, and not here.
pub(crate) fn resolve(
    flow: &Flow,
    view: &NamespaceView<'_>,
    lookups: &mut Lookups<'_>,
    settled: [bool; 2],
    counted: impl Fn(NetnsKey, &Tuple) -> bool,
) -> FlowResolution {
    if flow.counted_at == CountedAt::Socket {
        let socket = view.sockets.find(&flow.original).and_then(|found| {
            found.sockets().find(|socket| Some(socket.cookie) == flow.generation)
        });
        let exited = Owner::Nobody(Reason::Exited);
        let owner = socket.map_or(exited, |socket| holder(socket, lookups.owners));
        return FlowResolution {
            found: [Some(owner), None],
            netns: [None; 2],
            local: view.is_local(flow),
        };
    }
    let mut resolution = FlowResolution { local: view.is_local(flow), ..FlowResolution::default() };
    let mut elsewhere = false;
    for (side, tuple) in [(Side::Originator, &flow.original), (Side::Responder, &flow.reply)] {
        let end = side as usize;
        resolution.found[end] = named(tuple, side, settled[end], view, lookups);
        if resolution.found[end].is_none() && view.is_here(&tuple.source.address, side) {
            resolution.found[end] = Some(without_socket(flow, side, settled[end], view, lookups));
        }
        if resolution.found[end].is_some() {
            continue;
        }
        let (found, netns) =
            in_other_namespace(flow, side, settled[end], view, lookups, &counted, &mut elsewhere);
        resolution.found[end] = found;
        resolution.netns[end] = netns;
    }
    if resolution.found == [None, None] && !elsewhere {
        resolution.found[Side::Originator as usize] = Some(Owner::Nobody(Reason::Forwarded));
    }
    resolution
}

/// The holder of the socket at an end in another namespace. `settled` says whether its process is
/// known already.
fn in_other_namespace(
    flow: &Flow,
    side: Side,
    settled: bool,
    view: &NamespaceView<'_>,
    lookups: &mut Lookups<'_>,
    counted: impl Fn(NetnsKey, &Tuple) -> bool,
    elsewhere: &mut bool,
) -> (Found, Option<NetnsKey>) {
    let tuple = if side == Side::Originator { &flow.original } else { &flow.reply };
    let server = side == Side::Responder && tuple.protocol == Protocol::TCP;
    let mut found = (None, None);
    for (key, sockets) in view.other_namespaces.at(&tuple.source.address) {
        if *key == view.netns {
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
                let owners = &mut *lookups.owners;
                let mut owners = matching.sockets().map(|socket| holder(socket, owners));
                let Some(first) = owners.next() else { continue };
                if owners.all(|o| o == first) { first } else { Reason::Ambiguous.into() }
            }
            None if server && !settled => match acceptor(flow, sockets, lookups.owners) {
                Some(process) => process.into(),
                None => continue,
            },
            None => continue,
        };
        found = match found {
            (None, _) => (Some(here), Some(*key)),
            // Two namespaces with the same address and the same ports can't be told apart.
            (Some(_), netns) => (Some(Reason::Ambiguous.into()), netns),
        };
    }
    found
}

/// Whether a ping was matched with raw sockets: each receives the answers to the pings of all. The
/// process seen when the flow started is better evidence.
fn are_raw(protocol: Protocol, found: Match<'_>) -> bool {
    protocol.is_icmp() && found.sockets().all(|socket| socket.tuple.source.port == 0)
}

/// The holder of the socket at one end; `None` if there is no socket. `settled` says whether its
/// process is known already.
fn named(
    tuple: &Tuple,
    side: Side,
    settled: bool,
    view: &NamespaceView<'_>,
    lookups: &mut Lookups<'_>,
) -> Found {
    // The kernel answers pings; a raw socket only receives copies.
    if tuple.protocol.is_icmp() && side == Side::Responder {
        return None;
    }
    let found = view.sockets.find(tuple)?;
    if settled && are_raw(tuple.protocol, found) {
        return None;
    }
    // Bound to the wildcard address, a socket has its port on this host only: a name server's
    // socket isn't the end of the queries that this host sends to others, or forwards.
    let unbound = |socket: &Socket| socket.tuple.source.address.is_unspecified();
    if found.sockets().any(unbound) && !view.is_here(&tuple.source.address, side) {
        return None;
    }
    let owners = &mut *lookups.owners;
    let mut owners = found.sockets().map(|socket| holder(socket, owners));
    let first = owners.next()?;
    if owners.all(|owner| owner == first) {
        return Some(first);
    }
    let chosen = (lookups.choose)(tuple);
    let chosen = chosen.and_then(|chosen| found.sockets().find(|s| s.inode == Some(chosen)));
    let ambiguous = Owner::Nobody(Reason::Ambiguous);
    Some(chosen.map_or(ambiguous, |chosen| holder(chosen, lookups.owners)))
}

fn holder(socket: &Socket, owners: &mut dyn SocketOwners) -> Owner {
    let Some(inode) = socket.inode else { return without_descriptor(socket).into() };
    match owners.owner(inode) {
        Ownership::Process(process) => process.into(),
        Ownership::Denied => Reason::NoPermission.into(),
        Ownership::Hidden => Reason::OtherNamespace.into(),
        Ownership::Nobody => Reason::Kernel.into(),
        Ownership::Unread => Reason::Unread.into(),
    }
}

/// A socket without a descriptor is either not accepted yet, or closed while the kernel still sends
/// its remaining data.
fn without_descriptor(socket: &Socket) -> Reason {
    match socket.state {
        TcpState::SYN_RECV
        | TcpState::NEW_SYN_RECV
        | TcpState::ESTABLISHED
        | TcpState::CLOSE_WAIT => Reason::Kernel,
        _ => Reason::Exited,
    }
}

/// The owner at an end that is here and has no socket: the only process that can have accepted it,
/// or the reason why none is known.
fn without_socket(
    flow: &Flow,
    side: Side,
    settled: bool,
    view: &NamespaceView<'_>,
    lookups: &mut Lookups<'_>,
) -> Owner {
    match flow.original.protocol {
        Protocol::TCP if side == Side::Responder && !settled => {
            let nobody = if view.unread { Reason::Unread } else { Reason::Exited };
            acceptor(flow, view.sockets, lookups.owners).map_or(nobody.into(), Owner::from)
        }
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP | Protocol::DCCP => {
            Reason::Exited.into()
        }
        Protocol::ICMP | Protocol::ICMPV6 if side == Side::Originator => Reason::Exited.into(),
        _ => Reason::Kernel.into(),
    }
}

/// Maximum of bytes of a packet that answers who asks for a connection: headers of IPv6 and TCP, with all options.
const ANSWER: u64 = 40 + 60;

/// The only process that can have accepted a connection.
fn acceptor(
    flow: &Flow,
    sockets: &SocketTable,
    owners: &mut dyn SocketOwners,
) -> Option<ProcessId> {
    let reply = flow.counters?.reply;
    // A connection without a reply was never accepted: its port may have been opened since. One that was only answered
    // may not have been listed yet, and whoever has run since then has not accepted it.
    if reply == 0 || reply <= ANSWER && !flow.closed && !flow.ended {
        return None;
    }
    let listeners = sockets.listeners(flow.reply.source);
    let inodes: Option<Vec<Inode>> = listeners.map(|socket| socket.inode).collect();
    owners.acceptor(&inodes?)
}
