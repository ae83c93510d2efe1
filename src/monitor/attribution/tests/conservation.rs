//! Whatever happens on a host, every byte that was counted stands somewhere, once for each end of
//! its flow that is here. The model below knows nothing of processes and reasons.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ADDRESSES: [&str; 5] = ["10.0.0.1", "127.0.0.1", "224.0.0.1", "192.0.2.1", "192.0.2.2"];
const PORTS: [u16; 2] = [53, 2048];
const PROTOCOLS: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::GRE];
const REASONS: [Ownership; 3] = [Ownership::Denied, Ownership::Hidden, Ownership::Nobody];
/// How many flows a world has.
const FLOWS: usize = 6;

/// What may happen. Numbers that are too great wrap around.
#[derive(Clone, Debug)]
enum Event {
    /// A flow carries bytes.
    Carry { flow: usize, bytes: Counters },
    /// Somebody sets a flow's counters to zero.
    Zero { flow: usize },
    /// A flow ends and another one has its tuple.
    Renew { flow: usize },
    /// A flow is shown by the observation that is under way; with or without its counters.
    Show { flow: usize, counted: bool },
    /// The end of a flow is announced. What comes next under its tuple is another one.
    Announce { flow: usize },
    /// The observation ends. One that is complete has shown each flow that would be forgotten.
    End { complete: bool },
    /// A socket turns up at an end of a flow, or bound to its address or port.
    Open { flow: usize, responder: bool, bound: u8, holder: Ownership, orphan: Option<u8> },
    /// One disappears.
    Close { socket: usize },
    /// One is handed on.
    HandOn { socket: usize, holder: Ownership },
    /// An address of the host comes or goes.
    Readdress { here: bool },
}

/// One flow of a world, and what the model remembers of it.
#[derive(Clone, Debug)]
struct Entry {
    flow: Flow,
    now: Counters,
    /// The counters and the id that were shown last.
    shown: Option<(Counters, Option<u64>)>,
    /// From how many complete observations it has been missing.
    missing: u32,
    shown_now: bool,
    /// Whether what was shown last was the end of a flow, and in this observation.
    ended: bool,
    ended_now: bool,
    /// Which of its ends have been here.
    here: [bool; 2],
}

fn add(sum: &mut [u128; 2], [received, sent]: [u128; 2]) {
    *sum = [sum[0] + received, sum[1] + sent];
}

struct World {
    host: Host,
    lookback: bool,
    first: bool,
    flows: Vec<Entry>,
    expected: [u128; 2],
    expected_recent: [u128; 2],
    recent: [u128; 2],
}

impl World {
    fn new(lookback: bool, flows: Vec<Flow>) -> World {
        let mut host = Host::with(Attribution::new(lookback));
        host.attribution.begin();
        let entry = |flow| Entry {
            flow,
            now: Counters::default(),
            shown: None,
            missing: 0,
            shown_now: false,
            ended: false,
            ended_now: false,
            here: [false; 2],
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

    fn happen(&mut self, event: Event) {
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
                    (socket.inode, socket.state) = (None, State(state));
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

    /// Shows a flow, perhaps its end, and expects what it has carried since it was shown last.
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
        if let Some((last, shown)) = entry.shown
            && entry.ended_now
            && !ended
            && shown == id
            && no_more(last)
        {
            // It may be the one that has ended, or another one: the next observation will tell.
            entry.shown_now = true;
            let shares = self.host.show(entry.flow.counted(now.original, now.reply));
            assert_eq!(shares, []);
            return;
        }
        let (since, same) = match entry.shown {
            Some(_) if entry.ended => (Counters::default(), false),
            None if self.first && !self.lookback => (now, false),
            None => (Counters::default(), false),
            Some((_, shown)) if shown != id => (Counters::default(), false),
            Some((last, _)) if smaller(last) => (Counters::default(), false),
            Some((last, _)) => (last, true),
        };
        if !same {
            entry.here = [false; 2];
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
        let is_recent = !self.first || same;
        entry.shown = Some((now, id));
        entry.shown_now = true;
        (entry.ended, entry.ended_now) = (ended, ended);

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

    /// Which ends are here: those whose address is, and those at which a socket has the very
    /// address, whosever it is.
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
            entry.ended_now = false;
        }
        self.host.attribution.end(complete);
        self.host.attribution.begin();
        self.first = false;
    }
}

fn holder() -> impl Strategy<Value = Ownership> {
    prop_oneof![(0_u32..3).prop_map(held), proptest::sample::select(&REASONS[..])]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let flow = || 0..FLOWS;
    let bytes = || prop_oneof![4 => 0_u64..3, 4 => 0_u64..3000, 1 => Just(u64::MAX - 1000)];
    let counters = (bytes(), bytes()).prop_map(|(original, reply)| Counters { original, reply });
    let orphan = proptest::option::weighted(0.2, 7_u8..=12);
    let event = prop_oneof![
        6 => (flow(), counters).prop_map(|(flow, bytes)| Event::Carry { flow, bytes }),
        1 => flow().prop_map(|flow| Event::Zero { flow }),
        1 => flow().prop_map(|flow| Event::Renew { flow }),
        8 => (flow(), proptest::bool::weighted(0.95))
            .prop_map(|(flow, counted)| Event::Show { flow, counted }),
        2 => flow().prop_map(|flow| Event::Announce { flow }),
        3 => proptest::bool::weighted(0.8).prop_map(|complete| Event::End { complete }),
        3 => (flow(), any::<bool>(), 0_u8..3, holder(), orphan).prop_map(
            |(flow, responder, bound, holder, orphan)| Event::Open {
                flow, responder, bound, holder, orphan
            }
        ),
        2 => any::<usize>().prop_map(|socket| Event::Close { socket }),
        1 => (any::<usize>(), holder())
            .prop_map(|(socket, holder)| Event::HandOn { socket, holder }),
        1 => any::<bool>().prop_map(|here| Event::Readdress { here }),
    ];
    vec(event, 0..150)
}

/// Flows between a few endpoints, some with translated addresses, some counted at a socket. No two
/// are the same one.
fn flows() -> impl Strategy<Value = Vec<Flow>> {
    use proptest::sample::select;
    let end = || (select(&ADDRESSES[..]), select(&PORTS[..]));
    let one = (select(&PROTOCOLS[..]), end(), end(), proptest::option::of(end()), 0_u8..3);
    vec(one, FLOWS).prop_map(|flows| {
        let each = flows.into_iter().enumerate();
        each.map(|(index, (protocol, from, to, translated, kind))| {
            let has_ports = protocol != Protocol::GRE;
            let at = |(address, port)| format!("{address}:{}", if has_ports { port } else { 0 });
            let (from, to) = (at(from), at(to));
            let id = 1000 * (1 + index as u64);
            if kind == 0 {
                return at_socket(id, &from, &to);
            }
            let mut flow = flow(protocol, &from, &to);
            if let Some(translated) = translated {
                flow = flow.answered(&at(translated), &from);
            }
            if kind == 1 {
                flow = flow.entry(id);
            }
            Flow { zone: index as u16, ..flow }
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_byte_stands_once_for_each_end_that_is_here(
        lookback in any::<bool>(),
        flows in flows(),
        events in events(),
    ) {
        let mut world = World::new(lookback, flows);
        for event in events {
            world.happen(event.clone());
            // That no reason goes below zero, and nothing recent beyond the whole, the sums assert.
            prop_assert_eq!(world.host.sums.all(), world.expected, "after {:?}", event);
            prop_assert_eq!(world.recent, world.expected_recent, "after {:?}", event);
        }
    }
}
