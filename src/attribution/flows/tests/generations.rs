//! The growth of counters: first readings, new generations, flows that come twice or not at all.

use super::*;

const LOCAL: &str = "10.0.0.1:40000";
const REMOTE: &str = "192.0.2.7:443";

/// A host with one client.
fn client(lookback: bool) -> (Host, Flow) {
    let mut host = Host::with(FlowAttribution::new(lookback));
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    (host, tcp(LOCAL, REMOTE))
}

fn recent(shares: &[Share]) -> Vec<Traffic> {
    shares.iter().map(|share| share.recent).collect()
}

#[test]
fn lookback_takes_what_was_counted_before_but_it_is_no_rate() {
    let (mut host, flow) = client(true);
    assert_eq!(recent(&host.look([flow.counted(100, 2000)])), [Traffic::ZERO]);
    assert_eq!(host.of(1), (2000, 100));
    assert_eq!(recent(&host.look([flow.counted(101, 2002)])), [Traffic::new(2, 1)]);
    assert_eq!(host.of(1), (2002, 101));
}

#[test]
fn without_lookback_counting_begins_with_what_the_first_look_shows() {
    let (mut host, flow) = client(false);
    host.look([flow.counted(100, 2000)]);
    assert_eq!(host.of(1), (0, 0));
    host.look([flow.counted(101, 2002)]);
    assert_eq!(host.of(1), (2, 1));
}

#[test]
fn a_flow_that_is_new_after_the_first_look_counts_in_full() {
    for lookback in [false, true] {
        let (mut host, flow) = client(lookback);
        host.look([]);
        assert_eq!(recent(&host.look([flow.counted(100, 2000)])), [Traffic::new(2000, 100)]);
        assert_eq!(host.of(1), (2000, 100));
    }
}

#[test]
fn a_flow_that_stands_still_brings_nothing() {
    let (mut host, flow) = client(true);
    host.look([flow.counted(100, 2000)]);
    assert_eq!(host.look([flow.counted(100, 2000)]), []);
}

#[test]
fn counters_that_somebody_has_zeroed_count_from_zero() {
    let (mut host, flow) = client(true);
    let flow = flow.entry(7);
    host.look([flow.counted(100, 2000)]);
    host.look([flow.counted(10, 2001)]); // one is smaller: both were set to zero
    assert_eq!(host.of(1), (4001, 110));
    host.look([flow.counted(11, 2002)]);
    assert_eq!(host.of(1), (4002, 111));
}

/// The kernel makes the id from the tuple and the entry's address in memory, and both may be the
/// same again: the next connection, which ended before a look, doesn't belong to the last one's
/// process.
#[test]
fn an_entry_that_gets_the_id_of_the_one_before_has_no_process_yet() {
    let (mut host, flow) = client(true);
    let flow = flow.entry(7);
    host.look([flow.counted(100, 2000)]);
    host.sockets.clear();
    host.look([flow.counted(10, 20)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((2000, 100), (20, 10)));
}

#[test]
fn zeroed_counters_leave_what_stood_before_under_its_reason() {
    let mut host = Host::new();
    let flow = tcp(LOCAL, REMOTE).entry(7);
    host.look([flow.counted(100, 2000)]);
    host.look([flow.counted(10, 20)]);
    assert_eq!(host.under(Reason::Exited), (2020, 110));
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    host.look([flow.counted(11, 22)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((22, 11), (2000, 100)));
}

#[test]
fn another_id_is_another_flow_even_with_greater_counters() {
    let (mut host, flow) = client(true);
    host.look([flow.entry(7).counted(100, 2000)]);
    host.look([flow.entry(8).counted(101, 2002)]);
    assert_eq!(host.of(1), (4002, 201));
}

#[test]
fn another_generation_does_not_belong_to_the_process_of_the_one_before() {
    for (first, second) in [(Some(7), Some(8)), (None, None)] {
        let (mut host, flow) = client(true);
        let (first, second) =
            (Flow { generation: first, ..flow }, Flow { generation: second, ..flow });
        host.look([first.counted(100, 2000)]);
        host.sockets.clear();
        host.look([second.counted(10, 20)]);
        assert_eq!((host.of(1), host.under(Reason::Exited)), ((2000, 100), (20, 10)));
    }
}

#[test]
fn another_generation_leaves_the_bytes_of_the_one_before_unattributed() {
    for (first, second) in [(Some(7), Some(8)), (None, None)] {
        let mut host = Host::new();
        let flow = tcp(LOCAL, REMOTE);
        host.look([Flow { generation: first, ..flow }.counted(100, 2000)]);
        host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
        host.look([Flow { generation: second, ..flow }.counted(10, 20)]);
        assert_eq!((host.of(1), host.under(Reason::Exited)), ((20, 10), (2000, 100)));
    }
}

#[test]
fn without_ids_a_smaller_counter_is_a_new_flow() {
    let (mut host, flow) = client(true);
    host.look([flow.counted(100, 2000)]);
    host.look([flow.counted(200, 1999)]);
    assert_eq!(host.of(1), (3999, 300));
}

#[test]
fn without_lookback_a_generation_that_begins_while_the_first_look_is_taken_counts() {
    let (mut host, flow) = client(false);
    host.look([flow.entry(7).counted(100, 2000), flow.entry(8).counted(10, 20)]);
    assert_eq!(host.of(1), (20, 10));
}

#[test]
fn a_flow_without_counters_is_counted_as_such() {
    let (mut host, flow) = client(true);
    host.attribution.begin();
    assert_eq!(host.show(flow), []);
    host.show(udp(LOCAL, REMOTE).counted(1, 2));
    let observation = host.end(true);
    assert_eq!((observation.uncounted, observation.flows), (1, 2));
    assert_eq!(host.attribution.len(), 1);
}

#[test]
fn a_flow_that_comes_twice_brings_only_what_it_carried_meanwhile() {
    for lookback in [false, true] {
        let (mut host, flow) = client(lookback);
        host.look([flow.counted(100, 2000), flow.counted(100, 2000), flow.counted(101, 2002)]);
        assert_eq!(host.of(1), if lookback { (2002, 101) } else { (2, 1) });
        host.look([flow.counted(102, 2004), flow.counted(103, 2006)]);
        assert_eq!(host.of(1), if lookback { (2006, 103) } else { (6, 3) });
    }
}

#[test]
fn zones_and_protocols_are_part_of_a_flows_identity() {
    let mut host = Host::new();
    let forwarded = tcp("192.0.2.1:1", "192.0.2.7:2").counted(1, 2);
    let datagrams = udp("192.0.2.1:1", "192.0.2.7:2").counted(1, 2);
    host.look([forwarded, Flow { zone: 1, ..forwarded }, datagrams]);
    assert_eq!((host.all(), host.attribution.len()), ((6, 3), 3));
}

#[test]
fn a_flow_that_a_dump_or_two_have_missed_does_not_count_again() {
    // Whenever the missing begins: what is forgotten is looked for only now and then.
    for lead in 1..=GRACE {
        for missing in 1..GRACE {
            let (mut host, flow) = client(true);
            (0..lead).for_each(|_| drop(host.look([flow.counted(100, 2000)])));
            (0..missing).for_each(|_| drop(host.look([])));
            host.look([flow.counted(101, 2002)]);
            assert_eq!(host.of(1), (2002, 101), "{missing} after {lead}");
        }
    }
}

#[test]
fn a_look_that_was_cut_short_does_not_say_that_a_flow_is_gone() {
    for cut in 1..=2 * GRACE {
        let (mut host, flow) = client(true);
        host.look([flow.counted(100, 2000)]);
        (0..cut).for_each(|_| {
            host.attribution.begin();
            host.end(false);
        });
        host.look([]);
        host.look([flow.counted(101, 2002)]);
        assert_eq!(host.of(1), (2002, 101), "after {cut}");
    }
}

#[test]
fn flows_are_forgotten_although_most_looks_are_cut_short() {
    for offset in 0..GRACE {
        let (mut host, flow) = client(true);
        host.look([flow.counted(100, 2000)]);
        for look in 0..4 * GRACE * GRACE {
            host.attribution.begin();
            host.end(look % GRACE == offset);
        }
        assert!(host.attribution.is_empty(), "{offset}");
    }
}

#[test]
fn a_flow_that_is_gone_is_forgotten() {
    let (mut host, flow) = client(true);
    host.look([flow.counted(100, 2000)]);
    assert!(!host.attribution.is_empty());
    (0..2 * GRACE).for_each(|_| drop(host.look([])));
    assert!(host.attribution.is_empty());
}

#[test]
fn processes_are_referenced_as_long_as_a_flow_is_theirs() {
    let (mut host, flow) = client(true);
    let server = udp("192.0.2.7:5000", "10.0.0.1:53").counted(1, 2);
    host.open(held(2), Protocol::UDP, "10.0.0.1:53", "0.0.0.0:0");
    let mut referenced = Vec::new();
    for look in 0..4 * GRACE {
        host.attribution.begin();
        host.show(server);
        if look == 0 {
            host.show(flow.counted(100, 2000));
            // Who has lost a flow to another gets no more of it.
            host.hand_on(Inode(1), held(3));
            host.show(flow.counted(101, 2000));
        }
        referenced.extend(host.end(true).referenced);
    }
    let pids = |set: &HashSet<ProcessId, RandomState>| {
        let mut pids: Vec<u32> = set.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    };
    assert_eq!(referenced.first().map(pids), Some(vec![2, 3]));
    assert_eq!(referenced.last().map(pids), Some(vec![2]));
}

#[test]
fn counters_at_the_end_of_their_range() {
    let mut host = Host::new();
    let flow = tcp(LOCAL, REMOTE).entry(7);
    host.look([flow.counted(u64::MAX - 1, u64::MAX)]);
    host.look([flow.counted(u64::MAX, u64::MAX)]);
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    host.look([flow.counted(0, 0)]); // they have wrapped around
    host.look([flow.counted(u64::MAX, u64::MAX)]);
    let max = u128::from(u64::MAX);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((max, max), (max, max)));
}

#[test]
fn a_table_that_never_stands_still_is_forgotten_too() {
    let mut host = Host::new();
    for port in 1..200 {
        host.attribution.begin();
        host.show(tcp(&format!("10.0.0.1:{port}"), REMOTE).counted(1, 1));
        host.end(false);
    }
    assert!(host.attribution.len() < 100, "{} flows are remembered", host.attribution.len());
}

#[test]
fn a_flow_that_is_only_heard_of_at_its_end_counts_in_full() {
    let (mut host, flow) = client(true);
    host.look([flow.entry(7).counted(100, 2000).over()]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
}

#[test]
fn an_end_brings_what_was_carried_since_the_last_look() {
    let (mut host, flow) = client(true);
    let flow = flow.entry(7);
    host.look([flow.counted(100, 2000)]);
    host.sockets.clear();
    host.look([flow.counted(110, 2020).over()]);
    assert_eq!((host.of(1), host.all()), ((2020, 110), (2020, 110)));
}

/// With larger counters and even the same id: only the announced end distinguishes them.
#[test]
fn after_an_end_comes_another_flow() {
    let (mut host, flow) = client(true);
    let flow = flow.entry(7);
    host.look([flow.counted(100, 2000)]);
    host.look([flow.counted(110, 2020).over(), flow.counted(111, 2021)]);
    assert_eq!(host.all(), (2020 + 2021, 110 + 111));
    // Several of them within one look, and all alike.
    let alike = flow.counted(200, 3000).over();
    host.look([alike, alike, alike]);
    assert_eq!(host.all(), (2020 + 3 * 3000, 110 + 3 * 200));
}

#[test]
fn a_part_of_a_dump_that_was_made_before_the_end_counts_nothing_again() {
    let (mut host, flow) = client(true);
    let flow = flow.entry(7);
    host.look([flow.counted(110, 2020).over(), flow.counted(110, 2020)]);
    assert_eq!(host.all(), (2020, 110));
    // Still there at the next look: it is the next flow after all.
    host.look([flow.counted(110, 2020)]);
    assert_eq!(host.all(), (2 * 2020, 2 * 110));
}

/// The one who dumps may wait for a processor for as long as several connections of one tuple take.
#[test]
fn a_part_of_a_dump_that_was_made_before_several_ends_counts_nothing_again() {
    for second in [7, 8] {
        let (mut host, flow) = client(true);
        let [first, second] = [7, second].map(|generation| flow.entry(generation));
        let made_before = first.counted(110, 1968);
        host.look([
            first.counted(110, 2020).over(),
            second.counted(50, 60).over(),
            second.counted(60, 50).over(),
            made_before,
        ]);
        assert_eq!(host.all(), (2020 + 60 + 50, 110 + 50 + 60));
        // It was the next flow after all.
        host.look([made_before]);
        assert_eq!(host.all(), (2020 + 60 + 50 + 1968, 110 + 50 + 60 + 110));
    }
}

/// The kernel may announce the end of a flow after the next one of its tuple was read.
#[test]
fn an_end_that_is_reported_late_counts_what_is_new_of_its_own_flow() {
    let mut host = Host::new();
    let flow = tcp("10.0.0.1:5000", "192.0.2.7:443");
    host.look([flow.entry(7).counted(100, 504)]);
    host.look([flow.entry(8).counted(10, 20)]);
    host.look([flow.entry(7).counted(160, 805).over(), flow.entry(8).counted(11, 22)]);
    assert_eq!(host.all(), (805 + 22, 160 + 11));
}

/// The kernel announces an end once more, later, if one of its listeners could not take it.
#[test]
fn ends_that_are_reported_late_are_those_of_flows_that_were_read() {
    let mut host = Host::new();
    let flow = tcp("10.0.0.1:5000", "192.0.2.7:443");
    host.look([flow.entry(7).counted(100, 504)]);
    host.look([flow.entry(8).counted(10, 20)]);
    host.look([flow.entry(9).counted(1, 2).over()]);
    host.look([flow.entry(7).counted(160, 805).over(), flow.entry(8).counted(11, 22).over()]);
    assert_eq!(host.all(), (805 + 22 + 2, 160 + 11 + 1));
}
