//! Reads the bytes that conntrack, or else the sockets, have counted so far.

use std::path::Path;

use super::Map;
use crate::attribution::{FlowAttribution, OwnPipes, Share, ports};
use crate::conntrack::ctnetlink::NewFlows;
use crate::conntrack::{self, Table};
use crate::ebpf::Bytes;
use crate::environment::{Looked, Lookups, NamespaceView, OtherNamespaces, Side};
use crate::model::Remote;
use crate::model::flow::{CountedAt, Counters, Flow, Tuple};
use crate::model::owner::Owner;
use crate::model::traffic::Traffic;
use crate::netns::{self, NetnsId, NetnsKey};
use crate::processes::Owners;
use crate::sockets::Socket;
use crate::sources::flow_reading::attribute;
use crate::tracker::{FlowTable, Namespace, Opens, choose};

/// Number of new flows that are remembered. Further ones count as past.
const NEW_FLOWS: usize = 262_144;

/// A network namespace that another thread reads, independent of the environment.
#[derive(Debug)]
pub(super) struct PastNamespace {
    pub(super) namespace: Namespace,
    /// Flows that started since it was opened; `None` if the kernel doesn't announce them.
    pub(super) new_flows: Option<NewFlows>,
    flows: Vec<Flow>,
}

/// The bytes counted before the start.
#[derive(Debug)]
pub(super) struct Past {
    /// The namespaces, the program's own first.
    pub(super) namespaces: Vec<PastNamespace>,
    attribution: FlowAttribution,
    pub(super) ends: Vec<End>,
    looked: Looked,
    /// See [`Past::take_new_flows`].
    new: Vec<(NetnsKey, Tuple)>,
}

/// What bytes of the past are accounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account {
    pub(super) to: Owner,
    /// Whether the bytes stayed on this host.
    pub(super) local: bool,
    /// Their remote end, if these are told apart. Nobody has noted its interface.
    pub(super) remote: Option<Remote>,
}

/// An end of a flow, and what was accounted to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The namespace whose table has the flow, and the flow's zone and tuples there.
    pub(super) table: NetnsKey,
    pub(super) flow: Tuple,
    pub(super) zone: u16,
    pub(super) generation: Option<u64>,
    pub(super) counted_at: CountedAt,
    pub(super) counters: Counters,
    /// Whether this is the responder's end.
    pub(super) responder: bool,
    /// The namespace of its socket, and the tuple that finds the socket.
    pub(super) netns: NetnsKey,
    pub(super) tuple: Tuple,
    pub(super) local: bool,
    /// The flow's ports, before and after address translation.
    pub(super) ports: [u16; 4],
    /// Its remote end, if these are told apart.
    pub(super) remote: Option<Remote>,
    /// Its owner, if the kernel's side knew more than the listing of processes.
    pub(super) named: Option<Owner>,
}

impl End {
    /// Counters of the flow as this end sees them.
    pub(super) fn view(&self, counters: Counters) -> Traffic {
        let originator = Traffic::new(counters.reply, counters.original);
        if self.responder { originator.swapped() } else { originator }
    }

    pub(super) fn bytes(&self, counters: Counters) -> Bytes {
        place(self.view(counters), self.local)
    }

    pub(super) fn key(&self) -> (NetnsKey, Tuple, u16, bool) {
        (self.table, self.flow, self.zone, self.responder)
    }

    /// The flow, as far as it identifies an entry.
    fn identity(&self) -> Flow {
        Flow {
            zone: self.zone,
            generation: self.generation,
            ..Flow::new(self.flow, self.flow.reversed(), self.counted_at)
        }
    }

    /// The owner that its bytes were accounted to.
    pub(super) fn account(&self, past: &Past, pipes: &OwnPipes) -> Option<Account> {
        let ends = past.attribution.accounted(&self.identity(), self.table);
        let (_, to) = ends[usize::from(self.responder)]?;
        let to = self.named.unwrap_or_else(|| pipes.owner(self.flow.protocol, &self.ports, to));
        Some(Account { to, local: self.local, remote: self.remote })
    }
}

/// Bytes of a flow, as local or remote bytes.
pub(super) fn place(traffic: Traffic, local: bool) -> Bytes {
    let (remote, local) = if local { (Traffic::ZERO, traffic) } else { (traffic, Traffic::ZERO) };
    Bytes { remote, local }
}

/// Whether connection tracking counts here, and so has the bytes from before the start.
fn has_tables(proc: &Path) -> bool {
    let sysctls = conntrack::sysctls::read(proc);
    sysctls.accounting == Some(true) && sysctls.entries != Some(0)
}

impl Past {
    fn new(details: bool) -> Past {
        let mut attribution = FlowAttribution::new(true);
        if details {
            attribution.add_details();
        }
        Past {
            namespaces: Vec::new(),
            attribution,
            ends: Vec::new(),
            looked: Looked::default(),
            new: Vec::new(),
        }
    }

    /// Reads everything: the program's own namespace, then those of these processes, which this thread enters
    /// for good. A namespace that can't be opened, or has ended, is skipped. With `details`, remote ends are told apart.
    pub(super) fn read(proc: &Path, others: &[(NetnsId, u32)], details: bool) -> Past {
        let flows = has_tables(proc);
        let opens = Opens { flows, ends: !flows };
        let mut past = Past::new(details);
        past.open(opens, NetnsKey::OWN, None, proc, "self");
        for ((id, pid), key) in others.iter().zip(1..) {
            let process = pid.to_string();
            let entered = netns::enter(proc, &process);
            // The process may have changed its namespace meanwhile, and the thread entered that
            // one.
            let there = netns::of(Path::new("/proc"), "thread-self");
            if entered.is_ok() && there.is_ok_and(|there| there == *id) {
                past.open(opens, NetnsKey(key), Some(*id), proc, &process);
            }
        }
        // All sockets are read before all flows: an end may be in another namespace than the table
        // with its flow.
        for of in &mut past.namespaces {
            match of.namespace.list_sockets(!flows) {
                Ok(listing) => {
                    past.looked.malformed += listing.malformed;
                    past.looked.incomplete |= listing.interrupted > 0;
                }
                Err(_) => of.namespace.table.clear(),
            }
        }
        for of in &mut past.namespaces {
            of.read_flows(&mut past.looked);
        }
        past
    }

    fn open(
        &mut self,
        opens: Opens,
        key: NetnsKey,
        id: Option<NetnsId>,
        proc: &Path,
        process: &str,
    ) {
        let Ok(namespace) = Namespace::open(opens, key, id, proc, process) else { return };
        let new_flows = if opens.flows { NewFlows::listen().ok() } else { None };
        self.namespaces.push(PastNamespace { namespace, new_flows, flows: Vec::new() });
    }

    /// Attributes all flows that were read. Returns the bytes of each owner.
    pub(super) fn attribute(
        &mut self,
        owners: &mut Owners,
        pipes: &OwnPipes,
    ) -> Map<Account, Traffic> {
        let Past { namespaces, attribution, ends, .. } = self;
        let mut accounts = Map::default();
        attribution.begin();
        let (mut readings, mut other_namespaces) = (Vec::new(), OtherNamespaces::default());
        for PastNamespace { namespace, flows, .. } in namespaces {
            let Namespace { key, table, local, finder, .. } = namespace;
            other_namespaces.add(*key, local, table);
            readings.push((*key, &*table, &*local, finder, std::mem::take(flows)));
        }
        // As in every reading of flows.
        readings.reverse();
        for (key, sockets, addresses, finder, flows) in readings {
            let view = NamespaceView {
                netns: key,
                sockets,
                addresses,
                other_namespaces: &other_namespaces,
                unread: false,
            };
            for flow in flows {
                let mut choose = |tuple: &Tuple| choose(finder, addresses, tuple);
                let mut lookups = Lookups { owners: &mut *owners, choose: &mut choose };
                let shares = attribute(attribution, &flow, &view, &mut lookups);
                for share in shares.into_iter().flatten() {
                    credit(&mut accounts, &pipes.without_flow(&flow, share));
                }
                let accounted = attribution.accounted(&flow, key);
                let accounted_in = accounted.map(|end| end.map(|(netns, _)| netns));
                let local = addresses.sends_from(&flow.original.source.address)
                    && addresses.sends_from(&flow.reply.source.address);
                add(ends, &flow, key, accounted_in, local, attribution);
            }
        }
        accounts
    }

    /// Adds findings of the reading.
    pub(super) fn add_to(&mut self, looked: &mut Looked) {
        let found = std::mem::take(&mut self.looked);
        looked.flows += found.flows;
        looked.uncounted += found.uncounted;
        looked.malformed += found.malformed;
        looked.first_error = looked.first_error.take().or(found.first_error);
        looked.lost_ends += found.lost_ends;
        looked.incomplete |= found.incomplete;
    }

    /// The datagram flows that have started in each namespace since it was opened, in the default
    /// zone.
    pub(super) fn take_new_flows(&mut self) -> Vec<(NetnsKey, Tuple)> {
        self.drain();
        std::mem::take(&mut self.new)
    }

    /// Takes announcements of new flows, so that the kernel's buffers don't fill while the past waits for the holders
    /// of sockets to be read.
    pub(super) fn drain(&mut self) {
        let Past { namespaces, new, .. } = self;
        for PastNamespace { namespace, new_flows, .. } in namespaces {
            let Some(new_flows) = new_flows else { continue };
            let key = namespace.key;
            let is_meant = |flow: &Flow| flow.zone == 0 && flow.original.protocol.is_datagram();
            let take = |flow: Flow| {
                if new.len() < NEW_FLOWS && is_meant(&flow) {
                    new.push((key, flow.original));
                }
            };
            // A lost announcement makes its flow count as past.
            let _ = new_flows.drain(take, |_| {});
        }
    }

    /// The namespace of this number.
    pub(super) fn namespace(&mut self, key: NetnsKey) -> Option<&mut Namespace> {
        let mut namespaces = self.namespaces.iter_mut().map(|of| &mut of.namespace);
        namespaces.find(|namespace| namespace.key == key)
    }
}

impl PastNamespace {
    fn read_flows(&mut self, looked: &mut Looked) {
        let PastNamespace {
            namespace: Namespace { flows: table, ends, table: sockets, .. },
            flows,
            ..
        } = self;
        if let Some(FlowTable { reader, .. }) = table {
            // If the past is unknown, counting starts now.
            if let Ok(read) = reader.read(|flow| flows.push(*flow)) {
                let Table { complete, .. } = read;
                looked.add_table(read);
                looked.incomplete |= !complete;
            }
        } else {
            if let Some(ends) = ends {
                flows.extend(ends.take());
                looked.lost_ends += ends.take_lost();
            }
            // The slots, which are compared with it, have retransmissions too.
            flows.extend(sockets.iter().filter_map(Socket::flow_with_retransmissions));
        }
        looked.flows += flows.len() as u64;
        looked.uncounted += flows.iter().filter(|flow| flow.counters.is_none()).count() as u64;
    }
}

/// Takes a share of what was read.
fn credit(accounts: &mut Map<Account, Traffic>, share: &Share) {
    let Share { to, local, remote, .. } = *share;
    if let Some(reason) = share.from {
        let stood = Account { to: Owner::Nobody(reason), local, remote };
        *accounts.entry(stood).or_default() -= share.traffic - share.recent;
    }
    *accounts.entry(Account { to, local, remote }).or_default() += share.traffic;
}

/// Notes that a flow of `table` was accounted in these namespaces.
fn add(
    ends: &mut Vec<End>,
    flow: &Flow,
    table: NetnsKey,
    accounted_in: [Option<NetnsKey>; 2],
    local: bool,
    attribution: &FlowAttribution,
) {
    let Some(counters) = flow.counters else { return };
    let tuples = [flow.original, flow.reply];
    for ((netns, tuple), responder) in accounted_in.into_iter().zip(tuples).zip([false, true]) {
        let Some(netns) = netns else { continue };
        let side = if responder { Side::Responder } else { Side::Originator };
        ends.push(End {
            table,
            flow: flow.original,
            zone: flow.zone,
            generation: flow.generation,
            counted_at: flow.counted_at,
            counters,
            responder,
            netns,
            tuple,
            local,
            ports: ports(flow),
            remote: attribution.remote_end(flow, side, local),
            named: None,
        });
    }
}

#[cfg(test)]
impl Past {
    /// The past of one flow, whose first end is this owner's.
    pub(super) fn of(flow: &Flow, owner: Owner) -> Past {
        use crate::environment::FlowResolution;
        let mut past = Past::new(false);
        past.attribution.begin();
        let change = past.attribution.read(flow, NetnsKey::OWN, |_| {}).unwrap();
        let found = [Some(owner), None];
        let resolution = FlowResolution { found, ..FlowResolution::default() };
        past.attribution.account(flow, change, resolution, |_| {});
        past
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::owner::Reason;
    use crate::processes::ProcessId;

    #[test]
    fn what_waited_for_a_process_stands_on_its_account_alone() {
        let mut accounts = Map::default();
        let nobody = Owner::Nobody(Reason::Exited);
        let process = Owner::Process(ProcessId { start_time: 1, pid: 2 });
        let share = |to, received, recent, from| Share {
            to,
            traffic: Traffic::new(received, 0),
            recent: Traffic::new(recent, 0),
            from,
            local: false,
            remote: None,
        };
        credit(&mut accounts, &share(nobody, 100, 100, None));
        credit(&mut accounts, &share(nobody, 7, 0, None));
        credit(&mut accounts, &share(process, 150, 50, Some(Reason::Exited)));
        let stands = |to| accounts.get(&Account { to, local: false, remote: None }).copied();
        assert_eq!(stands(nobody), Some(Traffic::new(7, 0)));
        assert_eq!(stands(process), Some(Traffic::new(150, 0)));
    }
}
