//! The owners of the two ends of a flow.

use super::*;

const CLIENT: &str = "10.0.0.1:40000";
const REMOTE: &str = "192.0.2.7:443";
const ANY: &str = "0.0.0.0:0";

#[test]
fn a_client_sends_the_original_direction_and_receives_the_reply() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, CLIENT, REMOTE);
    let shares = host.look([tcp(CLIENT, REMOTE).counted(100, 2000)]);
    assert_eq!(host.of(1), (2000, 100));
    assert_eq!(shares.len(), 1, "the other end is elsewhere");
    assert!(!shares[0].local);
}

#[test]
fn a_server_receives_the_original_direction_and_sends_the_reply() {
    let mut host = Host::new();
    let inode = host.open(held(1), Protocol::TCP, "10.0.0.1:80", "192.0.2.7:5000");
    host.look([tcp("192.0.2.7:5000", "10.0.0.1:80").counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
    // Not the listening socket: whoever holds that one need not be who has accepted.
    host.close(inode);
    host.open(held(2), Protocol::TCP, "10.0.0.1:80", ANY);
    host.look([tcp("192.0.2.7:5001", "10.0.0.1:80").counted(1, 2)]);
    assert_eq!((host.of(2), host.under(Reason::Exited)), ((0, 0), (1, 2)));
}

#[test]
fn over_loopback_each_process_has_its_own_view() {
    for (client, server) in [("127.0.0.1:5000", "127.0.0.1:80"), ("[::1]:5000", "[::1]:80")] {
        let mut host = Host::new();
        host.open(held(1), Protocol::TCP, client, server);
        host.open(held(2), Protocol::TCP, server, client);
        let shares = host.look([tcp(client, server).counted(100, 2000)]);
        assert_eq!((host.of(1), host.of(2)), ((2000, 100), (100, 2000)));
        assert!(shares.iter().all(|share| share.local));
    }
}

#[test]
fn a_process_that_talks_to_itself_has_both_views() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, "127.0.0.1:5000", "127.0.0.1:80");
    host.open(held(1), Protocol::TCP, "127.0.0.1:80", "127.0.0.1:5000");
    host.look([tcp("127.0.0.1:5000", "127.0.0.1:80").counted(100, 2000)]);
    assert_eq!(host.of(1), (2100, 2100));
}

#[test]
fn a_redirected_server_is_found_by_the_reply_and_counted_once() {
    // REDIRECT to another port, and DNAT to another address of this host.
    for server in ["10.0.0.1:8080", "198.51.100.1:80"] {
        let mut host = Host::new();
        host.open(held(1), Protocol::TCP, server, "192.0.2.7:5000");
        let redirected = tcp("192.0.2.7:5000", "10.0.0.1:80").answered(server, "192.0.2.7:5000");
        let shares = host.look([redirected.counted(100, 2000)]);
        assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
        assert!(!shares[0].local);
    }
}

#[test]
fn an_own_client_that_is_redirected_to_an_own_server_is_local() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, CLIENT, REMOTE);
    host.open(held(2), Protocol::TCP, "127.0.0.1:3128", CLIENT);
    let shares =
        host.look([tcp(CLIENT, REMOTE).answered("127.0.0.1:3128", CLIENT).counted(100, 2000)]);
    assert_eq!((host.of(1), host.of(2)), ((2000, 100), (100, 2000)));
    assert!(shares.iter().all(|share| share.local));
}

#[test]
fn an_own_client_that_is_masqueraded_is_found_by_the_original() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, CLIENT, REMOTE);
    let shares =
        host.look([tcp(CLIENT, REMOTE).answered(REMOTE, "198.51.100.1:61000").counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
    assert!(!shares[0].local);
}

#[test]
fn a_forwarded_flow_stands_once_as_its_originator_sees_it() {
    let mut host = Host::new();
    let plain = tcp("192.0.2.1:5000", "192.0.2.7:443").counted(100, 2000);
    host.look([plain]);
    assert_eq!(host.under(Reason::Forwarded), (2000, 100));
    // Masqueraded: its reply goes to an address of this host, but no end of it is here.
    let masqueraded = tcp("192.0.2.1:5001", "192.0.2.7:443");
    host.look([plain, masqueraded.answered("192.0.2.7:443", "10.0.0.1:61000").counted(1, 2)]);
    assert_eq!(host.all(), host.under(Reason::Forwarded));
    assert_eq!(host.all(), (2002, 101));
}

#[test]
fn a_transparent_proxys_socket_has_an_address_that_is_not_ours() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, "192.0.2.7:443", "192.0.2.1:5000");
    host.look([tcp("192.0.2.1:5000", "192.0.2.7:443").counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
}

#[test]
fn a_mapped_ipv6_socket_has_an_ipv4_flow() {
    let mut host = Host::new();
    host.open(held(1), Protocol::TCP, "[::ffff:10.0.0.1]:80", "[::ffff:192.0.2.7]:5000");
    host.look([tcp("192.0.2.7:5000", "10.0.0.1:80").counted(100, 2000)]);
    assert_eq!(host.of(1), (100, 2000));
}

#[test]
fn a_datagram_socket_takes_all_that_none_more_exact_takes() {
    let mut host = Host::new();
    let ask = |client: &str, server: &str| udp(client, server).counted(1, 2);
    host.open(held(1), Protocol::UDP, "10.0.0.1:53", "192.0.2.7:5000");
    host.open(held(2), Protocol::UDP, "10.0.0.1:53", ANY);
    host.open(held(3), Protocol::UDP, "0.0.0.0:53", ANY);
    host.open(held(4), Protocol::UDP, "[::]:53", "[::]:0");
    host.look([
        ask("192.0.2.7:5000", "10.0.0.1:53"),
        ask("192.0.2.7:5001", "10.0.0.1:53"),
        ask("192.0.2.7:5000", "198.51.100.1:53"),
        ask("[2001:db8::1]:5000", "[fd00::1]:53"),
        ask("192.0.2.7:5000", "10.0.0.1:54"),
    ]);
    for pid in 1..=4 {
        assert_eq!(host.of(pid), (1, 2), "process {pid}");
    }
    assert_eq!(host.under(Reason::Exited), (1, 2));
}

#[test]
fn a_datagram_client_that_never_connects_is_found_by_its_port() {
    let mut host = Host::new();
    host.open(held(1), Protocol::UDPLITE, "0.0.0.0:40000", ANY);
    host.look([flow(Protocol::UDPLITE, CLIENT, "192.0.2.7:53").counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((2000, 100), (2000, 100)));
}

#[test]
fn the_wildcard_address_is_this_hosts_and_nobody_elses() {
    let mut host = Host::new();
    // A name server and a tunnel, of which the same protocol also goes out and through.
    host.open(held(1), Protocol::UDP, "0.0.0.0:53", ANY);
    host.open(held(1), Protocol::UDP, "[::]:53", "[::]:0");
    host.open(held(1), Protocol::GRE, "0.0.0.0:0", ANY);
    host.open(held(2), Protocol::UDP, CLIENT, "192.0.2.53:53");
    host.open(held(2), Protocol::UDP, "[fd00::1]:40000", "[2001:db8::53]:53");
    let shares = host.look([
        udp(CLIENT, "192.0.2.53:53").counted(1, 2),
        udp("[fd00::1]:40000", "[2001:db8::53]:53").counted(1, 2),
        udp("192.0.2.1:53", "192.0.2.53:53").counted(10, 20),
        // Passed on to a container.
        udp("192.0.2.1:5000", "10.0.0.1:53")
            .answered("172.17.0.2:53", "192.0.2.1:5000")
            .counted(10, 20),
        flow(Protocol::GRE, "192.0.2.1:0", "192.0.2.7:0").counted(10, 20),
    ]);
    assert_eq!((host.of(1), host.of(2)), ((0, 0), (4, 2)));
    assert_eq!((host.under(Reason::Forwarded), shares.len()), ((60, 30), 5));
}

#[test]
fn broadcasts_and_groups_are_received_here() {
    let mut host = Host::new();
    host.open(held(1), Protocol::UDP, "0.0.0.0:5353", ANY);
    for group in ["224.0.0.251:5353", "255.255.255.255:5353"] {
        host.look([udp("192.0.2.7:5353", group).counted(10, 0)]);
    }
    assert_eq!((host.of(1), host.all()), ((20, 0), (20, 0)));
}

#[test]
fn sockets_that_share_a_port_have_an_owner_if_it_is_one_process() {
    let mut host = Host::new();
    host.open(held(1), Protocol::UDP, "0.0.0.0:53", ANY);
    host.open(held(1), Protocol::UDP, "0.0.0.0:53", ANY);
    host.look([udp("192.0.2.7:5000", "10.0.0.1:53").counted(1, 2)]);
    assert_eq!(host.of(1), (1, 2));
}

#[test]
fn sockets_that_share_a_port_are_ambiguous_if_there_are_two_processes() {
    let mut host = Host::new();
    host.open(held(1), Protocol::UDP, "0.0.0.0:53", ANY);
    host.open(held(2), Protocol::UDP, "0.0.0.0:53", ANY);
    let ask = udp("192.0.2.7:5000", "10.0.0.1:53");
    host.look([ask.counted(1, 2)]);
    assert_eq!((host.under(Reason::Ambiguous), host.all()), ((1, 2), (1, 2)));
    // A second process that binds later makes it ambiguous from then on.
    let mut host = Host::new();
    host.open(held(1), Protocol::UDP, "0.0.0.0:53", ANY);
    host.look([ask.counted(10, 20)]);
    host.open(held(2), Protocol::UDP, "0.0.0.0:53", ANY);
    host.look([ask.counted(11, 22)]);
    assert_eq!((host.of(1), host.under(Reason::Ambiguous)), ((10, 20), (1, 2)));
}

#[test]
fn the_kernel_answers_pings() {
    let mut host = Host::new();
    host.open(held(1), Protocol::ICMP, "0.0.0.0:0", ANY); // raw: it only gets to see them
    host.look([flow(Protocol::ICMP, "192.0.2.7:77", "10.0.0.1:2048").counted(84, 84)]);
    host.look([flow(Protocol::ICMPV6, "[2001:db8::1]:77", "[fd00::1]:32768").counted(1, 2)]);
    assert_eq!((host.under(Reason::Kernel), host.all()), ((85, 86), (85, 86)));
}

#[test]
fn a_ping_is_who_sent_its_or_holds_a_raw_socket() {
    let mut host = Host::new();
    host.open(held(1), Protocol::ICMP, "0.0.0.0:77", ANY);
    let ping = |id: &str| flow(Protocol::ICMP, id, "192.0.2.7:2048").counted(84, 80);
    host.look([ping("10.0.0.1:77"), ping("10.0.0.1:78")]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((80, 84), (80, 84)));
    host.open(held(2), Protocol::ICMP, "0.0.0.0:0", ANY);
    host.look([ping("10.0.0.1:79")]);
    assert_eq!(host.of(2), (80, 84));
}

#[test]
fn a_protocol_without_ports_is_its_raw_sockets_or_the_kernels() {
    let mut host = Host::new();
    host.open(held(1), Protocol(89), "0.0.0.0:0", ANY);
    let from = |protocol| flow(protocol, "192.0.2.7:0", "10.0.0.1:0").counted(1, 2);
    host.look([from(Protocol(89)), from(Protocol::GRE)]);
    assert_eq!((host.of(1), host.under(Reason::Kernel)), ((1, 2), (1, 2)));
}

#[test]
fn a_socket_without_a_descriptor_waits_to_be_accepted_or_was_closed() {
    let unaccepted = [TcpState::SYN_RECV, TcpState::ESTABLISHED, TcpState::CLOSE_WAIT];
    let closed = [TcpState(4), TcpState(5), TcpState::LAST_ACK, TcpState::CLOSING];
    let kernel = unaccepted.map(|state| (state, Reason::Kernel));
    let exited = closed.map(|state| (state, Reason::Exited));
    for (state, reason) in kernel.into_iter().chain(exited) {
        let mut host = Host::new();
        host.without_inode(state, "10.0.0.1:80", "192.0.2.7:5000");
        host.look([tcp("192.0.2.7:5000", "10.0.0.1:80").counted(1, 2)]);
        assert_eq!(host.under(reason), (1, 2), "{state:?}");
    }
}

#[test]
fn a_holder_that_cannot_be_seen_has_its_reason() {
    for (holder, reason) in [
        (Ownership::Denied, Reason::NoPermission),
        (Ownership::Hidden, Reason::OtherNamespace),
        (Ownership::Nobody, Reason::Kernel),
    ] {
        let mut host = Host::new();
        host.open(holder, Protocol::TCP, CLIENT, REMOTE);
        host.look([tcp(CLIENT, REMOTE).counted(100, 2000)]);
        assert_eq!((host.under(reason), host.all()), ((2000, 100), (2000, 100)), "{holder:?}");
    }
}

#[test]
fn local_is_what_never_leaves_this_host() {
    for (from, to, local) in [
        ("127.0.0.1:5000", "127.255.1.2:80", true),
        ("[::1]:5000", "[::1]:80", true),
        ("[::ffff:127.0.0.1]:5000", "127.0.0.1:80", true),
        ("10.0.0.1:5000", "198.51.100.1:80", true),
        ("10.0.0.1:5000", "10.0.0.1:80", true),
        ("10.0.0.1:5000", "127.0.0.1:80", true),
        ("10.0.0.1:5000", "192.0.2.7:80", false),
        ("192.0.2.7:5000", "10.0.0.1:80", false),
        ("192.0.2.1:5000", "192.0.2.7:80", false),
        ("10.0.0.1:5353", "224.0.0.251:5353", false),
        ("10.0.0.1:5000", "255.255.255.255:67", false),
    ] {
        let shares = Host::new().look([udp(from, to).counted(1, 1)]);
        assert!(shares.iter().all(|share| share.local == local), "{from} -> {to}: {shares:?}");
        assert!(!shares.is_empty());
    }
}
