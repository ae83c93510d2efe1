//! The model: what is expected of a host after some events.

use std::collections::VecDeque;

use super::*;

/// Number of observations for which a start without a reading is remembered.
const KEPT: u32 = 3;

/// One flow of a world, and the model's memory of it.
#[derive(Clone, Debug)]
struct Entry {
    flow: Flow,
    now: Counters,
    /// The last counters and id that were shown.
    shown: Option<(Counters, Option<u64>)>,
    /// Number of complete observations that it has been missing from.
    missing: u32,
    shown_now: bool,
    /// Whether the last reading was the end of a flow.
    ended: bool,
    /// The observation of the last end.
    ended_at: u32,
    /// The ids and the greatest last counters of the flows that ended in this observation.
    ended_now: HashMap<Option<u64>, Counters>,
    /// Whether each of its ends has been here.
    here: [bool; 2],
    /// Whether the start of the last flow that was shown was announced.
    announced: bool,
    /// Starts that were announced and not shown yet.
    new_flows: VecDeque<KnownNewFlow>,
}

/// A start that was announced: the id, the ends that were seen, and when.
#[derive(Clone, Copy, Debug)]
struct KnownNewFlow {
    id: Option<u64>,
    seen: [bool; 2],
    observation: u32,
}

impl Entry {
    /// The bytes that are accounted because of ends that are known from now on.
    fn learn(&mut self, seen: [Option<Sight>; 2], last: Counters) -> [u128; 2] {
        let [original, reply] = [last.original, last.reply].map(u128::from);
        let mut more = [0, 0];
        for (end, sight) in seen.into_iter().enumerate() {
            let forwarded = self.here == [false, false];
            let Some(sight) = sight.filter(|_| !self.here[end]) else { continue };
            // Forwarded bytes stand at the originator's end.
            if !(sight.other_netns || forwarded && end == 0) {
                continue;
            }
            self.here[end] = true;
            if !forwarded {
                add(&mut more, [[reply, original], [original, reply]][end]);
            }
        }
        more
    }
}

fn add(sum: &mut [u128; 2], [received, sent]: [u128; 2]) {
    *sum = [sum[0] + received, sum[1] + sent];
}

pub(super) struct World {
    pub(super) host: Host,
    lookback: bool,
    first: bool,
    flows: Vec<Entry>,
    pub(super) expected: [u128; 2],
    pub(super) expected_recent: [u128; 2],
    pub(super) recent: [u128; 2],
}

impl World {
    pub(super) fn new(lookback: bool, flows: Vec<Flow>) -> World {
        let mut host = Host::with(FlowAttribution::new(lookback));
        host.attribution.begin();
        let entry = |flow| Entry {
            flow,
            now: Counters::default(),
            shown: None,
            missing: 0,
            shown_now: false,
            ended: false,
            ended_at: 0,
            ended_now: HashMap::new(),
            here: [false; 2],
            announced: false,
            new_flows: VecDeque::new(),
        };
        World {
            host,
            lookback,
            first: true,
            flows: flows.into_iter().map(entry).collect(),
            expected: [0; 2],
            expected_recent: [0; 2],
            recent: [0; 2],
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Carry { flow, bytes } => {
                let now = &mut self.flows[flow].now;
                now.original = now.original.saturating_add(bytes.original);
                now.reply = now.reply.saturating_add(bytes.reply);
            }
            Event::Zero { flow } => {
                // Nobody can do that to a socket.
                if self.flows[flow].flow.counted_at == CountedAt::Path {
                    self.flows[flow].now = Counters::default();
                }
            }
            Event::Renew { flow } => {
                let entry = &mut self.flows[flow];
                // A socket's next generation is another socket, and another flow of the world.
                if entry.flow.counted_at == CountedAt::Path {
                    entry.flow.generation = entry.flow.generation.map(|id| id + 1);
                    entry.now = Counters::default();
                }
            }
            Event::Show { flow, counted } => self.show(flow, counted, false),
            Event::Announce { flow } => {
                if self.flows[flow].flow.counted_at == CountedAt::Path {
                    self.show(flow, true, true);
                }
            }
            Event::Record { flow, seen, is_new } => {
                if self.flows[flow].flow.counted_at == CountedAt::Path {
                    self.take_records(flow, seen, is_new);
                }
            }
            Event::End { complete } => self.end(complete),
            Event::Open { flow, responder, bound, holder, orphan } => {
                let flow = self.flows[flow].flow;
                let end = if responder { flow.reply } else { flow.original };
                let any = Endpoint::new(Address::ANY_V4, 0);
                let (source, destination) = match bound {
                    0 => (end.source, end.destination),
                    1 => (end.source, any),
                    _ => (Endpoint::new(Address::ANY_V4, end.source.port), any),
                };
                let inode =
                    self.host.open(holder, flow.original.protocol, "0.0.0.0:0", "0.0.0.0:0");
                let socket = self.host.sockets.last_mut().unwrap();
                socket.tuple = Tuple { source, destination, ..end };
                socket.cookie = flow.generation.unwrap_or(u64::from(inode.0) << 32);
                if let Some(state) = orphan {
                    (socket.inode, socket.state) = (None, TcpState(state));
                }
            }
            Event::Close { socket } => {
                let sockets = &mut self.host.sockets;
                if !sockets.is_empty() {
                    sockets.swap_remove(socket % sockets.len());
                }
            }
            Event::HandOn { socket, holder } => {
                let sockets = &self.host.sockets;
                if let Some(inode) =
                    sockets.get(socket % sockets.len().max(1)).and_then(|s| s.inode)
                {
                    self.host.hand_on(inode, holder);
                }
            }
            Event::Readdress { here } => {
                self.host.addresses = LocalAddresses::default();
                if here {
                    self.host.addresses.insert(address("10.0.0.1"));
                }
            }
        }
    }

    /// Shows a flow, perhaps its end, and expects its bytes since the last reading.
    fn show(&mut self, index: usize, counted: bool, ended: bool) {
        let ends = self.ends_here(&self.flows[index].flow);
        let entry = &mut self.flows[index];
        if !counted {
            let shares = self.host.show(entry.flow);
            assert_eq!(shares, []);
            return;
        }
        // A flow that stands still need not be looked up: whether an end has turned up meanwhile
        // (and will be remembered when it is closed) must show by some bytes.
        let turned_up = (0..2).any(|end| ends[end] && !entry.here[end]);
        let stood_still = |last| last == entry.now || entry.now == Counters::default();
        if let Some((last, _)) = entry.shown
            && turned_up
            && stood_still(last)
        {
            let one_more = |reply| Counters { reply, ..last };
            let wrapped = Counters { original: 0, reply: 1 };
            entry.now = last.reply.checked_add(1).map_or(wrapped, one_more);
        }
        let (now, id) = (entry.now, entry.flow.generation);
        let smaller = |last: Counters| now.original < last.original || now.reply < last.reply;
        let no_more = |last: Counters| now.original <= last.original && now.reply <= last.reply;
        if !ended && entry.ended_now.get(&id).copied().is_some_and(no_more) {
            // It may be one that has ended, or another one: the next observation will tell.
            entry.shown_now = true;
            let shares = self.host.show(entry.flow.counted(now.original, now.reply));
            assert_eq!(shares, []);
            return;
        }
        let (mut since, same) = match entry.shown {
            Some(_) if entry.ended => (Counters::default(), false),
            None if self.first && !self.lookback => (now, false),
            None => (Counters::default(), false),
            Some((_, shown)) if shown != id => (Counters::default(), false),
            Some((last, _)) if smaller(last) => (Counters::default(), false),
            Some((last, _)) => (last, true),
        };
        let mut is_recent = !self.first || same;
        if !same {
            entry.here = [false; 2];
            // The first one that began with this id. What began before it was never shown.
            let place = entry.new_flows.iter().position(|new_flow| new_flow.id == id);
            let new_flow = place.and_then(|place| entry.new_flows.drain(..=place).next_back());
            entry.announced = new_flow.is_some();
            if let Some(new_flow) = new_flow {
                (entry.here, since, is_recent) = (new_flow.seen, Counters::default(), true);
            }
        }
        let carried = [now.original - since.original, now.reply - since.reply].map(u128::from);
        entry.here = [entry.here[0] || ends[0], entry.here[1] || ends[1]];
        let [original, reply] = carried;
        let mut expect = [0, 0];
        if entry.here[0] || !entry.here[1] {
            expect = [reply, original];
        }
        if entry.here[1] {
            expect = [expect[0] + original, expect[1] + reply];
        }
        entry.shown = Some((now, id));
        entry.shown_now = true;
        entry.ended = ended;
        if ended {
            let last = entry.ended_now.entry(id).or_default();
            *last = last.max(now);
        }
        entry.ended_at = if ended { self.host.attribution.observation } else { entry.ended_at };

        let flow = Flow { ended, ..entry.flow.counted(now.original, now.reply) };
        let shares = self.host.show(flow);
        add(&mut self.expected, expect);
        if is_recent {
            add(&mut self.expected_recent, expect);
        }
        shares.iter().for_each(|share| add(&mut self.recent, wide(share.recent)));
        let each: Vec<_> = shares.iter().map(|share| share.local).collect();
        assert!(each.len() <= 2 && each.iter().all(|local| *local == each[0]));
    }

    /// Announces the processes at a flow's ends. An end in another namespace that is announced
    /// after the flow was shown gets all its bytes; forwarded bytes stay so, unless it is the
    /// originator's.
    fn take_records(&mut self, index: usize, seen: [Option<Sight>; 2], is_new: bool) {
        let observation = self.host.attribution.observation;
        let entry = &mut self.flows[index];
        let id = entry.flow.generation;
        let shown = entry.shown.filter(|(_, shown)| *shown == id).map(|(last, _)| last);
        if entry.ended && shown.is_some() && observation - entry.ended_at > LATE {
            return; // it may be forgotten
        }
        let last_record = entry.new_flows.iter_mut().rfind(|new_flow| new_flow.id == id);
        let at = seen.map(|seen| seen.is_some());
        match (is_new, last_record, shown) {
            (true, _, Some(last)) if !entry.announced => {
                entry.announced = true;
                add(&mut self.expected, entry.learn(seen, last));
            }
            (true, ..) => entry.new_flows.push_back(KnownNewFlow { id, seen: at, observation }),
            (false, Some(new_flow), _) => {
                new_flow.seen = [new_flow.seen[0] || at[0], new_flow.seen[1] || at[1]];
            }
            (false, None, Some(last)) => add(&mut self.expected, entry.learn(seen, last)),
            (false, None, None) => {}
        }
        // Each flow has another namespace of its own: none is counted in the place of another.
        let other_netns = NetnsKey(1 + index as u32);
        let place = |sight: Sight| if sight.other_netns { other_netns } else { NetnsKey::OWN };
        let seen_at = |sight: Sight| Seen { process: process(sight.pid), netns: place(sight) };
        let ends = seen.map(|sight| sight.map(seen_at));
        let flow = entry.flow;
        let shares =
            self.host.take_records([NewFlowRecord { netns: NetnsKey::OWN, flow, ends, is_new }]);
        assert!(shares.iter().all(|share| share.recent == Traffic::ZERO));
    }

    /// Whether each end is here: its address is, or a socket has that address.
    fn ends_here(&self, flow: &Flow) -> [bool; 2] {
        if flow.counted_at == CountedAt::Socket {
            return [true, false];
        }
        let protocol = flow.original.protocol;
        let at = |tuple: &Tuple, responder: bool| {
            let address = tuple.source.address;
            self.host.addresses.sends_from(&address)
                || responder && address.is_multicast()
                || !(protocol.is_icmp() && responder)
                    && self.host.sockets.iter().any(|socket| {
                        socket.tuple == *tuple
                            || protocol != Protocol::TCP
                                && socket.tuple.protocol == protocol
                                && socket.tuple.source == tuple.source
                                && !socket.is_connected()
                    })
        };
        [at(&flow.original, false), at(&flow.reply, true)]
    }

    fn end(&mut self, complete: bool) {
        for index in 0..self.flows.len() {
            let Entry { shown, missing, shown_now, .. } = &self.flows[index];
            if complete && shown.is_some() && !shown_now && *missing == GRACE - 1 {
                self.show(index, true, false);
            }
            let entry = &mut self.flows[index];
            match (entry.shown_now, complete) {
                (true, _) => entry.missing = 0,
                (false, true) => entry.missing += 1,
                (false, false) => {}
            }
            entry.shown_now = false;
            entry.ended_now.clear();
            let observation = self.host.attribution.observation;
            entry.new_flows.retain(|new_flow| observation - new_flow.observation < KEPT);
        }
        self.host.end(complete);
        self.host.attribution.begin();
        self.first = false;
    }
}
