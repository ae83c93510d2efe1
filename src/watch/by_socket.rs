//! What a look accounts where the kernel counts socket by socket.

use std::collections::HashSet;
use std::path::Path;

use super::{Looked, Map, Source, Watch, WatchError, flows, no_proc};
use crate::conntrack;
use crate::ebpf::{self, Origin, Passing};
use crate::flow::Protocol;
use crate::ledger::{Ledger, Options};
use crate::monitor::{Evidence, Reason, Share, SocketAttribution, Verdict, whose};
use crate::netns::NetnsChoice;
use crate::processes::{Described, LabelBy, Owners, Ownership, ProcessId, command_line};
use crate::sockets::Inode;
use crate::traffic::Traffic;

/// At every how many looks all sockets are listed although none seems to be new.
const LIST_ROUND: u32 = 16;

/// For how many looks it is remembered of whom a process was a copy.
const COPIES: u32 = 8;

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
    passing: Option<Passed>,
    /// All sockets by their cookies, as they were listed last.
    listed: Map<u64, Option<Inode>>,
    /// The process that had a number last, of those that the witness has seen.
    numbers: Map<u32, ProcessId>,
    /// Of whom a process is a copy, and the look at which that was told.
    copies: Map<u32, (u32, u32)>,
    labels: Vec<LabelBy>,
}

/// What connection tracking says of traffic that has no socket here.
#[derive(Debug)]
struct Passed {
    watch: Box<Watch>,
    ledger: Ledger,
    credited: Traffic,
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
            listed: Map::default(),
            numbers: Map::default(),
            copies: Map::default(),
            labels: Vec::new(),
        })
    }

    pub(super) fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.labels = labels;
    }

    /// Accounts what passes through this host, too, where connection tracking knows it.
    pub(super) fn count_passing(&mut self, proc: &Path) {
        let watch = Watch::open(Source::Conntrack, self.choice, false, proc);
        let counts = past_source(proc) == Source::Conntrack;
        self.passing = watch.ok().filter(|_| counts).map(|watch| Passed {
            watch: Box::new(watch),
            ledger: Ledger::new(Options::default()),
            credited: Traffic::ZERO,
        });
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

/// Who the processes are that the kernel has seen in passing.
struct Makers<'a> {
    owners: &'a mut Owners,
    witnessed: &'a mut Map<ProcessId, (Described, u32)>,
    numbers: &'a Map<u32, ProcessId>,
    copies: &'a Map<u32, (u32, u32)>,
    looks: u32,
}

impl Makers<'_> {
    /// The process that had a number at a time, in clock ticks since boot. One that nobody has seen is
    /// called what its parent was if it was a copy, else by its short name.
    fn find(&mut self, passing: &Passing, at: u64) -> ProcessId {
        if let Some(id) = self.known(passing.pid, at) {
            return id;
        }
        let id = ProcessId { start_time: at, pid: passing.pid };
        if !self.witnessed.contains_key(&id) {
            let parent = self.copies.get(&passing.pid).map(|(parent, _)| *parent);
            let parent = parent.and_then(|parent| self.known(parent, at));
            let described = parent.and_then(|parent| {
                self.owners.refresh(parent);
                let witnessed = || self.witnessed.get(&parent).map(|(described, _)| described);
                self.owners.described(parent).or_else(witnessed).cloned()
            });
            let described = described.unwrap_or_else(|| called(passing));
            self.witnessed.insert(id, (described, self.looks));
        }
        id
    }

    fn known(&self, pid: u32, at: u64) -> Option<ProcessId> {
        let seen = self.numbers.get(&pid).copied().filter(|id| id.start_time <= at);
        self.owners.by_number(pid, at).or(seen)
    }

    fn credit(&mut self, ledger: &mut Ledger, share: &Share) {
        ledger.credit(share, || flows::described_or_unknown(share, self.owners, self.witnessed));
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
        let new = counted.iter().any(|(socket, _)| by_socket.attribution.is_new(socket));
        if new || self.looks % LIST_ROUND == 1 {
            self.list_sockets(&mut looked)?;
            by_socket.listed.clear();
            for readers in &self.places {
                let sockets = readers.table.iter().map(|socket| (socket.cookie, socket.inode));
                by_socket.listed.extend(sockets);
            }
        }
        let inodes = self.places.iter().flat_map(|readers| readers.table.inodes());
        let processes = self.owners.look(inodes).map_err(|errno| no_proc(&self.proc, errno))?;
        looked.denied = processes.denied;
        looked.failed = processes.failed;
        self.hear_of_processes(by_socket, &mut looked);
        looked.flows += counted.len() as u64;
        self.account(by_socket, counted, ledger);
        let reader = &by_socket.reader;
        let overflow = reader.without_slot() != ebpf::Bytes::default();
        looked.overflow = overflow.then(|| reader.capacity());
        self.account_passing(by_socket, ledger);
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
        let looks = self.looks;
        by_socket.hear(seen.described.keys().copied(), seen.copies, looks);
        let described = seen.described.into_iter();
        self.witnessed.extend(described.map(|(id, described)| (id, (described, looks))));
        self.forget_witnessed();
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
        let BySocket { reader, attribution, choice, listed, numbers, copies, .. } = by_socket;
        let mut makers = Makers { owners, witnessed, numbers, copies, looks: *looks };
        let (only, netns) = (*choice == NetnsChoice::Own, reader.netns());
        for (socket, last) in counted {
            let (mut shares, mut of_pipe) = (Vec::new(), false);
            let idle = attribution.socket(
                &socket,
                last,
                || reader.origin(socket.slot),
                |origin, remembered| {
                    let known = listed.get(&socket.cookie);
                    // One of before the start is this namespace's if it is listed here.
                    let is_here = match origin.netns {
                        0 => known.is_some() || listed.contains_key(&origin.listener),
                        of => of == netns,
                    };
                    if only && !is_here {
                        return None;
                    }
                    of_pipe = is_of_pipe(origin, pipes);
                    let inode = remembered.inode.or(known.copied().flatten());
                    let holder = inode.filter(|_| !origin.released);
                    let holder = holder.map(|inode| makers.owners.owner(inode));
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
                if of_pipe && own.is_some_and(|own| share.to == Ok(own)) {
                    share.to = Err(Reason::OwnPipe);
                }
                makers.credit(ledger, &share);
            }
            let is_done = || {
                SocketAttribution::may_be_done(idle)
                    && reader
                        .origin(socket.slot)
                        .is_some_and(|origin| SocketAttribution::is_done(idle, &origin))
            };
            if last {
                attribution.forget(socket.slot);
            } else if is_done() {
                reader.take_back(socket.slot);
            }
        }
        attribution.without_slot(reader.without_slot(), |share| makers.credit(ledger, &share));
    }

    /// Accounts what connection tracking has seen pass through since the last look.
    fn account_passing(&self, by_socket: &mut BySocket, ledger: &mut Ledger) {
        let Some(Passed { watch, ledger: apart, credited }) = &mut by_socket.passing else {
            return;
        };
        if watch.look(apart).is_err() {
            by_socket.passing = None;
            return;
        }
        let total = apart
            .unattributed_lines()
            .find(|(reason, _)| *reason == Reason::Forwarded)
            .map_or(Traffic::ZERO, |(_, account)| account.total);
        apart.begin();
        let new = total - *credited;
        *credited = Traffic {
            received: credited.received.max(total.received),
            sent: credited.sent.max(total.sent),
        };
        if !new.is_zero() {
            let to = Err(Reason::Forwarded);
            let share = Share { to, traffic: new, recent: new, from: None, local: false };
            ledger.credit(&share, flows::unknown);
        }
    }
}

/// A process of which nothing but its name is known.
fn called(passing: &Passing) -> Described {
    let end = passing.name.iter().position(|byte| *byte == 0).unwrap_or(passing.name.len());
    let name = passing.name.get(..end).unwrap_or_default();
    Described { command_line: command_line(&[], name), label: None }
}

fn is_of_pipe(origin: &Origin, ports: &HashSet<u16>) -> bool {
    origin.protocol == Protocol::TCP && origin.ports.iter().any(|port| ports.contains(port))
}
