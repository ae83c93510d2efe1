//! Flows that this namespace forwards to an end in another one.

use super::*;

pub(super) const OWN: NetnsKey = NetnsKey::OWN;
pub(super) const CONTAINER: NetnsKey = NetnsKey(1);
const OTHER: NetnsKey = NetnsKey(2);

pub(super) const INSIDE: &str = "172.17.0.2:40000";
pub(super) const SERVER: &str = "172.17.0.3:80";
pub(super) const REMOTE: &str = "192.0.2.7:443";

impl Host {
    /// A host with two containers.
    pub(super) fn with_containers() -> Host {
        let mut host = Host::new();
        for (key, own) in [(CONTAINER, "172.17.0.2"), (OTHER, "172.17.0.3")] {
            let mut addresses = LocalAddresses::default();
            addresses.insert(address(own));
            addresses.insert(address("127.0.0.1"));
            host.other_namespaces.push(Place { key, addresses, sockets: Vec::new() });
        }
        host
    }

    fn open_in(
        &mut self,
        netns: NetnsKey,
        holder: Ownership,
        protocol: Protocol,
        local: &str,
        remote: &str,
    ) {
        self.open(holder, protocol, local, remote);
        let socket = self.sockets.pop().unwrap();
        self.other_namespaces.iter_mut().find(|at| at.key == netns).unwrap().sockets.push(socket);
    }

    pub(super) fn connect_in(&mut self, netns: NetnsKey, pid: u32, local: &str, remote: &str) {
        self.open_in(netns, held(pid), Protocol::TCP, local, remote);
    }

    /// An observation of several tables, in this order.
    pub(super) fn look_in(&mut self, tables: &[(NetnsKey, &[Flow])]) -> Vec<Share> {
        self.attribution.begin();
        let shares = self.read(tables);
        self.attribution.end(|share| panic!("{share:?}"));
        shares
    }

    fn read(&mut self, tables: &[(NetnsKey, &[Flow])]) -> Vec<Share> {
        let mut shares = Vec::new();
        for (netns, flows) in tables {
            flows.iter().for_each(|flow| shares.extend(self.show_in(*netns, *flow)));
            self.attribution.leave(*netns, Coverage::Whole);
        }
        shares
    }
}

/// The flow in the table of the host that forwards it.
pub(super) fn masqueraded() -> Flow {
    tcp(INSIDE, REMOTE).answered(REMOTE, "10.0.0.1:40000").entry(7)
}

/// The flow in the container's table.
fn inside() -> Flow {
    tcp(INSIDE, REMOTE).entry(70)
}

/// Both ends were seen there.
fn seen_in(netns: NetnsKey, record: NewFlowRecord) -> NewFlowRecord {
    let there = |seen: Option<Seen>| seen.map(|seen| Seen { netns, ..seen });
    NewFlowRecord { ends: record.ends.map(there), ..record }
}

#[test]
fn what_a_container_sends_out_is_its_processs_and_not_forwarded() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    host.look([masqueraded().counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
}

#[test]
fn what_is_let_in_to_a_container_is_its_servers() {
    let mut host = Host::with_containers();
    host.connect_in(OTHER, 1, SERVER, "192.0.2.7:5000");
    let flow = tcp("192.0.2.7:5000", "10.0.0.1:8080").answered(SERVER, "192.0.2.7:5000");
    host.look([flow.counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
}

#[test]
fn from_one_container_to_the_other_each_process_has_its_own_view() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, SERVER);
    host.connect_in(OTHER, 2, SERVER, INSIDE);
    host.look([tcp(INSIDE, SERVER).counted(100, 2000)]);
    assert_eq!((host.of(1), host.of(2)), ((2000, 100), (100, 2000)));
    assert_eq!(host.all(), (2100, 2100));
}

#[test]
fn from_a_container_to_this_namespace_both_ends_count() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, "10.0.0.1:80");
    host.open(held(2), Protocol::TCP, "10.0.0.1:80", INSIDE);
    host.look([tcp(INSIDE, "10.0.0.1:80").counted(100, 2000)]);
    assert_eq!((host.of(1), host.of(2)), ((2000, 100), (100, 2000)));
}

#[test]
fn what_other_hosts_send_each_other_stays_forwarded() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    host.look([tcp("192.0.2.1:5000", REMOTE).counted(100, 2000)]);
    assert_eq!((host.under(Reason::Forwarded), host.all()), ((2000, 100), (2000, 100)));
}

/// Every namespace has a loopback address, which is no end of a flow elsewhere.
#[test]
fn an_address_that_every_namespace_has_leads_to_none() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, "127.0.0.1:40000", REMOTE);
    host.look([tcp("127.0.0.1:40000", REMOTE).counted(100, 2000)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (2000, 100)));
}

/// Whichever is read first, and whichever sees the flow first.
#[test]
fn a_flow_that_the_containers_own_table_has_is_counted_once() {
    for own_first in [false, true] {
        for only_at_first in [None, Some(OWN), Some(CONTAINER)] {
            let mut host = Host::with_containers();
            host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
            host.look_in(&[(OWN, &[]), (CONTAINER, &[])]);
            for look in 1..=3 {
                let (sent, received) = (100 * look, 2000 * look);
                let (own, there) =
                    ([masqueraded().counted(sent, received)], [inside().counted(sent, received)]);
                let in_table = |netns| look > 1 || only_at_first.is_none_or(|only| only == netns);
                let mut tables: [(_, &[Flow]); 2] = [
                    (OWN, if in_table(OWN) { &own } else { &[] }),
                    (CONTAINER, if in_table(CONTAINER) { &there } else { &[] }),
                ];
                if !own_first {
                    tables.reverse();
                }
                host.look_in(&tables);
                let expected = (u128::from(received), u128::from(sent));
                let case = (own_first, only_at_first, look);
                assert_eq!((host.of(1), host.all()), (expected, expected), "{case:?}");
            }
        }
    }
}

#[test]
fn a_flow_that_a_container_will_show_is_left_to_it() {
    let mut host = Host::with_containers();
    host.look_in(&[(OWN, &[]), (CONTAINER, &[])]);
    host.attribution.begin();
    let there = NewFlowRecord { netns: CONTAINER, ..born(inside(), [Some(1), None]) };
    let here = born(masqueraded(), [Some(1), None]);
    host.take_records([here, there].map(|record| seen_in(CONTAINER, record)));
    host.read(&[
        (OWN, &[masqueraded().counted(100, 2000).over()]),
        (CONTAINER, &[inside().counted(100, 2000).over()]),
    ]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
    // Told again late, it is not counted again.
    assert_eq!(host.take_records([seen_in(CONTAINER, late(masqueraded(), [Some(1), None]))]), []);
}

#[test]
fn an_end_is_there_where_its_socket_is() {
    let mut host = Host::with_containers();
    host.other_namespaces[1].addresses.insert(address("172.17.0.2"));
    host.connect_in(OTHER, 1, INSIDE, REMOTE);
    host.look([masqueraded().counted(1, 10)]);
    assert_eq!(host.of(1), (10, 1));
}

#[test]
fn one_address_and_one_socket_in_two_containers_are_ambiguous() {
    let mut host = Host::with_containers();
    host.other_namespaces[1].addresses.insert(address("172.17.0.2"));
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    host.connect_in(OTHER, 2, INSIDE, REMOTE);
    host.look([masqueraded().counted(1, 10)]);
    assert_eq!((host.under(Reason::Ambiguous), host.all()), ((10, 1), (10, 1)));
}

#[test]
fn a_flow_stays_with_the_table_that_counts_it_when_its_container_begins_to_track() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    host.look_in(&[(CONTAINER, &[]), (OWN, &[masqueraded().counted(100, 2000)])]);
    for look in 1..=3 {
        let (sent, received) = (10 * look, 200 * look);
        host.look_in(&[
            (CONTAINER, &[inside().counted(sent, received)]),
            (OWN, &[masqueraded().counted(100 + sent, 2000 + received)]),
        ]);
        let expected = (2000 + u128::from(received), 100 + u128::from(sent));
        assert_eq!((host.of(1), host.all()), (expected, expected));
    }
    // The container's next flow is counted there, as soon as the other one is forgotten.
    (0..GRACE + LATE).for_each(|_| drop(host.look_in(&[(CONTAINER, &[]), (OWN, &[])])));
    assert!(host.attribution.claims.is_empty());
}

#[test]
fn the_next_flow_of_a_tuple_is_counted_by_one_table_too() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    host.look_in(&[(CONTAINER, &[]), (OWN, &[masqueraded().counted(100, 2000)])]);
    host.look_in(&[
        (CONTAINER, &[inside().entry(80).counted(1, 10)]),
        (OWN, &[masqueraded().entry(8).counted(1, 10)]),
    ]);
    assert_eq!((host.of(1), host.all()), ((2010, 101), (2010, 101)));
}

/// A container inside a container: what leaves it passes through two tables.
#[test]
fn a_flow_that_passes_through_two_tables_is_counted_once() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    for look in 1..=2 {
        host.look_in(&[
            (OTHER, &[inside().counted(look, 10 * look)]),
            (OWN, &[masqueraded().counted(look, 10 * look)]),
        ]);
    }
    assert_eq!((host.of(1), host.all()), ((20, 2), (20, 2)));
}

#[test]
fn a_new_flow_that_two_tables_report_is_counted_once() {
    let mut host = Host::with_containers();
    host.look_in(&[(OTHER, &[]), (OWN, &[])]);
    host.attribution.begin();
    let there = NewFlowRecord { netns: OTHER, ..born(inside(), [Some(1), None]) };
    let here = born(masqueraded(), [Some(1), None]);
    host.take_records([here, there].map(|record| seen_in(CONTAINER, record)));
    let (there, here) = (inside().counted(1, 10).over(), masqueraded().counted(1, 10).over());
    host.read(&[(OTHER, &[there]), (OWN, &[here])]);
    assert_eq!((host.of(1), host.all()), ((10, 1), (10, 1)));
}

#[test]
fn of_a_container_that_came_and_went_its_record_says() {
    let mut host = Host::new();
    host.look([]);
    let seen = seen_in(CONTAINER, born(masqueraded(), [Some(1), None]));
    host.record_and_look([seen], [masqueraded().counted(100, 2000).over()]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
}

#[test]
fn what_was_taken_to_be_forwarded_is_the_containers_when_it_is_reported_late() {
    let mut host = Host::new();
    host.look([masqueraded().counted(100, 2000)]);
    assert_eq!(host.under(Reason::Forwarded), (2000, 100));
    let told = born(masqueraded(), [Some(1), None]);
    host.record_and_look([seen_in(CONTAINER, told)], [masqueraded().counted(101, 2002)]);
    assert_eq!((host.of(1), host.all()), ((2002, 101), (2002, 101)));
}

/// Forwarded bytes are accounted as their originator sees them, which isn't the end that was seen.
#[test]
fn a_server_in_a_container_that_is_reported_late_has_what_comes_after() {
    let mut host = Host::new();
    let flow = tcp("192.0.2.7:5000", "10.0.0.1:8080").answered(SERVER, "192.0.2.7:5000").entry(7);
    host.look([flow.counted(100, 2000)]);
    let told = born(flow, [None, Some(1)]);
    host.record_and_look([seen_in(OTHER, told)], [flow.counted(101, 2002)]);
    assert_eq!((host.of(1), host.under(Reason::Forwarded)), ((1, 2), (2000, 100)));
}

#[test]
fn both_containers_of_a_flow_that_is_reported_late_have_their_view_of_it() {
    let mut host = Host::new();
    let flow = tcp(INSIDE, SERVER).entry(7);
    host.look([flow.counted(100, 2000).over()]);
    host.record_and_look([seen_in(OTHER, born(flow, [Some(1), Some(2)]))], []);
    assert_eq!((host.of(1), host.of(2)), ((2000, 100), (100, 2000)));
    assert_eq!(host.all(), (2100, 2100));
}

/// The container starts to track at the moment of the late record.
#[test]
fn who_was_told_late_stays_with_the_table_that_has_told() {
    for is_new in [true, false] {
        let mut host = Host::with_containers();
        host.look_in(&[(CONTAINER, &[]), (OWN, &[masqueraded().counted(100, 2000)])]);
        host.attribution.begin();
        let told = NewFlowRecord { is_new, ..born(masqueraded(), [Some(1), None]) };
        host.take_records([seen_in(CONTAINER, told)]);
        host.read(&[
            (CONTAINER, &[inside().counted(1, 10)]),
            (OWN, &[masqueraded().counted(101, 2010)]),
        ]);
        assert_eq!((host.of(1), host.all()), ((2010, 101), (2010, 101)), "{is_new}");
    }
}

#[test]
fn a_ping_to_a_container_is_counted_where_it_is_answered() {
    let mut host = Host::with_containers();
    let ping = flow(Protocol::ICMP, "192.0.2.7:77", "172.17.0.2:2048").counted(84, 84);
    host.look_in(&[(CONTAINER, &[ping]), (OWN, &[ping])]);
    assert_eq!((host.under(Reason::Kernel), host.all()), ((84, 84), (84, 84)));
    // Where the container doesn't track it, who only gets to see pings is still not who answers.
    let mut host = Host::with_containers();
    host.open_in(CONTAINER, held(1), Protocol::ICMP, "0.0.0.0:0", "0.0.0.0:0");
    host.open_in(CONTAINER, held(1), Protocol::ICMP, "172.17.0.2:0", "0.0.0.0:0");
    host.look([ping]);
    assert_eq!((host.of(1), host.under(Reason::Forwarded)), ((0, 0), (84, 84)));
}

#[test]
fn sockets_of_a_container_that_share_a_port_are_ambiguous_if_there_are_two_processes() {
    let name_server = "172.17.0.2:53";
    let ask = udp("192.0.2.7:5000", name_server);
    for (pids, reason) in [([1, 1], None), ([1, 2], Some(Reason::Ambiguous))] {
        let mut host = Host::with_containers();
        for pid in pids {
            host.open_in(CONTAINER, held(pid), Protocol::UDP, name_server, "0.0.0.0:0");
        }
        host.look([ask.counted(1, 2)]);
        let stands = reason.map_or_else(|| host.of(1), |reason| host.under(reason));
        assert_eq!((stands, host.all()), ((1, 2), (1, 2)));
    }
}

#[test]
fn a_namespace_that_is_not_read_any_more_takes_no_other_with_it() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
    let other = tcp("10.0.0.1:40000", REMOTE);
    host.look_in(&[(CONTAINER, &[inside().counted(1, 10)]), (OWN, &[other.counted(1, 10)])]);
    host.attribution.forget(CONTAINER);
    (0..GRACE).for_each(|_| drop(host.look_in(&[(OWN, &[other.counted(1, 10)])])));
    assert_eq!(host.attribution.len(), 1);
    host.look_in(&[(OWN, &[other.counted(2, 20)])]);
    assert_eq!(host.all(), (30, 3));
}

#[test]
fn an_end_is_accounted_in_the_namespace_of_its_socket() {
    let mut host = Host::with_containers();
    host.connect_in(CONTAINER, 7, INSIDE, REMOTE);
    let flow = tcp(INSIDE, REMOTE).counted(100, 10);
    let forwarded = tcp("172.17.0.9:40000", REMOTE).counted(100, 10);
    host.look_in(&[(OWN, &[flow, forwarded])]);
    let accounted_in = |flow, netns| {
        host.attribution.accounted(flow, netns).map(|end| end.map(|(netns, _)| netns))
    };
    assert_eq!(accounted_in(&flow, OWN), [Some(CONTAINER), None]);
    assert_eq!(accounted_in(&forwarded, OWN), [None, None]);
    assert_eq!(accounted_in(&flow, OTHER), [None, None]);
}
