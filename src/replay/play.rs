//! Feeds the core with recorded input.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use jiff::Timestamp;
use thiserror::Error;

use crate::addresses::LocalAddresses;
use crate::attribution::{
    Candidates, FlowAttribution, Remembered, Resolution, Share, SocketAttribution, holder, resolve,
};
use crate::ebpf::{Counted, Origin, Outside};
use crate::environment::{Lookups, NamespaceView, OtherNamespaces};
use crate::ledger::{self, Ledger};
use crate::model::Snapshot;
use crate::model::flow::{Flow, Tuple};
use crate::model::owner::Owner;
use crate::model::traffic::Traffic;
use crate::monitor::{Draft, Moment};
use crate::netns::NetnsKey;
use crate::processes::{Described, Ownership, ProcessId, ProcessNames, SocketOwners};
use crate::recording::Figures;
use crate::recording::format::{
    Answers, Evidence, FlowRow, Header, Item, Line, OwnerRow, ProcessRow, RecordRow, SlotRow,
    SocketRow, Text, Truth, TupleText, VERSION, origin, process, reason, unbytes,
};
use crate::sockets::{Inode, SocketTable};
use crate::sources::attribute;
use crate::tracker::NewFlowRecord;
use crate::watch::{credit, name};

type Map<K, V> = HashMap<K, V, RandomState>;

/// More slots than exist, of sockets and of packet sockets.
const SLOTS: u32 = 1 << 24;

/// Why a recording can't be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It can't be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is no recording, or of another version.
    #[error(
        "line 1: not a recording of version {VERSION} ({0}): it begins with {{\"bwmon-recording\":{VERSION},...}}; \
         record it again"
    )]
    Header(String),
    /// A line is invalid.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// The error.
        why: String,
    },
    /// The core queries what it didn't query when this was recorded.
    #[error(
        "line {line}: nothing is recorded of {what}; if the core rightly asks, record it again"
    )]
    Unanswered {
        /// The line at which it queries, from 1.
        line: usize,
        /// The query.
        what: String,
    },
}

/// A refresh as recorded, and its result now.
#[derive(Debug)]
pub struct Replayed {
    /// The recorded result.
    pub recorded: Figures,
    /// The result now.
    pub replayed: Figures,
    /// The snapshot of the result now.
    pub snapshot: Snapshot,
}

/// Replays a recording, refresh by refresh.
#[derive(Debug)]
pub struct Player<R> {
    lines: std::io::Lines<R>,
    line: usize,
    source: String,
    truth: Option<Truth>,
    core: Core,
}

impl<R: BufRead> Player<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is no recording of this version.
    pub fn open(from: R) -> Result<Player<R>, ReplayError> {
        let mut lines = from.lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let header: Header =
            serde_json::from_str(&first).map_err(|error| ReplayError::Header(error.to_string()))?;
        let Header { version, source, lookback } = header;
        if version != VERSION {
            return Err(ReplayError::Header(format!("it is of version {version}")));
        }
        Ok(Player { lines, line: 1, source, truth: None, core: Core::new(lookback) })
    }

    /// The name of the source that was recorded.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Bytes counted by other means, if they were recorded. Available after the last refresh.
    pub fn truth(&self) -> Option<&Truth> {
        self.truth.as_ref()
    }

    fn advance(&mut self) -> Result<Option<Replayed>, ReplayError> {
        loop {
            let Some(text) = self.lines.next().transpose()? else { return Ok(None) };
            self.line += 1;
            let line = self.line;
            let wrong = |why: String| ReplayError::Line { line, why };
            let parsed = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            let replayed = match parsed {
                Line::Truth(truth) => {
                    self.truth = Some(truth);
                    None
                }
                Line::Refresh(recorded) => Some(self.core.refresh(recorded)),
                other => {
                    self.core.take(other).map_err(wrong)?;
                    None
                }
            };
            if let Some(what) = self.core.answers.unanswered.take() {
                return Err(ReplayError::Unanswered { line, what });
            }
            if replayed.is_some() {
                return Ok(replayed);
            }
        }
    }
}

impl<R: BufRead> Iterator for Player<R> {
    type Item = Result<Replayed, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

fn shown(id: ProcessId) -> String {
    format!("process {}, begun at {},", id.pid, id.start_time)
}

/// The last answers of the environment.
#[derive(Debug, Default)]
struct Recorded {
    owners: Map<Inode, Ownership>,
    acceptors: Map<Vec<Inode>, Option<ProcessId>>,
    chosen: Map<Tuple, Option<Inode>>,
    named: Map<ProcessId, Option<Described>>,
    there: Map<ProcessId, bool>,
    cut: RefCell<Vec<ProcessId>>,
    /// The first query without a recorded answer.
    unanswered: RefCell<Option<String>>,
}

impl Recorded {
    fn learn(&mut self, answers: Answers) {
        let Answers { owners, acceptors, chosen, named, there } = answers;
        let inodes = |of: Vec<u32>| of.into_iter().map(Inode).collect();
        self.owners.extend(owners.into_iter().map(|(inode, of)| (Inode(inode), of.into())));
        let acceptors = acceptors.into_iter().map(|(of, by)| (inodes(of), by.map(process)));
        self.acceptors.extend(acceptors);
        let chosen = chosen.into_iter().map(|(TupleText(of), inode)| (of, inode.map(Inode)));
        self.chosen.extend(chosen);
        self.named.extend(named.into_iter().map(|(id, name)| {
            let described = |name: Text| Described::of(name.bytes().into());
            (process(id), name.map(described))
        }));
        self.there.extend(there.into_iter().map(|(id, is_there)| (process(id), is_there)));
    }

    fn or_ask<T>(&self, known: Option<T>, what: impl FnOnce() -> String) -> Option<T> {
        if known.is_none() {
            self.unanswered.borrow_mut().get_or_insert_with(what);
        }
        known
    }

    fn chosen(&self, tuple: &Tuple) -> Option<Inode> {
        let known = self.chosen.get(tuple).copied();
        self.or_ask(known, || format!("the socket that is chosen for {tuple}")).flatten()
    }
}

impl SocketOwners for &Recorded {
    fn owner(&mut self, inode: Inode) -> Ownership {
        let known = self.owners.get(&inode).copied();
        self.or_ask(known, || format!("who holds socket {}", inode.0)).unwrap_or(Ownership::Nobody)
    }

    fn acceptor(&mut self, listeners: &[Inode]) -> Option<ProcessId> {
        let known = self.acceptors.get(listeners).copied();
        self.or_ask(known, || format!("who accepts at {listeners:?}")).flatten()
    }
}

impl ProcessNames for &Recorded {
    fn refresh(&mut self, _: ProcessId) {}

    fn described(&mut self, id: ProcessId) -> Option<Described> {
        let known = self.named.get(&id).cloned();
        self.or_ask(known, || format!("how {} is named", shown(id))).flatten()
    }

    fn is_there(&mut self, id: ProcessId) -> bool {
        let known = self.there.get(&id).copied();
        self.or_ask(known, || format!("whether {} is there", shown(id))).unwrap_or(false)
    }

    fn take_cut(&mut self) -> Vec<ProcessId> {
        self.cut.take()
    }
}

/// The last content of a namespace.
#[derive(Debug, Default)]
struct Namespace {
    addresses: LocalAddresses,
    table: SocketTable,
}

/// Everything that decides: attribution, the ledger, and the snapshot.
#[derive(Debug)]
struct Core {
    flows: FlowAttribution,
    sockets: SocketAttribution,
    ledger: Ledger,
    unlisted: Vec<ProcessId>,
    refreshes: u64,
    begun: Instant,
    answers: Recorded,
    namespaces: Map<u32, Namespace>,
    order: Vec<u32>,
    /// The namespace that is read, and whether processes were unread.
    reading: (NetnsKey, bool),
    referenced: Option<HashSet<ProcessId, RandomState>>,
    /// Whether sockets are counted by slots.
    counts: bool,
    items: Items,
}

/// Values that came before, in order.
#[derive(Debug, Default)]
struct Items {
    tuples: Vec<Tuple>,
    flows: Vec<Flow>,
    sockets: Vec<(crate::sockets::Socket, bool)>,
    slots: Vec<Counted>,
}

fn known<T: Copy>(of: &[T], number: u32) -> Result<T, String> {
    let last = || format!("number {number} of {}", of.len());
    of.get(number as usize).copied().ok_or_else(last)
}

impl Items {
    fn tuple(&mut self, item: &Item<TupleText>) -> Result<Tuple, String> {
        match item {
            Item::Seen(number) => known(&self.tuples, *number),
            Item::New(TupleText(tuple)) => {
                self.tuples.push(*tuple);
                Ok(*tuple)
            }
        }
    }

    fn flow(&mut self, item: &Item<FlowRow>) -> Result<Flow, String> {
        let row = match item {
            Item::Seen(number) => return known(&self.flows, *number),
            Item::New(row) => row,
        };
        let original = self.tuple(&row.0)?;
        let reply = row.1.as_ref().map(|item| self.tuple(item)).transpose()?;
        let flow = row.flow(original, reply);
        self.flows.push(flow);
        Ok(flow)
    }

    fn socket(&mut self, item: &Item<SocketRow>) -> Result<(crate::sockets::Socket, bool), String> {
        let row = match item {
            Item::Seen(number) => return known(&self.sockets, *number),
            Item::New(row) => row,
        };
        let tuple = self.tuple(&row.0)?;
        let socket = row.socket(tuple);
        self.sockets.push(socket);
        Ok(socket)
    }

    /// A socket with a slot, and its bytes now.
    fn slot(&mut self, item: &Item<SlotRow>, bytes: [u64; 4]) -> Result<Counted, String> {
        let counted = match item {
            Item::Seen(number) => {
                let counted = Counted { bytes: unbytes(bytes), ..known(&self.slots, *number)? };
                self.slots[*number as usize] = counted;
                counted
            }
            Item::New(row) => {
                let counted = row.counted(bytes);
                if counted.slot >= SLOTS {
                    return Err(format!("slot {} of {SLOTS}", counted.slot));
                }
                self.slots.push(counted);
                counted
            }
        };
        Ok(counted)
    }
}

impl Core {
    fn new(lookback: bool) -> Core {
        Core {
            flows: FlowAttribution::new(lookback),
            sockets: SocketAttribution::new(),
            ledger: Ledger::new(ledger::Options::default()),
            unlisted: Vec::new(),
            refreshes: 0,
            begun: Instant::now(),
            answers: Recorded::default(),
            namespaces: Map::default(),
            order: Vec::new(),
            reading: (NetnsKey::OWN, false),
            referenced: None,
            counts: false,
            items: Items::default(),
        }
    }

    /// Takes a line; the error says what is wrong with it.
    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Look(_) => self.referenced = None,
            Line::Answers(answers) => self.answers.learn(answers),
            Line::Observe(opening, records) => {
                self.flows.set_opening(opening.into());
                self.flows.begin();
                let records: Result<Vec<_>, String> =
                    records.iter().map(|row| self.record(row)).collect();
                let Core { flows, ledger, answers, .. } = self;
                flows.take_records(records?, |_, share| credit(ledger, &share, &mut &*answers));
            }
            Line::Namespaces(order) => self.order = order,
            Line::Addresses(key, own, broadcasts) => {
                let addresses = &mut self.namespaces.entry(key).or_default().addresses;
                *addresses = LocalAddresses::default();
                for text in own {
                    addresses.insert(address(&text)?);
                }
                for text in broadcasts {
                    addresses.insert_broadcast(address(&text)?);
                }
            }
            Line::Table(key, rows) => {
                let table = &mut self.namespaces.entry(key).or_default().table;
                table.clear();
                for row in &rows {
                    match self.items.socket(row)? {
                        (socket, false) => table.insert(socket),
                        (socket, true) => table.insert_unmatched(socket),
                    }
                }
            }
            Line::Reading(key, unread, tables) => {
                self.reading = (NetnsKey(key), unread);
                if tables {
                    self.flows.missed_beginnings(NetnsKey(key));
                }
            }
            Line::Flows(rows) => {
                let flows: Result<Vec<Flow>, String> =
                    rows.iter().map(|row| self.items.flow(row)).collect();
                self.read_flows(&flows?)?;
            }
            Line::Leave(key, coverage) => self.flows.leave(NetnsKey(key), coverage.into()),
            Line::Observed => {
                let Core { flows, ledger, answers, .. } = self;
                let observation = flows.end(|share| credit(ledger, &share, &mut &*answers));
                self.referenced = observation.referenced;
            }
            Line::Name(ended, cut) => self.name(&ended, &cut),
            Line::Forget(key) => {
                self.flows.forget(NetnsKey(key));
                self.namespaces.remove(&key);
            }
            Line::Share(to, traffic, recent, from, local) => {
                let from = from.map(|name| reason(&name).ok_or(name)).transpose();
                let share = Share {
                    to: owner(&to)?,
                    traffic: Traffic::new(traffic[0], traffic[1]),
                    recent: Traffic::new(recent[0], recent[1]),
                    from: from.map_err(|name| format!("no reason: {name:?}"))?,
                    local,
                    remote: None,
                };
                credit(&mut self.ledger, &share, &mut &self.answers);
            }
            line => self.take_slots(line)?,
        }
        Ok(())
    }

    /// Takes a line about sockets with slots.
    fn take_slots(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Count => {
                self.counts = true;
                self.sockets.begin();
            }
            Line::Quiet(numbers) => {
                for number in numbers {
                    let socket = known(&self.items.slots, number)?;
                    let _ = self.sockets.read(&socket);
                }
            }
            Line::Seen(slot, bytes) => {
                let socket = self.items.slot(&slot, bytes)?;
                let _ = self.sockets.read(&socket);
            }
            Line::Slot(slot, bytes, bits, found) => {
                let (socket, origin) = (self.items.slot(&slot, bytes)?, origin(bits));
                let Core { sockets, ledger, answers, .. } = self;
                let Some(change) = sockets.read(&socket) else { return Ok(()) };
                let resolution = found.map(|found| resolution(&found, &origin, change.remembered));
                let resolution = resolution.transpose()?;
                sockets.account(&socket, &change, &origin, resolution, |share| {
                    credit(ledger, &share, &mut &*answers);
                });
            }
            Line::Passing(bytes, bits, found) => {
                let nothing = Remembered::default();
                let found = found.map(|found| resolution(&found, &origin(bits), nothing));
                let resolution = found.transpose()?;
                let Core { sockets, ledger, answers, .. } = self;
                sockets.account_in_passing(0, unbytes(bytes), resolution, |share| {
                    credit(ledger, &share, &mut &*answers);
                });
            }
            Line::Release(number) => {
                let socket = known(&self.items.slots, number)?;
                self.sockets.forget(&socket);
            }
            Line::Outside(all) => {
                let Core { sockets, ledger, answers, .. } = self;
                let all = all.iter().map(|(netns, bytes)| (*netns, outside(bytes)));
                sockets.outside(all, |share| credit(ledger, &share, &mut &*answers));
            }
            // All other lines are handled before.
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, row: &RecordRow) -> Result<NewFlowRecord, String> {
        let flow = self.items.flow(&row.1)?;
        Ok(row.record(flow))
    }

    /// Flows take the same path from reading to accounting as in the program.
    fn read_flows(&mut self, read: &[Flow]) -> Result<(), String> {
        let Core { flows, ledger, answers, namespaces, order, reading, .. } = self;
        let (netns, unread) = *reading;
        let mut other_namespaces = OtherNamespaces::default();
        for key in &*order {
            let namespace = namespaces.get(key).ok_or_else(|| format!("no namespace {key}"))?;
            other_namespaces.add(NetnsKey(*key), &namespace.addresses, &namespace.table);
        }
        let own = namespaces.get(&netns.0).ok_or_else(|| format!("no namespace {}", netns.0))?;
        let view = NamespaceView {
            netns,
            sockets: &own.table,
            addresses: &own.addresses,
            other_namespaces: &other_namespaces,
            unread,
        };
        for flow in read {
            let mut owners = &*answers;
            let mut choose = |tuple: &Tuple| answers.chosen(tuple);
            let mut lookups = Lookups { owners: &mut owners, choose: &mut choose };
            let shares = attribute(flows, flow, &view, &mut lookups);
            shares.iter().flatten().for_each(|share| credit(ledger, share, &mut &*answers));
        }
        Ok(())
    }

    fn name(&mut self, ended: &[ProcessRow], cut: &[ProcessRow]) {
        self.answers.cut.get_mut().extend(cut.iter().copied().map(process));
        let ended = ended.iter().copied().map(process).collect();
        name(&mut self.ledger, &mut &self.answers, &mut self.unlisted, ended);
        if self.counts {
            self.ledger.keep_names_of(self.sockets.referenced());
        } else if let Some(referenced) = &self.referenced {
            self.ledger.keep_names_of(referenced);
        }
    }

    fn refresh(&mut self, recorded: Figures) -> Replayed {
        let at = Duration::from_micros(recorded.at);
        let since_epoch = Timestamp::UNIX_EPOCH.saturating_add(at);
        let moment = Moment {
            at: since_epoch.unwrap_or(Timestamp::UNIX_EPOCH),
            instant: self.begun.checked_add(at).unwrap_or(self.begun),
        };
        self.refreshes += 1;
        let snapshot = Draft::of_ledger(&mut self.ledger, moment).finish(self.refreshes, moment);
        self.ledger.begin();
        Replayed { recorded, replayed: Figures::of(&snapshot, at), snapshot }
    }
}

fn address(text: &str) -> Result<crate::model::flow::Address, String> {
    let ip: std::net::IpAddr = text.parse().map_err(|_| format!("no address: {text:?}"))?;
    Ok(ip.into())
}

fn owner(row: &OwnerRow) -> Result<Owner, String> {
    row.owner().ok_or_else(|| format!("no owner: {row:?}"))
}

fn outside(bytes: &[u64; 16]) -> Outside {
    let of = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&bytes[at..at + 4]);
        unbytes(four)
    };
    Outside { without_slot: of(0), without_socket: of(4), pings: of(8), resets: of(12) }
}

/// The owner of a socket, by what was found of the processes at it.
fn resolution(
    found: &Evidence,
    origin: &Origin,
    remembered: Remembered,
) -> Result<Resolution, String> {
    let Evidence(now, maker, closer, inode) = found;
    let now = now.map(Ownership::from);
    let candidates = Candidates {
        holder: now,
        maker: maker.as_ref().map(owner).transpose()?,
        closer: closer.as_ref().map(owner).transpose()?,
    };
    let to = match holder(origin, now, remembered.held) {
        Some(process) => process.into(),
        None => resolve(origin, &candidates, remembered.held),
    };
    let held = matches!(now, Some(Ownership::Process(_)));
    Ok(Resolution { to, held, inode: inode.map(Inode) })
}
