//! Namespaces that exist at the start of the program and are opened one after the other.

use super::namespaces::{CONTAINER, INSIDE, OWN, REMOTE, SERVER, masqueraded};
use super::*;

impl Host {
    /// A host whose containers are not open yet, and the containers.
    fn opening(lookback: bool) -> (Host, Vec<Place>) {
        let mut host = Host::with_containers();
        host.attribution = FlowAttribution::new(lookback);
        host.attribution.set_opening(Opening::UnderWay);
        let containers = std::mem::take(&mut host.other_namespaces);
        (host, containers)
    }

    fn open_all(&mut self, containers: Vec<Place>) {
        self.other_namespaces = containers;
        self.attribution.set_opening(Opening::JustDone);
    }
}

#[test]
fn what_seems_to_pass_through_is_left_until_everything_is_open() {
    for lookback in [true, false] {
        for is_held in [true, false] {
            let (mut host, containers) = Host::opening(lookback);
            for look in 0..2 {
                assert_eq!(host.look([masqueraded().counted(100 + look, 2000)]), [], "{lookback}");
            }
            host.open_all(containers);
            if is_held {
                host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
            }
            let shares = host.look([masqueraded().counted(150, 2500)]);
            assert_eq!(shares[0].recent, Traffic::ZERO, "nobody knows when");
            let expected = if lookback { (2500, 150) } else { (500, 50) };
            let got = if is_held { host.of(1) } else { host.under(Reason::Forwarded) };
            assert_eq!((got, host.all()), (expected, expected));
            host.attribution.set_opening(Opening::Done);
            let shares = host.look([masqueraded().counted(160, 2500)]);
            assert_eq!(shares[0].recent, Traffic::new(0, 10));
        }
    }
}

#[test]
fn a_flow_that_ends_before_everything_is_open_is_taken_for_what_it_seems() {
    let (mut host, _) = Host::opening(true);
    assert_eq!(host.look([masqueraded().counted(100, 2000)]), []);
    host.look([masqueraded().counted(110, 2000).over()]);
    assert_eq!((host.under(Reason::Forwarded), host.all()), ((2000, 110), (2000, 110)));
}

#[test]
fn a_flow_that_is_replaced_before_everything_is_open_keeps_its_bytes() {
    let (mut host, containers) = Host::opening(true);
    host.look([masqueraded().counted(100, 2000)]);
    host.look([masqueraded().entry(8).counted(10, 20)]);
    host.look([masqueraded().counted(110, 2000).over()]);
    assert_eq!(host.under(Reason::Forwarded), (2000, 110));
    host.open_all(containers);
    host.look([masqueraded().entry(8).counted(10, 20)]);
    assert_eq!(host.under(Reason::Forwarded), (2020, 120));
}

#[test]
fn an_end_next_door_was_there_before_it_was_opened() {
    for lookback in [true, false] {
        let (mut host, containers) = Host::opening(lookback);
        let flow = |sent| tcp(INSIDE, "10.0.0.1:80").counted(sent, 2000);
        host.open(held(2), Protocol::TCP, "10.0.0.1:80", INSIDE);
        host.look([flow(100)]);
        host.look([flow(130)]);
        let both = if lookback { (130, 2000) } else { (30, 0) };
        assert_eq!((host.of(2), host.all()), (both, both));
        host.open_all(containers);
        host.connect_in(CONTAINER, 1, INSIDE, "10.0.0.1:80");
        // Also where nothing comes any more.
        let shares = host.look([flow(130)]);
        assert_eq!(shares.len(), 1, "{shares:?}");
        assert_eq!((host.of(1), host.of(2)), ((both.1, both.0), both));
    }
}

/// Whichever table is read first.
#[test]
fn a_flow_that_another_table_has_is_counted_once_when_that_is_opened() {
    for own_first in [true, false] {
        let (mut host, containers) = Host::opening(true);
        host.look_in(&[(OWN, &[masqueraded().counted(100, 2000)])]);
        host.open_all(containers);
        host.connect_in(CONTAINER, 1, INSIDE, REMOTE);
        let own = [masqueraded().counted(100, 2000)];
        let there = [tcp(INSIDE, REMOTE).entry(70).counted(100, 2000)];
        match own_first {
            true => host.look_in(&[(OWN, &own), (CONTAINER, &there)]),
            false => host.look_in(&[(CONTAINER, &there), (OWN, &own)]),
        };
        assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)), "{own_first}");
    }
}

#[test]
fn bytes_wait_for_a_process_that_is_not_read_yet_however_silent_they_are() {
    let mut host = Host::new();
    let inode = host.open(Ownership::Unread, Protocol::TCP, "10.0.0.1:80", SERVER);
    let flow = tcp(SERVER, "10.0.0.1:80");
    for _ in 0..20 {
        host.look([flow.counted(100, 2000)]);
    }
    assert_eq!((host.under(Reason::Unread), host.all()), ((100, 2000), (100, 2000)));
    host.hand_on(inode, held(1));
    host.look([flow.counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
}

#[test]
fn bytes_that_nobody_has_when_all_is_read_stand_under_the_true_reason() {
    let mut host = Host::new();
    let inode = host.open(Ownership::Unread, Protocol::TCP, "10.0.0.1:80", SERVER);
    let flow = tcp(SERVER, "10.0.0.1:80");
    host.look([flow.counted(100, 2000)]);
    host.hand_on(inode, Ownership::Nobody);
    host.look([flow.counted(110, 2000)]);
    assert_eq!((host.under(Reason::Kernel), host.all()), ((110, 2000), (110, 2000)));
}

/// Its process could not be read before it ended, and there is none any more that could be.
#[test]
fn what_was_never_read_has_exited_in_the_end() {
    let mut host = Host::new();
    let inode = host.open(Ownership::Unread, Protocol::TCP, "10.0.0.1:80", SERVER);
    host.look([tcp(SERVER, "10.0.0.1:80").counted(100, 2000)]);
    let under = host.under(Reason::Unread);
    assert_ne!(under, (0, 0));
    host.close(inode);
    (0..4 * GRACE).for_each(|_| drop(host.look([])));
    assert!(host.attribution.is_empty());
    assert_eq!((host.under(Reason::Unread), host.under(Reason::Exited)), ((0, 0), under));
}
