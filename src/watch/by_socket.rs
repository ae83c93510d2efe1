//! What a look accounts where the kernel counts socket by socket.

use std::path::Path;

use super::{Looked, Map, Source, Watch, WatchError, flows, no_proc};
use crate::conntrack;
use crate::ebpf::{self, Origin, Passing};
use crate::flow::Protocol;
use crate::ledger::{Ledger, Options};
use crate::monitor::{Evidence, Reason, Share, SocketAttribution, whose};
use crate::netns::NetnsChoice;
use crate::processes::{Described, LabelBy, ProcessId, command_line};
use crate::sockets::Inode;
use crate::traffic::Traffic;

/// At every how many looks all sockets are listed although none seems to be new.
const LIST_ROUND: u32 = 16;

/// For how many looks it is remembered of whom a process was a copy.
const COPIES: u32 = 8;

/// A clock tick of the kernel's, in nanoseconds (`USER_HZ`).
const TICK: u64 = 10_000_000;

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

    /// Accounts the new bytes of every socket, and gives back the slots of those that are idle.
    fn account(
        &mut self,
        by_socket: &mut BySocket,
        counted: Vec<(ebpf::Counted, bool)>,
        ledger: &mut Ledger,
    ) {
        let Watch { owners, witnessed, own, pipes, looks, .. } = self;
        let BySocket { reader, attribution, choice, listed, numbers, copies, labels: _, .. } =
            by_socket;
        for (socket, last) in counted {
            let Some(origin) = reader.origin(socket.slot) else { continue };
            let known = listed.get(&socket.cookie);
            // One of before the start is this namespace's if it is listed here.
            let here = match origin.netns {
                0 => known.is_some() || listed.contains_key(&origin.listener),
                netns => netns == reader.netns(),
            };
            if *choice == NetnsChoice::Own && !here {
                continue;
            }
            let mut shares: Vec<Share> = Vec::new();
            let mut named: Vec<(ProcessId, Described)> = Vec::new();
            let idle = attribution.socket(
                &socket,
                origin.listening && !last,
                |asked, held| {
                    let inode = asked.inode.or(known.copied().flatten());
                    let holder = match (inode, origin.released) {
                        (Some(inode), false) => Some(owners.owner(inode)),
                        _ => None,
                    };
                    let mut process = |passing: Option<Passing>, by: u64| {
                        let passing = passing?;
                        let by = by / TICK;
                        let seen = numbers.get(&passing.pid).copied();
                        let seen = seen.filter(|id| id.start_time <= by);
                        if let Some(id) = owners.by_number(passing.pid, by).or(seen) {
                            return Some(id);
                        }
                        let id = ProcessId { start_time: by, pid: passing.pid };
                        let parent = copies.get(&passing.pid).and_then(|(parent, _)| {
                            let parent = owners.by_number(*parent, by);
                            let parent = parent.or_else(|| {
                                copies.get(&passing.pid).and_then(|(p, _)| numbers.get(p)).copied()
                            })?;
                            let seen = || witnessed.get(&parent).map(|(d, _)| d);
                            owners.refresh(parent);
                            owners.described(parent).or_else(seen).cloned()
                        });
                        named.push((id, parent.unwrap_or_else(|| called(&passing))));
                        Some(id)
                    };
                    let now = u64::MAX;
                    let maker = process(origin.maker, origin.made);
                    let closer = process(origin.closer, now);
                    let evidence = Evidence { holder, maker, closer };
                    let to = whose(&origin, &evidence, held);
                    (to, inode, matches!(holder, Some(crate::processes::Ownership::Process(_))))
                },
                |share| shares.push(share),
            );
            for (id, described) in named {
                witnessed.entry(id).or_insert((described, *looks));
            }
            for mut share in shares {
                let is_own = own.is_some_and(|own| share.to == Ok(own));
                if is_own && is_of_pipe(&origin, pipes) {
                    share.to = Err(Reason::OwnPipe);
                }
                ledger.credit(&share, || flows::described_or_unknown(&share, owners, witnessed));
            }
            if last {
                attribution.forget(socket.slot);
            } else if SocketAttribution::is_idle(idle, &origin) {
                reader.take_back(socket.slot);
            }
        }
        attribution.without_slot(reader.without_slot(), |share| {
            ledger.credit(&share, || flows::described_or_unknown(&share, owners, witnessed));
        });
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

fn is_of_pipe(origin: &Origin, ports: &std::collections::HashSet<u16>) -> bool {
    origin.protocol == Protocol::TCP && origin.ports.iter().any(|port| ports.contains(port))
}
