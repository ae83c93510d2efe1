//! A host made by hand: its addresses, its sockets, their holders, and its flows.

mod conservation;
mod generations;
mod holders;
mod join;
mod listeners;
mod namespaces;
mod new_flows;
mod opening;
mod readings;

use std::collections::HashMap;
use std::net::SocketAddr;

use super::*;
use crate::addresses::LocalAddresses;
use crate::environment::{Lookups, NamespaceView, OtherNamespaces, resolve};
use crate::model::flow::{Address, Endpoint, Protocol};
use crate::processes::{Ownership, SocketOwners};
use crate::sockets::{Inode, Socket, SocketTable, TcpState};
use crate::tracker::Seen;

/// The addresses of the host. All others belong to other hosts.
const OWN: [&str; 3] = ["10.0.0.1", "198.51.100.1", "fd00::1"];

fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip().into(), address.port())
}

fn address(text: &str) -> Address {
    endpoint(&format!("{text}:0")).address
}

fn tuple(protocol: Protocol, from: &str, to: &str) -> Tuple {
    Tuple { protocol, source: endpoint(from), destination: endpoint(to) }
}

/// A tracked flow without address translation and without an identity of its own.
fn flow(protocol: Protocol, from: &str, to: &str) -> Flow {
    let original = tuple(protocol, from, to);
    Flow::new(original, original.reversed(), CountedAt::Path)
}

fn tcp(from: &str, to: &str) -> Flow {
    flow(Protocol::TCP, from, to)
}

fn udp(from: &str, to: &str) -> Flow {
    flow(Protocol::UDP, from, to)
}

/// A flow that a socket has counted.
fn at_socket(cookie: u64, local: &str, remote: &str) -> Flow {
    let counted_at = CountedAt::Socket;
    Flow { generation: Some(cookie), counted_at, ..tcp(local, remote) }
}

impl Flow {
    fn counted(self, original: u64, reply: u64) -> Flow {
        Flow { counters: Some(Counters { original, reply }), ..self }
    }

    fn entry(self, id: u64) -> Flow {
        Flow { generation: Some(id), ..self }
    }

    /// Its announced end.
    fn over(self) -> Flow {
        Flow { ended: true, ..self }
    }

    /// The responder's tuple after address translation.
    fn answered(self, from: &str, to: &str) -> Flow {
        Flow { reply: tuple(self.original.protocol, from, to), ..self }
    }
}

fn process(pid: u32) -> ProcessId {
    ProcessId { start_time: 1, pid }
}

/// The start of a flow in this namespace, and the processes at its ends.
fn born(flow: Flow, ends: [Option<u32>; 2]) -> NewFlowRecord {
    let seen = |pid| Seen { process: process(pid), netns: NetnsKey::OWN };
    NewFlowRecord { netns: NetnsKey::OWN, flow, ends: ends.map(|pid| pid.map(seen)), is_new: true }
}

/// A later record of the flow.
fn late(flow: Flow, ends: [Option<u32>; 2]) -> NewFlowRecord {
    NewFlowRecord { is_new: false, ..born(flow, ends) }
}

fn held(pid: u32) -> Ownership {
    Ownership::Process(process(pid))
}

/// A minimal ledger, in numbers that don't overflow: `[received, sent]`.
#[derive(Debug, Default)]
struct Sums {
    processes: HashMap<ProcessId, [u128; 2]>,
    reasons: HashMap<Reason, [u128; 2]>,
}

fn wide(traffic: Traffic) -> [u128; 2] {
    [traffic.received.into(), traffic.sent.into()]
}

impl Sums {
    fn take(&mut self, share: &Share) {
        let (traffic, recent) = (wide(share.traffic), wide(share.recent));
        for way in 0..2 {
            assert!(recent[way] <= traffic[way], "more is recent than there is: {share:?}");
            if let Some(from) = share.from {
                let under = &mut self.reasons.entry(from).or_default()[way];
                let moved = traffic[way] - recent[way];
                *under = under.checked_sub(moved).unwrap_or_else(|| {
                    panic!("{moved} bytes are taken from {from}, under which only {under} stand")
                });
            }
            match share.to {
                Owner::Process(process) => {
                    self.processes.entry(process).or_default()[way] += traffic[way];
                }
                Owner::Nobody(reason) => {
                    self.reasons.entry(reason).or_default()[way] += traffic[way];
                }
                Owner::Unseen { .. } => panic!("a flow's process was seen: {share:?}"),
            }
        }
    }

    fn all(&self) -> [u128; 2] {
        let each = self.processes.values().chain(self.reasons.values());
        each.fold([0, 0], |[r, s], [received, sent]| [r + received, s + sent])
    }
}

/// The holders of the sockets.
struct Holders<'a>(&'a HashMap<Inode, Ownership>);

impl SocketOwners for Holders<'_> {
    fn owner(&mut self, inode: Inode) -> Ownership {
        self.0[&inode]
    }

    fn acceptor(&mut self, listeners: &[Inode]) -> Option<ProcessId> {
        let mut owners = listeners.iter().map(|inode| self.0[inode]);
        match owners.next()? {
            first @ Ownership::Process(process) => {
                owners.all(|owner| owner == first).then_some(process)
            }
            _ => None,
        }
    }
}

/// Another network namespace of the host.
struct Place {
    key: NetnsKey,
    addresses: LocalAddresses,
    sockets: Vec<Socket>,
}

struct Host {
    addresses: LocalAddresses,
    sockets: Vec<Socket>,
    other_namespaces: Vec<Place>,
    /// Of several sockets that share an address, the one that the kernel chooses.
    chosen: Option<Inode>,
    holders: HashMap<Inode, Ownership>,
    attribution: FlowAttribution,
    sums: Sums,
}

impl Host {
    fn new() -> Host {
        Host::with(FlowAttribution::new(true))
    }

    fn with(attribution: FlowAttribution) -> Host {
        let mut addresses = LocalAddresses::default();
        OWN.iter().for_each(|own| match own.contains(':') {
            true => addresses.insert(address(&format!("[{own}]"))),
            false => addresses.insert(address(own)),
        });
        Host {
            addresses,
            sockets: Vec::new(),
            other_namespaces: Vec::new(),
            chosen: None,
            holders: HashMap::new(),
            attribution,
            sums: Sums::default(),
        }
    }

    /// Opens a socket. Its cookie is its inode's number.
    fn open(&mut self, holder: Ownership, protocol: Protocol, local: &str, remote: &str) -> Inode {
        let inode = Inode(self.holders.len() as u32 + 1);
        self.holders.insert(inode, holder);
        self.sockets.push(Socket {
            tuple: tuple(protocol, local, remote),
            inode: Some(inode),
            uid: 0,
            cookie: inode.0.into(),
            state: TcpState::ESTABLISHED,
            v6_only: false,
            is_subflow: false,
            counters: None,
            sent_again: 0,
        });
        inode
    }

    /// A TCP socket without a descriptor.
    fn without_inode(&mut self, state: TcpState, local: &str, remote: &str) {
        let inode = self.open(Ownership::Nobody, Protocol::TCP, local, remote);
        let socket = self.sockets.last_mut().unwrap();
        assert_eq!(socket.inode.take(), Some(inode));
        socket.state = state;
    }

    fn close(&mut self, inode: Inode) {
        self.sockets.retain(|socket| socket.inode != Some(inode));
    }

    fn hand_on(&mut self, inode: Inode, holder: Ownership) {
        self.holders.insert(inode, holder);
    }

    /// Shows one flow in the current observation.
    fn show(&mut self, flow: Flow) -> Vec<Share> {
        self.show_in(NetnsKey::OWN, flow)
    }

    /// Shows one of the flows in a namespace's table.
    fn show_in(&mut self, netns: NetnsKey, flow: Flow) -> Vec<Share> {
        let others = self.other_namespaces.iter().map(|at| (at.key, &at.addresses, &at.sockets));
        let own = (NetnsKey::OWN, &self.addresses, &self.sockets);
        let places = std::iter::once(own).chain(others).map(|(key, addresses, sockets)| {
            let mut table = SocketTable::default();
            sockets.iter().for_each(|socket| table.insert(*socket));
            (key, addresses, table)
        });
        let places: Vec<_> = places.collect();
        let mut other_namespaces = OtherNamespaces::default();
        places
            .iter()
            .for_each(|(key, addresses, table)| other_namespaces.add(*key, addresses, table));
        let (_, addresses, sockets) = places.iter().find(|(key, ..)| *key == netns).unwrap();
        let view = NamespaceView {
            netns,
            sockets,
            addresses,
            other_namespaces: &other_namespaces,
            unread: false,
        };
        let mut owners = Holders(&self.holders);
        let mut lookups = Lookups { owners: &mut owners, choose: &mut |_| self.chosen };
        let attribution = &mut self.attribution;
        let mut shares = Vec::new();
        if let Some(change) = attribution.read(&flow, netns, |share| shares.push(share)) {
            let counted =
                |key, tuple: &Tuple| attribution.is_counted_elsewhere(&change, key, tuple);
            let resolution = resolve(&flow, &view, &mut lookups, change.settled(), counted);
            attribution.account(&flow, change, resolution, |share| shares.push(share));
        }
        shares.iter().for_each(|share| self.sums.take(share));
        shares
    }

    /// Takes records of new flows.
    fn take_records(&mut self, records: impl IntoIterator<Item = NewFlowRecord>) -> Vec<Share> {
        let mut shares = Vec::new();
        self.attribution.take_records(records, |_, share| shares.push(share));
        shares.iter().for_each(|share| self.sums.take(share));
        shares
    }

    /// One whole observation.
    fn look(&mut self, flows: impl IntoIterator<Item = Flow>) -> Vec<Share> {
        self.attribution.begin();
        let shares = flows.into_iter().flat_map(|flow| self.show(flow)).collect();
        self.end(true);
        shares
    }

    /// One whole observation, with announcements before its flows.
    fn record_and_look(
        &mut self,
        records: impl IntoIterator<Item = NewFlowRecord>,
        flows: impl IntoIterator<Item = Flow>,
    ) -> Vec<Share> {
        self.attribution.begin();
        let mut shares = self.take_records(records);
        shares.extend(flows.into_iter().flat_map(|flow| self.show(flow)).collect::<Vec<_>>());
        self.end(true);
        shares
    }

    /// Ends an observation, in which all flows were shown or some may have been missing.
    fn end(&mut self, complete: bool) -> Observation {
        let coverage = if complete { Coverage::Whole } else { Coverage::Interrupted };
        self.attribution.leave(NetnsKey::OWN, coverage);
        let Host { attribution, sums, .. } = self;
        attribution.end(|share| sums.take(&share))
    }

    /// The bytes of a process.
    fn of(&self, pid: u32) -> (u128, u128) {
        self.sums.processes.get(&process(pid)).map_or((0, 0), |[r, s]| (*r, *s))
    }

    /// The bytes under a reason.
    fn under(&self, reason: Reason) -> (u128, u128) {
        self.sums.reasons.get(&reason).map_or((0, 0), |[r, s]| (*r, *s))
    }

    /// The sum of all accounted bytes.
    fn all(&self) -> (u128, u128) {
        let [received, sent] = self.sums.all();
        (received, sent)
    }
}
