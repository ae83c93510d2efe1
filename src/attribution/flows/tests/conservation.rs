//! Whatever happens on a host, every counted byte is accounted once for each end of its flow that
//! is here. The model below knows nothing of processes and reasons.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod world;

use world::World;

const ADDRESSES: [&str; 5] = ["10.0.0.1", "127.0.0.1", "224.0.0.1", "192.0.2.1", "192.0.2.2"];
const PORTS: [u16; 2] = [53, 2048];
const PROTOCOLS: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::GRE];
const REASONS: [Ownership; 3] = [Ownership::Denied, Ownership::Hidden, Ownership::Nobody];
/// Number of flows in a world.
const FLOWS: usize = 6;

/// A process that was seen at an end, and whether the end is in another namespace.
#[derive(Clone, Copy, Debug)]
struct Sight {
    pid: u32,
    other_netns: bool,
}

/// An event. Numbers that are too large wrap around.
#[derive(Clone, Debug)]
enum Event {
    /// A flow carries bytes.
    Carry { flow: usize, bytes: Counters },
    /// A flow's counters are reset.
    Zero { flow: usize },
    /// A flow ends and another one gets its tuple.
    Renew { flow: usize },
    /// The current observation shows a flow, with or without its counters.
    Show { flow: usize, counted: bool },
    /// The end of a flow is announced. The next flow of its tuple is another one.
    Announce { flow: usize },
    /// A flow is announced: its start, or what was seen later. Each end that was seen belongs to a
    /// process, in this namespace or in another one.
    Record { flow: usize, seen: [Option<Sight>; 2], is_new: bool },
    /// The observation ends. A complete one has shown each flow that would be forgotten otherwise.
    End { complete: bool },
    /// A socket appears at an end of a flow, or bound to its address or port.
    Open { flow: usize, responder: bool, bound: u8, holder: Ownership, orphan: Option<u8> },
    /// A socket disappears.
    Close { socket: usize },
    /// A socket is passed to another process.
    HandOn { socket: usize, holder: Ownership },
    /// An address of the host is added or removed.
    Readdress { here: bool },
}

fn holder() -> impl Strategy<Value = Ownership> {
    prop_oneof![(0_u32..3).prop_map(held), proptest::sample::select(&REASONS[..])]
}

fn sight() -> impl Strategy<Value = Option<Sight>> {
    let sight = (0_u32..3, proptest::bool::weighted(0.3));
    proptest::option::of(sight.prop_map(|(pid, other_netns)| Sight { pid, other_netns }))
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
        4 => (flow(), [sight(), sight()], proptest::bool::weighted(0.7))
            .prop_map(|(flow, seen, is_new)| Event::Record { flow, seen, is_new }),
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

/// Flows between a few endpoints, some with translated addresses, some counted at a socket. All are
/// different.
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
