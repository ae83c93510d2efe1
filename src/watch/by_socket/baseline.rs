//! What was counted before the programs were attached.
//!
//! The programs are attached first, and then the past is read, by a thread of its own: that takes a while. What is
//! read contains bytes that the slots have counted, too, of every socket that was busy meanwhile. All that a slot
//! has counted stands on the account of its socket anyway, so what is left of the past without it is new.
//!
//! The slot and conntrack's entry can't be read at the same moment. A socket whose slot stood still while the
//! past was read has all of it in the past. For a busy one its flows are read once more, one at a time, with a
//! look into its slot before and after: that is a matter of microseconds, and takes no system call.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::attribution::{Reason, Share};
use crate::conntrack;
use crate::ebpf::{self, Bytes, Counted, Origin};
use crate::flow::{CountedAt, Counters, Flow, Protocol, Status, Tuple};
use crate::ledger::{Ledger, Options};
use crate::netns::{NetnsChoice, NetnsKey};
use crate::processes::{LabelBy, Names, ProcessId};
use crate::traffic::Traffic;
use crate::watch::{Looked, Map, Source, Watch, flows};

/// How often the flows of a busy socket are read at the most, and how often without a packet meanwhile: then
/// the next attempt can't be better. The second one shows that no packet was between the two counters.
const ATTEMPTS: u32 = 16;
const UNDISTURBED: u32 = 2;

/// How many flows are read one at a time before there is but one attempt for each socket that is left.
const QUESTIONS: usize = 20_000;

/// How many sockets can lose their slots while the past is read; the others keep them until it is.
const GONE: usize = 262_144;

/// The reading of the past.
#[derive(Debug)]
pub(super) struct LookBack {
    thread: JoinHandle<()>,
    result: Receiver<Option<(Box<Watch>, Looked)>>,
    /// The sockets that have lost their slots since it began, with what these had counted.
    gone: Map<u64, (Counted, Origin)>,
}

/// How the past is read.
pub(super) struct Asked<'a> {
    pub(super) names: &'a Names,
    pub(super) choice: NetnsChoice,
    pub(super) proc: &'a Path,
    pub(super) labels: &'a [LabelBy],
    pub(super) pipes: &'a HashSet<u16>,
}

impl LookBack {
    /// Begins to read; `None` where no thread is to be had.
    pub(super) fn begin(reader: &ebpf::Reader, asked: &Asked<'_>) -> Option<LookBack> {
        let past = Past::begin(reader);
        let (names, choice, proc) = (asked.names.clone(), asked.choice, asked.proc.to_owned());
        let (labels, pipes) = (asked.labels.to_vec(), asked.pipes.clone());
        let (sender, result) = mpsc::channel();
        let read = move || {
            let opened = Watch::beside(&names, past_source(&proc), choice, true, &proc);
            // Where nobody knows of the past, counting begins now.
            let read = opened.ok().map(|mut watch| {
                watch.label_by(labels);
                watch.leave_to_pipes(pipes);
                watch.past = Some(past);
                let looked = watch.look(&mut Ledger::new(Options::default())).unwrap_or_default();
                (Box::new(watch), looked)
            });
            let _ = sender.send(read);
        };
        let thread = thread::Builder::new().name("past".to_owned()).spawn(read).ok()?;
        Some(LookBack { thread, result, gone: Map::default() })
    }

    /// Whether there is something to [receive](LookBack::receive).
    pub(super) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// What was read, if it is by then: `None` if not.
    pub(super) fn receive(&self, until: Option<Instant>) -> Option<Option<(Box<Watch>, Looked)>> {
        match until {
            None => Some(self.result.recv().unwrap_or_default()),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                match self.result.recv_timeout(left) {
                    Err(RecvTimeoutError::Timeout) => None,
                    received => Some(received.unwrap_or_default()),
                }
            }
        }
    }

    /// Whether no more sockets can be remembered that lose their slots.
    pub(super) fn is_full(&self) -> bool {
        self.gone.len() >= GONE
    }

    /// A socket has lost its slot.
    pub(super) fn let_go(&mut self, socket: &Counted, origin: &Origin) {
        let before = self.gone.get(&socket.cookie).map(|(before, _)| before.bytes);
        let bytes = socket.bytes + before.unwrap_or_default();
        self.gone.insert(socket.cookie, (Counted { bytes, ..*socket }, *origin));
    }

    /// These were the last bytes in a slot that was taken from its socket, where so many stood `before`.
    pub(super) fn last(&mut self, socket: &Counted, before: Bytes) {
        if let Some((gone, _)) = self.gone.get_mut(&socket.cookie) {
            gone.bytes = gone.bytes + (socket.bytes - before);
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

/// What was read of the past.
#[derive(Debug)]
pub(in crate::watch) struct Past {
    /// Every socket that had bytes in its slot before that.
    before: Map<u64, Bytes>,
    ends: Vec<End>,
    /// Whose it is, and whether it stayed on this host.
    accounts: Map<Account, Traffic>,
}

type Account = (Result<ProcessId, Reason>, bool);

/// An end of a flow, with what was accounted to it.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Whose table has the flow, and what it is called there.
    table: NetnsKey,
    flow: Tuple,
    zone: u16,
    generation: Option<u64>,
    counted_at: CountedAt,
    counters: Counters,
    /// Whether this is the responder's end.
    responder: bool,
    /// The namespace of its socket, and the tuple by which that is found.
    netns: NetnsKey,
    tuple: Tuple,
    local: bool,
    /// Whether it is a pipe's, if this process has it.
    is_of_pipe: bool,
}

impl End {
    /// Counters of the flow as this end sees them.
    fn view(&self, counters: Counters) -> Traffic {
        let originator = Traffic::new(counters.reply, counters.original);
        if self.responder { originator.swapped() } else { originator }
    }

    fn bytes(&self, counters: Counters) -> Bytes {
        place(self.view(counters), self.local)
    }

    fn key(&self) -> (NetnsKey, Tuple, u16, bool) {
        (self.table, self.flow, self.zone, self.responder)
    }

    /// The flow, as far as that says which one it is.
    fn identity(&self) -> Flow {
        Flow {
            zone: self.zone,
            generation: self.generation,
            original: self.flow,
            reply: self.flow.reversed(),
            counters: None,
            status: Status::default(),
            counted_at: self.counted_at,
            closed: false,
            ended: false,
        }
    }

    /// On whose account its bytes went.
    fn account(&self, watch: &Watch) -> Option<Account> {
        let ends = watch.attribution.accounted(&self.identity(), self.table);
        let (_, to) = ends[usize::from(self.responder)]?;
        let is_own = watch.own.is_some_and(|own| to == Ok(own)) && self.is_of_pipe;
        Some((if is_own { Err(Reason::OwnPipe) } else { to }, self.local))
    }
}

impl Past {
    /// To be called before the past is read.
    fn begin(reader: &ebpf::Reader) -> Past {
        let before = reader.peek().filter(Counted::has_bytes);
        Past {
            before: before.map(|of| (of.cookie, of.bytes)).collect(),
            ends: Vec::new(),
            accounts: Map::default(),
        }
    }

    /// Takes a share of what was read.
    pub(in crate::watch) fn credit(&mut self, share: &Share) {
        if let Some(reason) = share.from {
            let stood = self.accounts.entry((Err(reason), share.local)).or_default();
            *stood -= share.traffic - share.recent;
        }
        *self.accounts.entry((share.to, share.local)).or_default() += share.traffic;
    }

    /// A flow of `table` was accounted in these namespaces.
    pub(in crate::watch) fn add(
        &mut self,
        flow: &Flow,
        table: NetnsKey,
        accounted_in: [Option<NetnsKey>; 2],
        addresses: &crate::addresses::LocalAddresses,
        is_of_pipe: bool,
    ) {
        let Some(counters) = flow.counters else { return };
        let local = addresses.sends_from(&flow.original.source.address)
            && addresses.sends_from(&flow.reply.source.address);
        let tuples = [flow.original, flow.reply];
        for ((netns, tuple), responder) in accounted_in.into_iter().zip(tuples).zip([false, true]) {
            let Some(netns) = netns else { continue };
            self.ends.push(End {
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
                is_of_pipe,
            });
        }
    }
}

/// A socket with bytes in its slot, and the flows of the past that it has.
#[derive(Debug)]
struct Busy {
    slot: Counted,
    before: Option<Bytes>,
    ends: Vec<End>,
}

impl LookBack {
    /// Accounts what was read of the past beyond what the slots have counted. `only` is the network namespace that
    /// is watched if it is but one.
    pub(super) fn account(
        self,
        mut watch: Watch,
        reader: &ebpf::Reader,
        only: Option<u64>,
        ledger: &mut Ledger,
    ) {
        let Some(past) = watch.past.take() else { return };
        let slots = Slots { reader, gone: self.gone };
        let mut sockets: Map<u64, Busy> = slots
            .peek()
            .map(|slot| {
                let before = past.before.get(&slot.cookie).copied();
                (slot.cookie, Busy { slot, before, ends: Vec::new() })
            })
            .collect();
        let mut accounts = past.accounts;
        let unlisted = assign(&mut watch, &mut sockets, past.ends);
        assign_by_ports(&slots, &mut sockets, unlisted, only);
        watch.past = Some(Past { before: Map::default(), ends: Vec::new(), accounts });
        add_new_flows(&mut watch, &mut sockets);
        accounts = watch.past.take().map(|past| past.accounts).unwrap_or_default();

        let mut busy: Vec<Busy> = sockets.into_values().filter(|of| !of.ends.is_empty()).collect();
        // Where most is at stake comes first.
        busy.sort_by_key(|of| {
            std::cmp::Reverse(total(of.slot.bytes - of.before.unwrap_or_default()))
        });
        let mut asked = 0;
        for socket in busy {
            let counted = match socket.before {
                Some(before) if before == socket.slot.bytes => before,
                _ => measure(&mut watch, &slots, &socket, &mut asked),
            };
            let mut counted = counted.remote + counted.local;
            for end in &socket.ends {
                // No more than the past contains, whatever else the slot has counted.
                let of_end = least(end.view(end.counters), counted);
                counted -= of_end;
                let account = end.account(&watch).and_then(|of| accounts.get_mut(&of));
                if let Some(account) = account {
                    *account -= of_end;
                }
            }
        }
        for ((to, local), traffic) in accounts {
            if !traffic.is_zero() {
                let share = Share { to, traffic, recent: Traffic::ZERO, from: None, local };
                ledger.credit(&share, || flows::described_or_unknown(&share, &mut watch.owners));
            }
        }
    }
}

/// The slots of all sockets, with what they had counted of those that have lost them since.
struct Slots<'a> {
    reader: &'a ebpf::Reader,
    gone: Map<u64, (Counted, Origin)>,
}

impl Slots<'_> {
    /// What a socket has carried in the slot that it had before.
    fn before(&self, cookie: u64) -> Bytes {
        self.gone.get(&cookie).map(|(gone, _)| gone.bytes).unwrap_or_default()
    }

    /// Every socket that has bytes.
    fn peek(&self) -> impl Iterator<Item = Counted> {
        let now = self.reader.peek();
        let now = now.map(|of| Counted { bytes: of.bytes + self.before(of.cookie), ..of });
        // One that has another slot by now comes again, and that is taken.
        let gone = self.gone.values().map(|(gone, _)| *gone);
        gone.chain(now).filter(Counted::has_bytes)
    }

    fn bytes(&self, of: &Counted) -> Bytes {
        // The slot may be another socket's.
        let now = self.reader.has(of).then(|| self.reader.bytes(of));
        self.before(of.cookie) + now.unwrap_or_default()
    }

    fn origin(&self, of: &Counted) -> Option<Origin> {
        let gone = || self.gone.get(&of.cookie).map(|(_, origin)| *origin);
        self.reader.origin(of).or_else(gone)
    }

    fn netns(&self) -> u64 {
        self.reader.netns()
    }
}

/// Gives each end to its socket. Returns those whose sockets were not listed.
fn assign(watch: &mut Watch, sockets: &mut Map<u64, Busy>, ends: Vec<End>) -> Vec<End> {
    let found = ends.into_iter().map(|end| {
        let cookie = match end.counted_at {
            CountedAt::Socket => end.generation,
            CountedAt::Path => {
                let readers = watch.namespaces.iter_mut().find(|readers| readers.key == end.netns);
                readers.and_then(|readers| Some(readers.socket_of(&end.tuple)?.cookie))
            }
        };
        (cookie, end)
    });
    give(sockets, found)
}

/// Gives each end to the socket of this cookie, if there is one with bytes. Returns those without a cookie.
fn give(sockets: &mut Map<u64, Busy>, found: impl Iterator<Item = (Option<u64>, End)>) -> Vec<End> {
    let mut places = Map::default();
    let mut unlisted = Vec::new();
    for (cookie, end) in found {
        let Some(cookie) = cookie.filter(|cookie| *cookie != 0) else {
            unlisted.push(end);
            continue;
        };
        let Some(socket) = sockets.get_mut(&cookie) else { continue };
        // A flow may have been read several times. Meanwhile its tuple may have become another socket's.
        match places.entry((cookie, end.key())) {
            Entry::Occupied(place) => socket.ends[*place.get()] = end,
            Entry::Vacant(place) => {
                place.insert(socket.ends.len());
                socket.ends.push(end);
            }
        }
    }
    unlisted
}

/// Gives sockets that were not listed their flows: those that have come or gone meanwhile, pings and raw sockets.
/// Their slots know no addresses.
fn assign_by_ports(
    slots: &Slots<'_>,
    sockets: &mut Map<u64, Busy>,
    unlisted: Vec<End>,
    only: Option<u64>,
) {
    let port = |end: &End| (end.tuple.protocol, end.tuple.source.port);
    let mut by_port: Map<(Protocol, u16), Vec<End>> = Map::default();
    let latest: Map<_, End> = unlisted.into_iter().map(|end| (end.key(), end)).collect();
    for end in latest.into_values() {
        by_port.entry(port(&end)).or_default().push(end);
    }
    for socket in sockets.values_mut().filter(|socket| socket.ends.is_empty()) {
        let Some(origin) = slots.origin(&socket.slot) else { continue };
        if only.is_some_and(|only| ![0, only].contains(&origin.netns)) || origin.listening {
            continue;
        }
        let fits = |end: &End| fits(end, &origin, socket.slot.bytes, slots.netns());
        let [local, remote] = origin.ports;
        match by_port.get_mut(&(origin.protocol, local)) {
            // Connected: one flow is its own.
            Some(ends) if remote != 0 => {
                let place = ends.iter().position(fits);
                socket.ends.extend(place.map(|place| ends.swap_remove(place)));
            }
            Some(ends) => socket.ends.extend(ends.iter().filter(|end| fits(end))),
            None if has_ports(origin.protocol) => {}
            None => {
                let same = by_port.iter().filter(|((protocol, _), _)| *protocol == origin.protocol);
                socket.ends.extend(same.flat_map(|(_, ends)| ends).filter(|end| fits(end)));
            }
        }
    }
}

fn has_ports(protocol: Protocol) -> bool {
    protocol.is_datagram() || [Protocol::TCP, Protocol::SCTP, Protocol::DCCP].contains(&protocol)
}

/// Whether a flow's end can be that of a socket which has these bytes in its slot.
fn fits(end: &End, origin: &Origin, slot: Bytes, own: u64) -> bool {
    let [_, remote] = origin.ports;
    if remote != 0 && remote != end.tuple.destination.port
        || origin.netns != 0 && (origin.netns == own) != (end.netns == NetnsKey::OWN)
    {
        return false;
    }
    // All that a socket has carried that is younger than the programs is in its slot.
    let (all, slot) = (end.view(end.counters), slot.remote + slot.local);
    let is_young = origin.maker.is_some() || origin.accepted;
    !is_young || all.received <= slot.received && all.sent <= slot.sent
}

/// Adds the flows that have begun since the past was read at the sockets that have several: what such a flow has
/// carried is in the slot, and not in the past.
fn add_new_flows(watch: &mut Watch, sockets: &mut Map<u64, Busy>) {
    let may_have_more = |socket: &Busy| {
        let open = |end: &End| end.counted_at == CountedAt::Path && end.flow.protocol.is_datagram();
        socket.before != Some(socket.slot.bytes) && socket.ends.iter().any(open)
    };
    if !sockets.values().any(may_have_more) {
        return;
    }
    watch.hear(&mut Ledger::new(Options::default()), &mut Looked::default());
    let ends = sockets.values().filter(|socket| may_have_more(socket)).flat_map(|of| &of.ends);
    let mut known: HashSet<_> = ends.map(|end| (end.flow, end.responder)).collect();
    let Watch { namespaces, attribution, .. } = watch;
    for readers in namespaces {
        let table = readers.key;
        for flow in attribution.open_flows(table).into_iter().flatten() {
            if !flow.protocol.is_datagram() {
                continue;
            }
            for (responder, tuple) in [(false, flow), (true, flow.reversed())] {
                let cookie = readers.socket_of(&tuple).map(|socket| socket.cookie);
                let socket = cookie.and_then(|cookie| sockets.get_mut(&cookie));
                let Some(socket) = socket.filter(|socket| may_have_more(socket)) else { continue };
                if known.insert((flow, responder)) {
                    let local = socket.slot.bytes.remote.is_zero();
                    socket.ends.push(End {
                        table,
                        flow,
                        zone: 0,
                        generation: None,
                        counted_at: CountedAt::Path,
                        counters: Counters::default(),
                        responder,
                        netns: table,
                        tuple,
                        local,
                        is_of_pipe: false,
                    });
                }
            }
        }
    }
}

/// Reads the flows of a busy socket again, as closely to its slot as can be: how much of the slot the past
/// contains.
fn measure(watch: &mut Watch, slots: &Slots<'_>, socket: &Busy, asked: &mut usize) -> Bytes {
    let mut bracket = Bracket::default();
    let mut now: Vec<Counters> = socket.ends.iter().map(|end| end.counters).collect();
    let mut places = Map::default();
    let mut tables: Map<NetnsKey, Vec<Tuple>> = Map::default();
    for (place, end) in socket.ends.iter().enumerate().filter(|(_, end)| end.zone == 0) {
        places.insert((end.table, end.flow, end.responder), place);
        let tuples = tables.entry(end.table).or_default();
        if !places.contains_key(&(end.table, end.flow, !end.responder)) {
            tuples.push(end.flow);
        }
    }
    let (mut answered, mut undisturbed) = (false, 0);
    for _ in 0..ATTEMPTS {
        let earliest = slots.bytes(&socket.slot);
        for (table, tuples) in &tables {
            let readers = watch.namespaces.iter_mut().find(|readers| readers.key == *table);
            let Some(readers) = readers else { continue };
            readers.ask(tuples, |flow| {
                let Some(counters) = flow.counters else { return };
                for responder in [false, true] {
                    let place = places.get(&(*table, flow.original, responder));
                    let Some(&place) = place.filter(|_| flow.zone == 0) else { continue };
                    answered = true;
                    now[place] = later(&socket.ends[place], flow.generation, counters);
                }
            });
        }
        let latest = slots.bytes(&socket.slot);
        *asked += socket.ends.len();
        let ends = socket.ends.iter().zip(&now);
        let since =
            ends.fold(Bytes::default(), |sum, (end, now)| sum + end.bytes(*now - end.counters));
        bracket.narrow(as_in_slot(since, latest), earliest, latest);
        undisturbed += u32::from(earliest == latest);
        if !answered || undisturbed == UNDISTURBED || *asked >= QUESTIONS {
            break;
        }
    }
    match (answered, socket.before) {
        (true, _) => bracket.middle(),
        // It was read at some time in between.
        (false, before) => middle(before.unwrap_or_default(), socket.slot.bytes),
    }
}

/// What the flow at an end has carried by now, counted on where it was replaced by another one.
fn later(end: &End, generation: Option<u64>, counters: Counters) -> Counters {
    if end.generation.is_none() || generation == end.generation {
        return counters;
    }
    let before = end.counters;
    Counters {
        original: before.original.saturating_add(counters.original),
        reply: before.reply.saturating_add(counters.reply),
    }
}

/// Between what the part of a slot is that the past contains.
#[derive(Clone, Copy, Debug, Default)]
struct Bracket {
    least: Bytes,
    most: Option<Bytes>,
}

impl Bracket {
    /// The flows were found to have carried so much `since` they were accounted, at a moment between two looks
    /// into the slot.
    fn narrow(&mut self, since: Bytes, earliest: Bytes, latest: Bytes) {
        self.least = combine(self.least, earliest - since, u64::max);
        let most = latest - since;
        self.most = Some(self.most.map_or(most, |before| before.min(most)));
    }

    /// A packet that conntrack has counted and the slot has not yet makes either figure too small, never too
    /// large: where they contradict each other the least is right.
    fn middle(&self) -> Bytes {
        middle(self.least, self.most.unwrap_or(self.least))
    }
}

/// `least`, and half of what `most` is beyond it.
fn middle(least: Bytes, most: Bytes) -> Bytes {
    combine(least, most, |least, most| least + most.saturating_sub(least) / 2)
}

fn combine(a: Bytes, b: Bytes, each: impl Fn(u64, u64) -> u64) -> Bytes {
    let traffic = |a: Traffic, b: Traffic| Traffic {
        received: each(a.received, b.received),
        sent: each(a.sent, b.sent),
    };
    Bytes { remote: traffic(a.remote, b.remote), local: traffic(a.local, b.local) }
}

/// The smaller of each figure.
fn least(a: Traffic, b: Traffic) -> Traffic {
    Traffic { received: a.received.min(b.received), sent: a.sent.min(b.sent) }
}

fn total(bytes: Bytes) -> u64 {
    (bytes.remote + bytes.local).total()
}

fn place(traffic: Traffic, local: bool) -> Bytes {
    let (remote, local) = if local { (Traffic::ZERO, traffic) } else { (traffic, Traffic::ZERO) };
    Bytes { remote, local }
}

/// The slot knows by its device where a packet went, a flow by its addresses only: where the slot has bytes in one
/// place alone, they are there.
fn as_in_slot(bytes: Bytes, slot: Bytes) -> Bytes {
    match (slot.remote.is_zero(), slot.local.is_zero()) {
        (true, false) => place(bytes.remote + bytes.local, true),
        (false, true) => place(bytes.remote + bytes.local, false),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Address, Endpoint};

    fn sent(bytes: u64) -> Bytes {
        place(Traffic::new(0, bytes), false)
    }

    fn busy(cookie: u64) -> (u64, Busy) {
        let slot = Counted { slot: 0, cookie, inode: None, bytes: sent(100) };
        (cookie, Busy { slot, before: None, ends: Vec::new() })
    }

    fn end(port: u16, bytes: u64) -> End {
        let here = Endpoint::new(Address::from_v4([127, 0, 0, 1]), port);
        let flow = Tuple { protocol: Protocol::TCP, source: here, destination: here };
        End {
            table: NetnsKey::OWN,
            flow,
            zone: 0,
            generation: None,
            counted_at: CountedAt::Path,
            counters: Counters { original: bytes, reply: 0 },
            responder: false,
            netns: NetnsKey::OWN,
            tuple: flow,
            local: true,
            is_of_pipe: false,
        }
    }

    /// A listing may be read again while it is read; an ended connection's tuple may be used again meanwhile.
    #[test]
    fn a_flow_that_is_read_again_may_have_another_socket_by_then() {
        let mut sockets: Map<u64, Busy> = [busy(7), busy(8)].into_iter().collect();
        let found = [
            (Some(7), end(1, 10)),
            (Some(7), end(2, 10)),
            (Some(7), end(2, 20)),
            (Some(8), end(2, 30)),
            (Some(8), end(2, 40)),
            (None, end(3, 10)),
            (Some(9), end(3, 10)),
        ];
        let unlisted = give(&mut sockets, found.into_iter());
        let carried = |ends: &[End]| -> Vec<(u16, u64)> {
            ends.iter().map(|end| (end.flow.source.port, end.counters.original)).collect()
        };
        assert_eq!(carried(&sockets[&7].ends), [(1, 10), (2, 20)]);
        assert_eq!(carried(&sockets[&8].ends), [(2, 40)]);
        assert_eq!(carried(&unlisted), [(3, 10)]);
    }

    #[test]
    fn a_quiet_moment_is_exact_and_else_the_narrowest_bracket_is_halved() {
        let mut bracket = Bracket::default();
        // 1,000 were in the past; the flow was read anew while the slot grew from 1,500 to 1,900.
        bracket.narrow(sent(600), sent(1500), sent(1900));
        assert_eq!(bracket.middle(), sent(1100));
        bracket.narrow(sent(1000), sent(1950), sent(2050));
        assert_eq!(bracket.middle(), sent(1000));
        bracket.narrow(sent(1100), sent(2100), sent(2100));
        assert_eq!(bracket.middle(), sent(1000));
    }

    #[test]
    fn what_waited_for_a_process_stands_on_its_account_alone() {
        let (before, ends) = (Map::default(), Vec::new());
        let mut past = Past { before, ends, accounts: Map::default() };
        let (nobody, process) = (Err(Reason::Exited), Ok(ProcessId { start_time: 1, pid: 2 }));
        let share = |to, received, recent, from| Share {
            to,
            traffic: Traffic::new(received, 0),
            recent: Traffic::new(recent, 0),
            from,
            local: false,
        };
        past.credit(&share(nobody, 100, 100, None));
        past.credit(&share(nobody, 7, 0, None));
        past.credit(&share(process, 150, 50, Some(Reason::Exited)));
        let stands = |to| past.accounts.get(&(to, false)).copied();
        assert_eq!(stands(nobody), Some(Traffic::new(7, 0)));
        assert_eq!(stands(process), Some(Traffic::new(150, 0)));
    }

    #[test]
    fn a_packet_between_the_two_counters_is_found_out_by_another_attempt() {
        let mut bracket = Bracket::default();
        // Conntrack has counted 100 that the slot has not yet.
        bracket.narrow(sent(600), sent(1500), sent(1500));
        assert_eq!(bracket.middle(), sent(900));
        bracket.narrow(sent(600), sent(1600), sent(1600));
        assert_eq!(bracket.middle(), sent(1000));
    }

    #[test]
    fn bytes_are_taken_where_the_slot_has_them() {
        let by_address = place(Traffic::new(5, 7), true);
        let by_device = place(Traffic::new(5, 7), false);
        assert_eq!(as_in_slot(by_address, sent(100)), by_device);
        assert_eq!(as_in_slot(by_device, by_address), by_address);
        let both = by_address + by_device;
        assert_eq!(as_in_slot(both, both), both);
    }
}
