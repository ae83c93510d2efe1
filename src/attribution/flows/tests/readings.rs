//! The part of a table that is read, and when all of it is.

use super::*;

const REMOTE: &str = "192.0.2.7:443";

fn client(port: u16) -> Flow {
    tcp(&format!("10.0.0.1:{port}"), REMOTE).entry(port.into())
}

impl Host {
    /// The local ports of the flows that can have changed.
    fn open_ports(&self) -> Option<Vec<u16>> {
        let open = self.attribution.open_flows(NetnsKey::OWN)?;
        let mut ports: Vec<u16> = open.iter().map(|tuple| tuple.source.port).collect();
        ports.sort_unstable();
        Some(ports)
    }

    /// An observation of the flows that were queried.
    fn look_at_chosen(&mut self, flows: impl IntoIterator<Item = Flow>) -> Observation {
        self.attribution.begin();
        flows.into_iter().for_each(|flow| drop(self.show(flow)));
        self.attribution.leave(NetnsKey::OWN, Coverage::Chosen);
        self.attribution.end(|share| panic!("{share:?}"))
    }

    fn missed(&mut self) -> bool {
        self.attribution.missed_beginnings(NetnsKey::OWN)
    }
}

#[test]
fn flows_that_are_closed_or_over_need_not_be_asked_for() {
    let mut host = Host::new();
    assert_eq!(host.open_ports(), Some(vec![]));
    let closed = Flow { closed: true, ..client(2) };
    host.look([client(1).counted(1, 1), closed.counted(1, 1), client(3).counted(1, 1).over()]);
    assert_eq!(host.open_ports(), Some(vec![1]));
    // One is closed now, and the other was opened again.
    let closed = Flow { closed: true, ..client(1) };
    host.look([closed.counted(2, 2), client(2).counted(2, 2)]);
    assert_eq!(host.open_ports(), Some(vec![2]));
    assert_eq!(host.attribution.open_flows(NetnsKey(1)), Some(vec![]));
}

#[test]
fn flows_that_have_begun_are_asked_for_once() {
    let mut host = Host::new();
    let closed = Flow { closed: true, ..client(2) };
    host.look([client(1).counted(1, 1), closed.counted(1, 1), client(3).counted(1, 1).over()]);
    // The next flows between the same ends, and one that was never read.
    let next = [1, 2, 3, 4].map(|port| born(client(port).entry(77), [None; 2]));
    host.take_records(next);
    assert_eq!(host.open_ports(), Some(vec![1, 2, 3, 4]));
    // Once they are read they have begun no longer.
    let closed = [1, 2, 3, 4].map(|port| Flow { closed: true, ..client(port).entry(77) });
    closed.into_iter().for_each(|flow| drop(host.show(flow.counted(1, 1))));
    assert_eq!(host.open_ports(), Some(vec![]));
}

/// A query names no zone.
#[test]
fn flows_with_a_zone_are_read_with_all_others() {
    let mut host = Host::new();
    let zoned = Flow { zone: 5, ..client(1) };
    host.take_records([born(zoned, [None; 2])]);
    assert_eq!(host.open_ports(), None);
    host.look([zoned.counted(1, 1)]);
    assert_eq!(host.open_ports(), None);
    host.look([zoned.counted(1, 1).over()]);
    assert_eq!(host.open_ports(), Some(vec![]));
}

#[test]
fn what_was_not_asked_for_is_not_gone() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, "10.0.0.1:1", REMOTE);
    let closed = Flow { closed: true, ..client(1) };
    host.look([closed.counted(100, 2000), client(2).counted(1, 1)]);
    for _ in 0..10 * GRACE {
        let seen = host.look_at_chosen([client(2).counted(1, 1)]);
        assert!(seen.referenced.is_none_or(|seen| seen.contains(&process(1))));
    }
    host.look([closed.counted(101, 2002), client(2).counted(1, 1)]);
    assert_eq!(host.of(1), (2002, 101));
    // Its end is announced, whatever is asked for.
    host.look_at_chosen([closed.counted(102, 2003).over()]);
    (0..GRACE + LATE).for_each(|_| drop(host.look_at_chosen([client(2).counted(1, 1)])));
    assert_eq!((host.of(1), host.attribution.len()), ((2003, 102), 1));
}

#[test]
fn who_was_not_told_of_a_beginning_has_missed_some() {
    let mut host = Host::new();
    host.look([client(1).counted(1, 1)]);
    assert!(!host.missed(), "it may have begun before anybody listened");
    host.record_and_look([born(client(2), [None; 2])], [client(2).counted(1, 1)]);
    assert!(!host.missed());
    host.look([client(3).counted(1, 1)]);
    assert!(host.missed());
    assert!(!host.missed(), "it is told once");
}

#[test]
fn a_beginning_that_is_reported_after_the_flow_was_read_was_not_missed() {
    let mut host = Host::new();
    host.look([]);
    host.look([client(1).counted(1, 1), client(2).counted(1, 1).over()]);
    host.take_records([1, 2].map(|port| born(client(port), [None; 2])));
    assert!(!host.missed());
}

/// Flows that were queried were known, or announced.
#[test]
fn a_reading_of_some_flows_says_nothing_of_missed_beginnings() {
    let mut host = Host::new();
    host.look([]);
    host.look_at_chosen([client(1).counted(1, 1)]);
    assert!(!host.missed());
    host.look([client(1).counted(1, 1)]);
    assert!(!host.missed());
}

#[test]
fn a_namespace_that_is_not_read_any_more_is_forgotten() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, "10.0.0.1:1", REMOTE);
    host.record_and_look([born(client(2), [None; 2])], [client(1).counted(1, 1)]);
    host.attribution.forget(NetnsKey::OWN);
    let mut seen = Vec::new();
    for _ in 0..=GRACE {
        host.attribution.begin();
        seen.extend(host.attribution.end(|share| panic!("{share:?}")).referenced);
    }
    assert!(host.attribution.is_empty() && seen.iter().all(HashSet::is_empty));
    assert_eq!(host.open_ports(), Some(vec![]));
}
