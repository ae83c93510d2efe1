//! What a look accounts where the kernel counts socket by socket.

mod makers;
mod passing;

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::Path;

use super::{Looked, Map, Source, Watch, WatchError, no_proc};
use crate::conntrack;
use crate::ebpf::{self, Origin};
use crate::flow::Protocol;
use crate::ledger::Ledger;
use crate::monitor::{Evidence, Reason, SocketAttribution, Verdict, whose};
use crate::netns::NetnsChoice;
use crate::processes::{LabelBy, Ownership, ProcessId};
use crate::sockets::Inode;
use crate::traffic::Traffic;

use makers::Makers;
use passing::Passing;

/// At every how many looks all sockets are listed although none seems to be new.
const LIST_ROUND: u32 = 16;

/// For how many looks it is remembered of whom a process was a copy.
const COPIES: u32 = 8;

/// For how many sockets with traffic it is asked at every look who holds them, each of which takes a
/// link to be read; beyond that they are asked for in turn, each at every eighth look.
const CONFIRMED: u32 = 4096;
const CONFIRM_ROUND: u32 = 8;

/// A clock tick of the kernel's, in nanoseconds (`USER_HZ`).
const TICK: u64 = 10_000_000;

/// Later than any process has started.
const NOW: u64 = u64::MAX / TICK;

/// Counters of sockets, and whose they were.
#[derive(Debug)]
pub(super) struct BySocket {
    reader: ebpf::Reader,
    attribution: SocketAttribution,
    choice: NetnsChoice,
    lookback: bool,
    /// What passes through this host without a socket, if it is asked for.
    passing: Option<Passing>,
    /// What the kernel's own sockets have counted of pings.
    pings: Traffic,
    /// All sockets by their cookies, as they were listed last and before that: one that has ended since is
    /// in the earlier list alone.
    listed: [Map<u64, Option<Inode>>; 2],
    /// The process that had a number last, of those that the witness has seen.
    numbers: Map<u32, ProcessId>,
    /// Of whom a process is a copy, and the look at which that was told.
    copies: Map<u32, (u32, u32)>,
    labels: Vec<LabelBy>,
}

impl BySocket {
    pub(super) fn open(
        choice: NetnsChoice,
        lookback: bool,
        proc: &Path,
    ) -> Result<BySocket, WatchError> {
        Ok(BySocket {
            reader: ebpf::Reader::open(proc).map_err(WatchError::Ebpf)?,
            attribution: SocketAttribution::new(),
            choice,
            lookback,
            passing: None,
            pings: Traffic::ZERO,
            listed: Default::default(),
            numbers: Map::default(),
            copies: Map::default(),
            labels: Vec::new(),
        })
    }

    pub(super) fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.labels = labels;
    }

    /// Accounts what has no socket, too, where connection tracking knows it.
    pub(super) fn count_passing(&mut self, proc: &Path) {
        self.passing = Passing::open(self.choice, proc);
    }

    /// Whether the holder of a socket is to be found that was not listed yet.
    fn has_new(&self, counted: &[(ebpf::Counted, bool)]) -> bool {
        counted.iter().any(|(socket, last)| {
            !last
                && self.attribution.is_new(socket)
                && self.reader.origin(socket).is_some_and(|origin| {
                    let elsewhere = ![0, self.reader.netns()].contains(&origin.netns);
                    !(origin.released || elsewhere && self.choice == NetnsChoice::Own)
                })
        })
    }

    /// Hears of new processes.
    pub(super) fn hear(
        &mut self,
        described: impl Iterator<Item = ProcessId>,
        copies: Vec<(u32, Option<u32>)>,
        looks: u32,
    ) {
        self.numbers.extend(described.map(|id| (id.pid, id)));
        self.copies.retain(|_, (_, told)| looks - *told < COPIES);
        for (pid, of) in copies {
            match of {
                Some(parent) => drop(self.copies.insert(pid, (parent, looks))),
                None => drop(self.copies.remove(&pid)),
            }
        }
    }
}

/// Where it is known what was sent and received before counting began.
fn past_source(proc: &Path) -> Source {
    let state = conntrack::state::read(proc);
    match (state.accounting, state.entries) {
        (Some(true), entries) if entries != Some(0) => Source::Conntrack,
        _ => Source::Sockets,
    }
}

impl Watch {
    /// Looks once at all sockets.
    pub(super) fn look_at_sockets(
        &mut self,
        by_socket: &mut BySocket,
        ledger: &mut Ledger,
    ) -> Result<Looked, WatchError> {
        let mut looked = Looked::default();
        if self.looks == 1 && by_socket.lookback {
            looked = self.look_back(by_socket, ledger)?;
        }
        self.open_places();
        let mut counted = Vec::new();
        by_socket.reader.read(|socket, last| counted.push((socket, last)));

        by_socket.attribution.begin();
        if by_socket.has_new(&counted) || self.looks % LIST_ROUND == 1 {
            self.list_sockets(&mut looked)?;
            let [listed, before] = &mut by_socket.listed;
            std::mem::swap(listed, before);
            listed.clear();
            for readers in &self.places {
                // Those out of the text of `/proc/net` have no cookie.
                let sockets = readers.table.iter().filter(|socket| socket.cookie != 0);
                listed.extend(sockets.map(|socket| (socket.cookie, socket.inode)));
            }
        }
        let inodes = self.places.iter().flat_map(|readers| readers.table.inodes());
        let processes = self.owners.look(inodes).map_err(|errno| no_proc(&self.proc, errno))?;
        looked.denied = processes.denied;
        looked.failed = processes.failed;
        self.hear_of_processes(by_socket, &mut looked);
        let has_bytes = |(socket, _): &&(ebpf::Counted, bool)| socket.has_bytes();
        looked.flows += counted.iter().filter(has_bytes).count() as u64;
        self.account(by_socket, counted, ledger);
        by_socket.reader.give_back();
        let reader = &by_socket.reader;
        let overflow = reader.without_slot() != ebpf::Bytes::default();
        looked.overflow = overflow.then(|| reader.capacity());
        if let Some(passing) = &mut by_socket.passing
            && passing.look(by_socket.pings, ledger).is_err()
        {
            by_socket.passing = None;
        }
        self.name(ledger, processes.ended);
        ledger.keep_names_of(by_socket.attribution.referenced());
        self.leave_places();
        Ok(looked)
    }

    /// Accounts what was counted before by others.
    fn look_back(&self, by_socket: &BySocket, ledger: &mut Ledger) -> Result<Looked, WatchError> {
        let mut past = Watch::open(past_source(&self.proc), by_socket.choice, true, &self.proc)?;
        past.label_by(by_socket.labels.clone());
        past.leave_to_pipes(self.pipes.iter().copied());
        // Where nobody knows of the past, counting begins now.
        Ok(past.look(ledger).unwrap_or_default())
    }

    fn hear_of_processes(&mut self, by_socket: &mut BySocket, looked: &mut Looked) {
        let Some(witness) = &self.witness else { return };
        let seen = witness.take();
        looked.refused = witness.refused();
        by_socket.hear(seen.described.keys().copied(), seen.copies, self.looks);
        self.remember_witnessed(seen.described);
        let witnessed = &self.witnessed;
        by_socket.numbers.retain(|_, id| witnessed.contains_key(id));
    }

    /// Accounts the new bytes of every socket, and takes back the slots of those that are done.
    fn account(
        &mut self,
        by_socket: &mut BySocket,
        counted: Vec<(ebpf::Counted, bool)>,
        ledger: &mut Ledger,
    ) {
        let Watch { owners, witnessed, own, pipes, looks, .. } = self;
        let BySocket { reader, attribution, choice, listed, numbers, copies, pings, .. } =
            by_socket;
        let mut makers = Makers { owners, witnessed, numbers, copies, looks: *looks };
        // Whoever is silent can get a slot again: others need one now.
        let crowded = counted.len() > reader.capacity() / 2;
        let mut confirmed = 0;
        let (only, netns) = (*choice == NetnsChoice::Own, reader.netns());
        for (socket, last) in counted {
            let (mut shares, mut of_pipe, mut of_pings) = (Vec::new(), false, false);
            let origin = OnceCell::new();
            let origin = || *origin.get_or_init(|| reader.origin(&socket));
            let idle = attribution.socket(
                &socket,
                last,
                origin,
                |origin, remembered| {
                    let find = |cookie| listed.iter().find_map(|listed| listed.get(&cookie));
                    let known = find(socket.cookie);
                    // One of before the start is this namespace's if it is or was listed here.
                    let was_listed = || {
                        remembered.inode.is_some()
                            || known.is_some()
                            || find(origin.listener).is_some()
                    };
                    if only && origin.netns != netns && !(origin.netns == 0 && was_listed()) {
                        return None;
                    }
                    of_pipe = is_of_pipe(origin, pipes);
                    of_pings = origin.protocol.is_icmp();
                    let inode = remembered.inode.or(known.copied().flatten());
                    let is_turn = (makers.looks + socket.slot).is_multiple_of(CONFIRM_ROUND);
                    let holder = match (remembered.held, inode.filter(|_| !origin.released)) {
                        (Some(held), _) if confirmed >= CONFIRMED && !is_turn => {
                            Some(Ownership::Process(held))
                        }
                        (_, Some(inode)) => {
                            confirmed += 1;
                            Some(makers.owners.owner(inode))
                        }
                        (_, None) => None,
                    };
                    let maker = origin.maker.map(|maker| makers.find(&maker, origin.made / TICK));
                    let closer = origin.closer.map(|closer| makers.find(&closer, NOW));
                    let evidence = Evidence { holder, maker, closer };
                    let to = whose(origin, &evidence, remembered.held);
                    let held = matches!(holder, Some(Ownership::Process(_)));
                    Some(Verdict { to, held, inode })
                },
                |share| shares.push(share),
            );
            for mut share in shares {
                if of_pings && share.to == Err(Reason::Kernel) {
                    *pings += share.traffic;
                }
                if of_pipe && own.is_some_and(|own| share.to == Ok(own)) {
                    share.to = Err(Reason::OwnPipe);
                }
                makers.credit(ledger, &share);
            }
            if last {
                attribution.forget(socket.slot);
            } else if SocketAttribution::may_be_done(idle, crowded)
                && let Some(origin) = origin()
                && SocketAttribution::is_done(idle, &origin, crowded)
            {
                reader.take_back(&socket, &origin);
            }
        }
        attribution.without_slot(reader.without_slot(), |share| makers.credit(ledger, &share));
    }
}

fn is_of_pipe(origin: &Origin, ports: &HashSet<u16>) -> bool {
    origin.protocol == Protocol::TCP && origin.ports.iter().any(|port| ports.contains(port))
}
