//! Records of new flows.

use super::*;

const CLIENT: &str = "10.0.0.1:40000";
const REMOTE: &str = "192.0.2.7:443";

/// A host after one look: new flows have started since.
fn watched() -> Host {
    let mut host = Host::new();
    host.look([]);
    host
}

fn connection() -> Flow {
    tcp(CLIENT, REMOTE).entry(7)
}

/// Only the client was seen.
fn by(pid: u32) -> [Option<u32>; 2] {
    [Some(pid), None]
}

#[test]
fn a_flow_that_lived_between_two_looks_is_whose_it_was_when_it_began() {
    let mut host = watched();
    let shares =
        host.record_and_look([born(connection(), by(1))], [connection().counted(100, 2000).over()]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
    assert_eq!(shares.len(), 1);
    assert_eq!((shares[0].recent, shares[0].from), (Traffic::new(2000, 100), None));
}

#[test]
fn of_a_flow_over_loopback_both_were_seen() {
    let mut host = watched();
    let flow = tcp("127.0.0.1:40000", "127.0.0.1:80").entry(7);
    let seen = born(flow, [Some(1), Some(2)]);
    let shares = host.record_and_look([seen], [flow.counted(100, 2000).over()]);
    assert_eq!((host.of(1), host.of(2)), ((2000, 100), (100, 2000)));
    assert!(shares.len() == 2 && shares.iter().all(|share| share.local));
}

#[test]
fn of_an_end_that_nobody_was_seen_at_nobody_is_known() {
    let mut host = watched();
    let flow = tcp("127.0.0.1:40000", "127.0.0.1:80").entry(7);
    host.record_and_look([born(flow, by(1))], [flow.counted(100, 2000).over()]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((2000, 100), (100, 2000)));
}

#[test]
fn a_record_that_comes_after_its_flow_was_read_moves_what_stood_under_a_reason() {
    let mut host = watched();
    host.look([connection().counted(100, 2000).over()]);
    assert_eq!(host.under(Reason::Exited), (2000, 100));
    let shares = host.record_and_look([born(connection(), by(1))], []);
    let moved = Share {
        to: Owner::Process(process(1)),
        traffic: Traffic::new(2000, 100),
        recent: Traffic::ZERO,
        from: Some(Reason::Exited),
        local: false,
        remote: None,
    };
    assert_eq!(shares, [moved]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((2000, 100), (0, 0)));
    // It was told, and is not again.
    assert_eq!(host.record_and_look([late(connection(), by(2))], []), []);
    assert_eq!(host.all(), (2000, 100));
}

#[test]
fn a_record_may_come_two_observations_after_the_end() {
    for (before, after) in [0, 1, 2].into_iter().flat_map(|before| [(before, 0), (before, 1)]) {
        let mut host = watched();
        (0..before).for_each(|_| drop(host.look([])));
        host.look([connection().counted(100, 2000).over()]);
        (0..after).for_each(|_| drop(host.look([])));
        host.record_and_look([born(connection(), by(1))], []);
        assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)), "{before} {after}");
    }
}

/// Even with the same id.
#[test]
fn after_a_late_record_comes_that_of_the_next_flow() {
    let mut host = watched();
    host.look([connection().counted(1, 10).over()]);
    let told = [born(connection(), by(1)), born(connection(), [None; 2])];
    let seen = late(connection(), by(2));
    host.record_and_look(told.into_iter().chain([seen]), [connection().counted(2, 20).over()]);
    assert_eq!((host.of(1), host.of(2), host.all()), ((10, 1), (20, 2), (30, 3)));
    assert!(host.attribution.pending.of(NetnsKey::OWN).next().is_none());
}

#[test]
fn of_a_flow_that_was_read_and_goes_on_all_is_whose_it_was_when_it_began() {
    let mut host = watched();
    host.look([connection().counted(100, 2000)]);
    host.record_and_look([born(connection(), by(1))], [connection().counted(101, 2002)]);
    host.look([connection().counted(111, 2022).over()]);
    assert_eq!((host.of(1), host.all()), ((2022, 111), (2022, 111)));
}

/// The current holder of the socket is better evidence than the process seen at the start.
#[test]
fn a_late_record_takes_nothing_from_who_was_found() {
    let mut host = watched();
    host.open(held(2), Protocol::TCP, CLIENT, REMOTE);
    host.look([connection().counted(100, 2000)]);
    assert_eq!(host.record_and_look([born(connection(), by(1))], []), []);
    assert_eq!(host.of(2), (2000, 100));
}

#[test]
fn an_end_that_is_not_here_is_not_made_one_by_what_is_reported_late() {
    let mut host = watched();
    host.look([connection().counted(100, 2000)]);
    assert_eq!(host.record_and_look([born(connection(), [None, Some(1)])], []), []);
    assert_eq!((host.of(1), host.all()), ((0, 0), (2000, 100)));
}

/// A server accepts a moment after the flow has started.
#[test]
fn what_is_seen_later_completes_a_record() {
    let mut host = watched();
    let flow = tcp("127.0.0.1:40000", "127.0.0.1:80").entry(7);
    let told = [born(flow, by(1)), late(flow, [Some(3), Some(2)])];
    host.record_and_look(told, [flow.counted(100, 2000).over()]);
    assert_eq!((host.of(1), host.of(2), host.of(3)), ((2000, 100), (100, 2000), (0, 0)));
}

#[test]
fn what_is_seen_later_is_of_the_last_flow_that_began() {
    let mut host = watched();
    let over = connection().counted(1, 10).over();
    let told = [born(connection(), [None; 2]), born(connection(), [None; 2])];
    let seen = late(connection(), by(1));
    host.record_and_look(told.into_iter().chain([seen]), [over, over.counted(2, 20)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((20, 2), (10, 1)));
}

#[test]
fn what_is_seen_after_the_flow_was_read_moves_its_bytes() {
    let mut host = watched();
    let flow = tcp("127.0.0.1:40000", "127.0.0.1:80").entry(7);
    host.record_and_look([born(flow, by(1))], [flow.counted(100, 2000).over()]);
    let shares = host.record_and_look([late(flow, [None, Some(2)])], []);
    assert_eq!((host.of(2), host.under(Reason::Exited)), ((100, 2000), (0, 0)));
    assert!(shares[0].from == Some(Reason::Exited) && shares[0].local);
    assert_eq!(host.record_and_look([late(flow, [Some(3), Some(3)])], []), []);
}

#[test]
fn what_is_seen_later_of_a_flow_nobody_has_heard_of_is_nothing() {
    let mut host = watched();
    host.record_and_look([late(connection(), by(1))], [connection().counted(1, 10).over()]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (10, 1)));
}

/// A client that binds its port reuses it at once, and the kernel may give the same id.
#[test]
fn flows_that_follow_each_other_with_one_id_are_each_their_own_process() {
    for id in [Some(7), None] {
        let mut host = watched();
        let flow = Flow { generation: id, ..connection() };
        let told = [1, 2, 3].map(|pid| born(flow, by(pid)));
        host.record_and_look(told, [1, 2, 3].map(|sent| flow.counted(sent, 10 * sent).over()));
        for pid in 1..=3 {
            assert_eq!(host.of(pid), (10 * u128::from(pid), pid.into()), "{id:?}");
        }
    }
}

#[test]
fn a_record_whose_flow_was_never_read_is_passed_over() {
    let mut host = watched();
    let told = [(7, 1), (8, 2), (9, 3)].map(|(id, pid)| born(connection().entry(id), by(pid)));
    host.record_and_look(told, [8, 9].map(|id| connection().entry(id).counted(id, 10 * id).over()));
    assert_eq!((host.of(1), host.of(2), host.of(3)), ((0, 0), (80, 8), (90, 9)));
    assert!(host.attribution.pending.of(NetnsKey::OWN).next().is_none());
}

#[test]
fn another_id_was_not_announced() {
    let mut host = watched();
    host.record_and_look(
        [born(connection(), by(1))],
        [connection().entry(8).counted(1, 10).over()],
    );
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (10, 1)));
    // And what is told of the one before, late, is not of the one that is there.
    host.record_and_look([born(connection().entry(6), by(1)), late(connection(), by(1))], []);
    assert_eq!(host.under(Reason::Exited), (10, 1));
}

#[test]
fn the_holder_of_the_socket_is_known_better_than_who_had_it_first() {
    let mut host = watched();
    let inode = host.open(held(2), Protocol::TCP, CLIENT, REMOTE);
    host.record_and_look([born(connection(), by(1))], [connection().counted(1, 10)]);
    assert_eq!((host.of(1), host.of(2)), ((0, 0), (10, 1)));
    host.close(inode);
    host.look([connection().counted(2, 20)]);
    assert_eq!((host.of(1), host.of(2)), ((0, 0), (20, 2)));
}

#[test]
fn without_its_socket_a_flow_stays_whose_it_was_when_it_began() {
    let mut host = watched();
    host.record_and_look([born(connection(), by(1))], [connection().counted(1, 10)]);
    host.look([connection().counted(2, 20)]);
    host.look([connection().counted(3, 30).over()]);
    assert_eq!((host.of(1), host.all()), ((30, 3), (30, 3)));
}

/// A flow that a firewall has dropped has started and is never read.
#[test]
fn a_testimony_that_nobody_asks_for_is_forgotten() {
    for (looks, kept) in [(1, true), (3, true), (4, false)] {
        let mut host = watched();
        host.record_and_look([born(connection(), by(1))], []);
        (1..looks).for_each(|_| drop(host.look([])));
        assert_eq!(host.attribution.pending.of(NetnsKey::OWN).count(), usize::from(kept));
        host.look([connection().counted(1, 10).over()]);
        assert_eq!(host.of(1), if kept { (10, 1) } else { (0, 0) }, "after {looks} looks");
    }
}

#[test]
fn without_lookback_a_flow_that_was_seen_to_begin_counts_in_full() {
    let mut host = Host::with(FlowAttribution::new(false));
    let other = tcp("10.0.0.1:40001", REMOTE).entry(8);
    let flows = [connection().counted(100, 2000), other.counted(100, 2000)];
    let shares = host.record_and_look([born(connection(), by(1))], flows);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
    let recent: Vec<_> = shares.iter().map(|share| share.recent).collect();
    assert_eq!(recent, [Traffic::new(2000, 100), Traffic::ZERO]);
}

/// Ten thousand connections a second, and their ends: nothing of them is kept.
#[test]
fn short_flows_leave_nothing_behind() {
    let mut host = watched();
    let flow = |index: u64| {
        let port = 10_000 + index;
        tcp(&format!("10.0.0.1:{port}"), REMOTE).entry(index)
    };
    let told = (0..10_000).map(|index| born(flow(index), by(1)));
    host.record_and_look(told, (0..10_000).map(|index| flow(index).counted(1, 10).over()));
    assert_eq!(host.of(1), (100_000, 10_000));
    assert!(host.attribution.pending.of(NetnsKey::OWN).next().is_none());
    (0..GRACE + LATE).for_each(|_| drop(host.look([])));
    assert_eq!(host.attribution.len(), 0);
    assert!(host.attribution.claims.is_empty());
}

/// A raw socket receives the answers to the pings of all.
#[test]
fn a_ping_stays_its_senders_where_others_have_raw_sockets() {
    for local in ["0.0.0.0:0", "10.0.0.1:0"] {
        let mut host = watched();
        let other = host.open(held(2), Protocol::ICMP, local, "0.0.0.0:0");
        let ping = flow(Protocol::ICMP, "10.0.0.1:77", "192.0.2.7:2048").entry(7);
        host.record_and_look([born(ping, by(1))], [ping.counted(84, 84)]);
        host.look([ping.counted(168, 168)]);
        assert_eq!((host.of(1), host.of(2)), ((168, 168), (0, 0)), "{local}");
        // Whose beginning nobody has seen is whose socket is there.
        let ping = flow(Protocol::ICMP, "10.0.0.1:78", "192.0.2.7:2048").entry(8);
        host.look([ping.counted(84, 84)]);
        host.close(other);
        assert_eq!((host.of(1), host.of(2)), ((168, 168), (84, 84)), "{local}");
    }
}

/// A protocol without ports has one flow for all processes that use it between two addresses.
#[test]
fn what_several_send_one_after_the_other_is_each_ones() {
    let mut host = watched();
    let flow = flow(Protocol(253), "10.0.0.1:0", "192.0.2.7:0").entry(7);
    host.record_and_look([born(flow, by(1))], [flow.counted(100, 0)]);
    host.open(held(2), Protocol(253), "0.0.0.0:0", "0.0.0.0:0");
    host.look([flow.counted(150, 0)]);
    assert_eq!((host.of(1), host.of(2)), ((0, 100), (0, 50)));
}
