//! Changes of an end's holder, and the effects on its bytes.

use super::*;

const LOCAL: &str = "10.0.0.1:80";
const REMOTE: &str = "192.0.2.7:5000";

/// A connection to a server of this host.
fn connection() -> Flow {
    tcp(REMOTE, LOCAL)
}

fn moved(to: Owner, all: Traffic, recent: Traffic, from: Reason) -> Share {
    Share { to, traffic: all, recent, from: Some(from), local: false, remote: None }
}

#[test]
fn bytes_without_a_process_go_to_it_once_it_is_known() {
    let mut host = Host::new();
    host.without_inode(TcpState::ESTABLISHED, LOCAL, REMOTE);
    host.look([connection().counted(10, 0), tcp("192.0.2.7:5001", LOCAL).counted(1, 1)]);
    host.look([connection().counted(100, 0)]);
    assert_eq!((host.under(Reason::Kernel), host.under(Reason::Exited)), ((100, 0), (1, 1)));
    host.sockets.clear();
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    let shares = host.look([connection().counted(110, 2000)]);
    let (all, new) = (Traffic::new(110, 2000), Traffic::new(10, 2000));
    assert_eq!(shares, [moved(Owner::Process(process(1)), all, new, Reason::Kernel)]);
    assert_eq!((host.of(1), host.under(Reason::Kernel)), ((110, 2000), (0, 0)));
    assert_eq!(host.under(Reason::Exited), (1, 1), "another flow's");
    // Once.
    host.look([connection().counted(111, 2000)]);
    assert_eq!((host.of(1), host.all()), ((111, 2000), (112, 2001)));
}

#[test]
fn bytes_move_within_the_first_look_too() {
    for lookback in [false, true] {
        let mut host = Host::with(FlowAttribution::new(lookback));
        let inode = host.open(Ownership::Denied, Protocol::TCP, LOCAL, REMOTE);
        host.attribution.begin();
        host.show(connection().counted(10, 20));
        host.hand_on(inode, held(1));
        host.show(connection().counted(11, 22));
        assert_eq!(host.of(1), if lookback { (11, 22) } else { (1, 2) });
        assert_eq!(host.under(Reason::NoPermission), (0, 0));
    }
}

#[test]
fn a_young_flow_finds_its_process_even_if_it_carries_nothing_more() {
    let mut host = Host::new();
    host.look([connection().counted(100, 0)]);
    host.look([connection().counted(100, 0)]);
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    let shares = host.look([connection().counted(100, 0)]);
    assert_eq!(shares.iter().map(|s| s.recent).collect::<Vec<_>>(), [Traffic::ZERO]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((100, 0), (0, 0)));
}

#[test]
fn a_flow_that_has_long_stood_still_is_looked_up_again_when_it_moves() {
    let mut host = Host::new();
    (0..YOUNG).for_each(|_| drop(host.look([connection().counted(100, 0)])));
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    assert_eq!(host.look([connection().counted(100, 0)]), [], "a look-up for every idle flow");
    host.look([connection().counted(101, 0)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((101, 0), (0, 0)));
}

#[test]
fn bytes_move_from_one_reason_to_the_next_and_on() {
    let mut host = Host::new();
    let inode = host.open(Ownership::Denied, Protocol::TCP, LOCAL, REMOTE);
    host.look([connection().counted(10, 20)]);
    host.hand_on(inode, Ownership::Hidden);
    let shares = host.look([connection().counted(11, 22)]);
    let (all, new) = (Traffic::new(11, 22), Traffic::new(1, 2));
    assert_eq!(
        shares,
        [moved(Owner::Nobody(Reason::OtherNamespace), all, new, Reason::NoPermission)]
    );
    host.hand_on(inode, held(1));
    host.look([connection().counted(12, 24)]);
    assert_eq!((host.of(1), host.all()), ((12, 24), (12, 24)));
}

#[test]
fn ambiguous_bytes_are_not_the_last_candidates() {
    let mut host = Host::new();
    let any = "0.0.0.0:0";
    host.open(held(1), Protocol::UDP, "0.0.0.0:53", any);
    let other = host.open(held(2), Protocol::UDP, "0.0.0.0:53", any);
    let ask = flow(Protocol::UDP, "192.0.2.7:5000", "10.0.0.1:53");
    host.look([ask.counted(10, 20)]);
    host.close(other);
    host.look([ask.counted(11, 22)]);
    assert_eq!((host.of(1), host.under(Reason::Ambiguous)), ((1, 2), (10, 20)));
}

#[test]
fn who_was_hidden_stays_so_when_the_socket_is_closed() {
    for (holder, reason) in
        [(Ownership::Denied, Reason::NoPermission), (Ownership::Hidden, Reason::OtherNamespace)]
    {
        let mut host = Host::new();
        let inode = host.open(holder, Protocol::TCP, LOCAL, REMOTE);
        host.look([connection().counted(10, 20)]);
        host.close(inode);
        host.look([connection().counted(11, 22)]);
        assert_eq!((host.under(reason), host.all()), ((11, 22), (11, 22)));
    }
}

#[test]
fn of_a_socket_that_was_handed_on_the_new_holder_gets_what_comes_later() {
    let mut host = Host::new();
    let inode = host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    host.look([connection().counted(10, 20)]);
    host.hand_on(inode, held(2));
    host.look([connection().counted(11, 22)]);
    assert_eq!((host.of(1), host.of(2)), ((10, 20), (1, 2)));
}

#[test]
fn the_two_ends_of_a_loopback_flow_find_their_processes_one_by_one() {
    let mut host = Host::new();
    let (client, server) = ("127.0.0.1:5000", "127.0.0.1:80");
    let flow = tcp(client, server);
    host.open(held(1), Protocol::TCP, client, server);
    host.look([flow.counted(10, 20)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((20, 10), (10, 20)));
    host.open(held(2), Protocol::TCP, server, client);
    host.look([flow.counted(11, 22)]);
    assert_eq!((host.of(1), host.of(2), host.all()), ((22, 11), (11, 22), (33, 33)));
}

#[test]
fn a_process_that_has_closed_or_ended_keeps_the_last_bytes_of_its_flow() {
    // Closed, while the kernel still sends; not there any more; of somebody who isn't visible.
    let after: [fn(&mut Host, Inode); 3] = [
        |host, _| {
            host.sockets.clear();
            host.without_inode(TcpState::LAST_ACK, LOCAL, REMOTE);
        },
        |host, inode| host.close(inode),
        |host, inode| host.hand_on(inode, Ownership::Nobody),
    ];
    for change in after {
        let mut host = Host::new();
        let inode = host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
        host.look([connection().counted(10, 20)]);
        change(&mut host, inode);
        host.look([connection().counted(11, 22)]);
        host.look([connection().counted(12, 24)]);
        assert_eq!((host.of(1), host.all()), ((12, 24), (12, 24)));
    }
}

#[test]
fn a_process_keeps_the_last_bytes_under_an_address_that_was_taken_away() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    host.open(held(2), Protocol::TCP, "10.0.0.1:40000", REMOTE);
    let client = tcp("10.0.0.1:40000", REMOTE);
    host.look([connection().counted(10, 20), client.counted(10, 20)]);
    host.sockets.clear();
    host.addresses = LocalAddresses::default();
    host.look([connection().counted(11, 22), client.counted(11, 22)]);
    assert_eq!((host.of(1), host.of(2)), ((11, 22), (22, 11)));
}

#[test]
fn a_transparent_proxy_keeps_the_last_bytes_of_its_flow() {
    let mut host = Host::new();
    let flow = tcp("192.0.2.1:5000", "192.0.2.7:443");
    let inode = host.open(held(1), Protocol::TCP, "192.0.2.7:443", "192.0.2.1:5000");
    host.look([flow.counted(10, 20)]);
    host.close(inode);
    host.look([flow.counted(11, 22)]);
    assert_eq!((host.of(1), host.all()), ((11, 22), (11, 22)));
}

#[test]
fn a_flow_that_turns_out_not_to_be_forwarded_is_its_processs_from_then_on() {
    let mut host = Host::new();
    let flow = tcp("192.0.2.1:5000", "192.0.2.7:443");
    host.look([flow.counted(10, 20)]);
    host.open(held(1), Protocol::TCP, "192.0.2.7:443", "192.0.2.1:5000");
    host.look([flow.counted(11, 22)]);
    host.look([flow.counted(12, 24)]);
    assert_eq!((host.under(Reason::Forwarded), host.of(1)), ((20, 10), (2, 4)));
}

#[test]
fn an_end_that_was_here_is_not_forwarded_when_it_is_no_longer_found() {
    // It would stand under two reasons: the one that it had, and as forwarded.
    for before in [Ownership::Denied, Ownership::Nobody, held(1)] {
        let mut host = Host::new();
        host.open(before, Protocol::TCP, LOCAL, REMOTE);
        host.open(before, Protocol::TCP, "10.0.0.1:40000", REMOTE);
        let flows =
            |a, b| [connection().counted(a, b), tcp("10.0.0.1:40000", REMOTE).counted(a, b)];
        let first = host.look(flows(10, 20));
        host.sockets.clear();
        host.addresses = LocalAddresses::default();
        let second = host.look(flows(11, 22));
        assert_eq!(host.all(), (33, 33), "{before:?}");
        let whose = |shares: &[Share]| shares.iter().map(|share| share.to).collect::<Vec<_>>();
        assert_eq!(whose(&first), whose(&second));
    }
}

#[test]
fn a_sockets_own_counters_are_its_holders() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    host.look([at_socket(1, LOCAL, REMOTE).counted(2000, 100)]);
    assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
}

#[test]
fn over_loopback_each_socket_has_counted_for_itself() {
    let mut host = Host::new();
    let (client, server) = ("127.0.0.1:5000", "127.0.0.1:80");
    host.open(held(1), Protocol::TCP, client, server);
    host.open(held(2), Protocol::TCP, server, client);
    let shares = host.look([
        at_socket(1, client, server).counted(10, 20),
        at_socket(2, server, client).counted(20, 10),
    ]);
    assert_eq!((host.of(1), host.of(2), host.all()), ((20, 10), (10, 20), (30, 30)));
    assert!(shares.iter().all(|share| share.local));
}

#[test]
fn a_socket_is_its_cookie_not_its_tuple() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    let (first, second) = (at_socket(1, LOCAL, REMOTE), at_socket(2, LOCAL, REMOTE));
    host.look([first.counted(10, 20)]);
    // It has ended, and another has its tuple: the end of the first is told one look later.
    host.sockets.clear();
    host.open(held(2), Protocol::TCP, LOCAL, REMOTE);
    host.look([second.counted(100, 200)]);
    host.look([first.counted(11, 22), second.counted(101, 202)]);
    assert_eq!((host.of(1), host.of(2)), ((22, 11), (202, 101)));
    // Of one that was never seen alive nobody knows whose it was: not the next one's.
    host.look([at_socket(3, LOCAL, REMOTE).counted(5, 6)]);
    assert_eq!((host.under(Reason::Exited), host.of(2)), ((6, 5), (202, 101)));
}

#[test]
fn a_socket_that_is_closed_or_gone_was_its_last_holders() {
    let mut host = Host::new();
    let inode = host.open(held(1), Protocol::TCP, LOCAL, REMOTE);
    let flow = at_socket(1, LOCAL, REMOTE);
    host.look([flow.counted(10, 20)]);
    host.sockets[0].inode = None;
    host.sockets[0].state = TcpState(4);
    host.look([flow.counted(11, 22)]);
    host.close(inode);
    host.sockets.clear();
    host.look([flow.counted(12, 24)]);
    assert_eq!((host.of(1), host.all()), ((24, 12), (24, 12)));
}
