//! Subtracts the slots from the past.
//!
//! A socket's slot and its entry of conntrack can't be read at the same moment. If the slot did not change
//! while the past was read, the past has all its bytes. The flows of a busy socket are read once more, one at
//! a time, and its slot before and after: that takes microseconds, and reading the slot needs no system call.

use std::collections::HashSet;
use std::collections::hash_map::Entry;

use super::Map;
use super::past::{Account, End, Past, place};
use crate::attribution::OwnPipes;
use crate::ebpf::{self, Bytes, Counted, Origin};
use crate::model::flow::{CountedAt, Counters, Protocol, Tuple};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::Traffic;
use crate::netns::NetnsKey;

/// Maximum number of readings of a busy socket's flows, and of readings without a packet meanwhile: further
/// ones can't be better. The second of these shows that no packet was between the two counters.
const ATTEMPTS: u32 = 16;
const UNDISTURBED: u32 = 2;

/// Number of flows that are read one at a time before each remaining socket gets only one attempt.
const QUESTIONS: usize = 20_000;

/// A socket with bytes in its slot, and its flows in the past.
#[derive(Debug)]
pub(super) struct Busy {
    slot: Counted,
    /// Its slot before the past was read.
    before: Option<Bytes>,
    /// Its slot when the past had been read.
    after: Bytes,
    ends: Vec<End>,
}

/// The sockets that have flows in the past. `before` and `after` have the slots before the past was read and
/// when it had been; `only` is the watched network namespace if there is only one.
pub(super) fn assigned(
    past: &mut Past,
    slots: &Slots<'_>,
    before: &Map<u64, Bytes>,
    after: &Map<u64, Bytes>,
    only: Option<u64>,
) -> Vec<Busy> {
    let mut sockets: Map<u64, Busy> = slots
        .peek()
        .map(|slot| {
            let before = before.get(&slot.cookie).copied();
            let after = after.get(&slot.cookie).copied().unwrap_or_default();
            (slot.cookie, Busy { slot, before, after, ends: Vec::new() })
        })
        .collect();
    let unlisted = assign(past, &mut sockets);
    assign_by_ports(slots, &mut sockets, unlisted, only);
    add_new_flows(past, &mut sockets);
    sockets.into_values().filter(|of| !of.ends.is_empty()).collect()
}

/// Moves what stands under a reason to the process that the kernel saw close the socket: a process that ended
/// while the past was read is not found by its descriptors. `seen` is the owner of a socket.
pub(super) fn name(
    past: &Past,
    sockets: &mut [Busy],
    pipes: &OwnPipes,
    accounts: &mut Map<Account, Traffic>,
    mut seen: impl FnMut(&Counted) -> Option<Owner>,
) {
    // A flow may fit several sockets.
    let mut moved = HashSet::new();
    for Busy { slot, ends, .. } in sockets {
        for end in ends {
            let Some(nobody) = end.account(past, pipes) else { continue };
            if !matches!(nobody.to, Owner::Nobody(Reason::Kernel | Reason::Exited)) {
                continue;
            }
            let process = seen(slot).filter(|of| !matches!(of, Owner::Nobody(_)));
            let Some(process) = process.filter(|_| moved.insert(end.key())) else { continue };
            let to = pipes.owner(end.flow.protocol, &end.ports, process);
            let bytes = end.view(end.counters);
            *accounts.entry(nobody).or_default() -= bytes;
            *accounts.entry(Account { to, ..nobody }).or_default() += bytes;
            end.named = Some(to);
        }
    }
}

/// Subtracts the bytes in slots from the `accounts` of the past.
pub(super) fn without_overlap(
    past: &mut Past,
    slots: &Slots<'_>,
    mut busy: Vec<Busy>,
    pipes: &OwnPipes,
    accounts: &mut Map<Account, Traffic>,
) {
    // The busiest come first.
    busy.sort_by_key(|of| std::cmp::Reverse(total(of.slot.bytes - of.before.unwrap_or_default())));
    let mut asked = 0;
    for socket in busy {
        let counted = match socket.before {
            Some(before) if before == socket.slot.bytes => before,
            _ => measure(past, slots, &socket, &mut asked),
        };
        let mut counted = counted.remote + counted.local;
        for end in &socket.ends {
            // At most what the past contains, whatever else the slot has counted.
            let of_end = least(end.view(end.counters), counted);
            counted -= of_end;
            let account = end.account(past, pipes).and_then(|of| accounts.get_mut(&of));
            if let Some(account) = account {
                *account -= of_end;
            }
        }
    }
}

/// The slots of all sockets, and the last values of those that were lost since.
pub(super) struct Slots<'a> {
    pub(super) reader: &'a ebpf::Reader,
    pub(super) gone: &'a Map<u64, (Counted, Origin)>,
}

impl Slots<'_> {
    /// The bytes that a socket had in a slot it has lost.
    fn before(&self, cookie: u64) -> Bytes {
        self.gone.get(&cookie).map(|(gone, _)| gone.bytes).unwrap_or_default()
    }

    /// Every socket that has bytes.
    pub(super) fn peek(&self) -> impl Iterator<Item = Counted> {
        let now = self.reader.peek();
        let now = now.map(|of| Counted { bytes: of.bytes + self.before(of.cookie), ..of });
        // A socket that has another slot by now comes again, with that one.
        let gone = self.gone.values().map(|(gone, _)| *gone);
        gone.chain(now).filter(Counted::has_bytes)
    }

    fn bytes(&self, of: &Counted) -> Bytes {
        // The slot may belong to another socket by now.
        let now = self.reader.has(of).then(|| self.reader.bytes(of));
        self.before(of.cookie) + now.unwrap_or_default()
    }

    pub(super) fn origin(&self, of: &Counted) -> Option<Origin> {
        let gone = || self.gone.get(&of.cookie).map(|(_, origin)| *origin);
        self.reader.origin(of).or_else(gone)
    }

    fn netns(&self) -> u64 {
        self.reader.netns()
    }
}

/// Assigns each end to its socket. Returns the ends whose sockets were not listed.
fn assign(past: &mut Past, sockets: &mut Map<u64, Busy>) -> Vec<End> {
    let ends = std::mem::take(&mut past.ends);
    let found = ends.into_iter().map(|end| {
        let cookie = match end.counted_at {
            CountedAt::Socket => end.generation,
            CountedAt::Path => {
                let namespace = past.namespace(end.netns);
                namespace.and_then(|of| Some(of.socket_of(&end.tuple)?.cookie))
            }
        };
        (cookie, end)
    });
    give(sockets, found)
}

/// Assigns each end to the socket of this cookie, if it has bytes. Returns the ends without a
/// cookie.
fn give(sockets: &mut Map<u64, Busy>, found: impl Iterator<Item = (Option<u64>, End)>) -> Vec<End> {
    let mut places = Map::default();
    let mut unlisted = Vec::new();
    for (cookie, end) in found {
        let Some(cookie) = cookie.filter(|cookie| *cookie != 0) else {
            unlisted.push(end);
            continue;
        };
        let Some(socket) = sockets.get_mut(&cookie) else { continue };
        // A flow may have been read several times. Meanwhile its tuple may belong to another
        // socket.
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

/// Assigns flows by their ports to sockets that were not listed: those that have come or gone meanwhile, pings
/// and raw sockets. Slots have no addresses.
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
            // A connected socket has one flow.
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

/// Whether a flow's end can belong to a socket with this origin and these bytes in its slot.
fn fits(end: &End, origin: &Origin, slot: Bytes, own: u64) -> bool {
    let [_, remote] = origin.ports;
    if remote != 0 && remote != end.tuple.destination.port
        || origin.netns != 0 && (origin.netns == own) != (end.netns == NetnsKey::OWN)
    {
        return false;
    }
    // A socket younger than the programs has all its bytes in its slot.
    let (all, slot) = (end.view(end.counters), slot.remote + slot.local);
    let is_young = origin.maker.is_some() || origin.accepted;
    !is_young || all.received <= slot.received && all.sent <= slot.sent
}

/// Adds the flows that started after the past was read, for sockets with several flows: their bytes are in the
/// slot, and not in the past.
fn add_new_flows(past: &mut Past, sockets: &mut Map<u64, Busy>) {
    let may_have_more = |socket: &Busy| {
        let open = |end: &End| end.counted_at == CountedAt::Path && end.flow.protocol.is_datagram();
        socket.before != Some(socket.slot.bytes) && socket.ends.iter().any(open)
    };
    if !sockets.values().any(may_have_more) {
        return;
    }
    let new = past.take_new_flows();
    let ends = sockets.values().filter(|socket| may_have_more(socket)).flat_map(|of| &of.ends);
    let mut known: HashSet<_> = ends.map(|end| (end.flow, end.responder)).collect();
    for (table, flow) in new {
        let Some(namespace) = past.namespace(table) else { continue };
        for (responder, tuple) in [(false, flow), (true, flow.reversed())] {
            let cookie = namespace.socket_of(&tuple).map(|socket| socket.cookie);
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
                    ports: [0; 4],
                    remote: None,
                    named: None,
                });
            }
        }
    }
}

/// Reads the flows of a busy socket again, as close to its slot as possible. Returns the part of the slot
/// that the past contains.
fn measure(past: &mut Past, slots: &Slots<'_>, socket: &Busy, asked: &mut usize) -> Bytes {
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
            let Some(namespace) = past.namespace(*table) else { continue };
            namespace.ask(tuples, |flow| {
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
        (false, before) => middle(before.unwrap_or_default(), socket.after),
    }
}

/// The bytes of the flow at an end so far. If another flow has replaced it, that one's are added.
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

/// Bounds for the part of a slot that the past contains.
#[derive(Clone, Copy, Debug, Default)]
struct Bracket {
    least: Bytes,
    most: Option<Bytes>,
}

impl Bracket {
    /// Narrows the bounds: the flows carried `since` after they were accounted, read between two readings of
    /// the slot.
    fn narrow(&mut self, since: Bytes, earliest: Bytes, latest: Bytes) {
        self.least = combine(self.least, earliest - since, u64::max);
        let most = latest - since;
        self.most = Some(self.most.map_or(most, |before| before.min(most)));
    }

    /// A packet that conntrack has counted and the slot has not yet makes either bound too small, never too
    /// large. So if they contradict each other, the smaller one is right.
    fn middle(&self) -> Bytes {
        middle(self.least, self.most.unwrap_or(self.least))
    }
}

/// The mean of `least` and `most`.
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

/// The smaller value in each direction.
fn least(a: Traffic, b: Traffic) -> Traffic {
    Traffic { received: a.received.min(b.received), sent: a.sent.min(b.sent) }
}

fn total(bytes: Bytes) -> u64 {
    (bytes.remote + bytes.local).total()
}

/// The slot knows by the device whether a packet stayed local, a flow only by its addresses. If the slot has bytes
/// of only one kind, all are of that kind.
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
    use crate::model::flow::{Address, Endpoint, Flow};
    use crate::processes::ProcessId;

    fn sent(bytes: u64) -> Bytes {
        place(Traffic::new(0, bytes), false)
    }

    fn busy(cookie: u64) -> (u64, Busy) {
        let slot = Counted { slot: 0, cookie, inode: None, bytes: sent(100) };
        (cookie, Busy { slot, before: None, after: sent(0), ends: Vec::new() })
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
            ports: [0; 4],
            remote: None,
            named: None,
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

    /// Its descriptors are gone before the listing of processes is read; the kernel saw who closed the socket.
    #[test]
    fn what_a_process_sent_that_ended_meanwhile_is_its_own() {
        let process = Owner::Process(ProcessId { start_time: 1, pid: 2 });
        let mut of_flow = end(1, 1000);
        of_flow.counted_at = CountedAt::Socket;
        of_flow.generation = Some(7);
        let flow = Flow {
            counters: Some(of_flow.counters),
            generation: Some(7),
            ..Flow::new(of_flow.flow, of_flow.flow.reversed(), CountedAt::Socket)
        };
        for (found, seen, stands) in [
            (Owner::Nobody(Reason::Kernel), Some(process), (0, 1000)),
            (Owner::Nobody(Reason::Exited), Some(process), (0, 1000)),
            (Owner::Nobody(Reason::NoPermission), Some(process), (1000, 0)),
            (Owner::Nobody(Reason::Kernel), Some(Owner::Nobody(Reason::Exited)), (1000, 0)),
            (Owner::Nobody(Reason::Kernel), None, (1000, 0)),
        ] {
            let past = Past::of(&flow, found);
            let pipes = OwnPipes::default();
            let (_, mut socket) = busy(7);
            socket.ends.push(of_flow);
            // A flow may fit several sockets.
            let (_, mut other) = busy(8);
            other.ends.push(of_flow);
            let mut accounts = Map::default();
            let account = |to| Account { to, local: true, remote: None };
            accounts.insert(account(found), Traffic::new(0, 1000));
            let mut sockets = [socket, other];
            name(&past, &mut sockets, &pipes, &mut accounts, |_| seen);
            let sent = |of| accounts.get(&account(of)).map_or(0, |traffic| traffic.sent);
            assert_eq!((sent(found), sent(process)), stands, "{found:?}, {seen:?}");
            let accounted = sockets[0].ends[0].account(&past, &pipes).unwrap();
            assert_eq!(accounted.to == process, stands.1 > 0, "what is subtracted there");
        }
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
