//! Ends without a socket at a listening port, and sockets that share an address.

use super::*;

const CLIENT: &str = "192.0.2.7:5000";
const SERVER: &str = "10.0.0.1:80";
const ANY: &str = "0.0.0.0:0";

impl Host {
    fn listen(&mut self, holder: Ownership, local: &str) -> Inode {
        let inode = self.open(holder, Protocol::TCP, local, ANY);
        self.sockets.last_mut().unwrap().state = TcpState::LISTEN;
        inode
    }
}

/// A connection that was accepted and closed since the look before.
fn short() -> Flow {
    tcp(CLIENT, SERVER).entry(7)
}

#[test]
fn a_connection_without_a_socket_is_whose_alone_can_have_accepted_it() {
    for local in [SERVER, "0.0.0.0:80", "[::]:80"] {
        let mut host = Host::new();
        host.listen(held(1), local);
        host.look([short().counted(100, 2000).over()]);
        assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)), "{local}");
    }
}

#[test]
fn behind_a_redirection_it_is_who_listens_where_it_leads() {
    let mut host = Host::new();
    host.listen(held(1), "10.0.0.1:8080");
    host.listen(held(2), SERVER);
    host.look([short().answered("10.0.0.1:8080", CLIENT).counted(100, 2000)]);
    assert_eq!((host.of(1), host.of(2)), ((100, 2000), (0, 0)));
}

#[test]
fn several_listening_sockets_of_one_process_are_as_one() {
    let mut host = Host::new();
    for _ in 0..3 {
        host.listen(held(1), SERVER);
    }
    host.look([short().counted(100, 2000)]);
    assert_eq!(host.of(1), (100, 2000));
    // Another one's among them.
    host.listen(held(2), SERVER);
    host.look([short().entry(8).counted(1, 2)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((100, 2000), (1, 2)));
}

#[test]
fn a_listener_of_the_kernel_lets_nobody_be_named() {
    let mut host = Host::new();
    host.listen(held(1), SERVER);
    host.without_inode(TcpState::LISTEN, SERVER, ANY);
    host.look([short().counted(100, 2000)]);
    assert_eq!(host.under(Reason::Exited), (100, 2000));
}

/// A port that is scanned before a process opens it.
#[test]
fn a_connection_that_was_never_answered_was_never_accepted() {
    let mut host = Host::new();
    host.listen(held(1), SERVER);
    host.look([short().counted(60, 0)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (60, 0)));
    host.look([short().counted(100, 2000)]);
    assert_eq!((host.of(1), host.all()), ((100, 2000), (100, 2000)));
}

/// Its socket is made after the sockets were listed and before the flows are read.
#[test]
fn a_connection_that_was_only_answered_may_be_accepted_by_another_process() {
    let mut host = Host::new();
    host.listen(held(1), SERVER);
    let open = short().counted(112, 60);
    host.look([open]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (112, 60)));
    host.open(held(2), Protocol::TCP, SERVER, CLIENT);
    host.look([open.counted(500, 900)]);
    assert_eq!((host.of(1), host.of(2), host.all()), ((0, 0), (500, 900), (500, 900)));
}

#[test]
fn who_listens_takes_nothing_from_who_is_known_to_have_accepted() {
    let mut host = Host::new();
    let accepted = host.open(held(1), Protocol::TCP, SERVER, CLIENT);
    host.look([short().counted(1, 2)]);
    host.close(accepted);
    host.listen(held(2), SERVER);
    host.look([short().counted(101, 2002)]);
    assert_eq!((host.of(1), host.of(2)), ((101, 2002), (0, 0)));
    // Nor does it from who was seen to.
    let flow = short().entry(8);
    host.record_and_look([born(flow, [None, Some(1)])], [flow.counted(1, 2).over()]);
    assert_eq!((host.of(1), host.of(2)), ((102, 2004), (0, 0)));
}

#[test]
fn only_the_end_that_was_connected_to_was_accepted() {
    let mut host = Host::new();
    host.listen(held(1), SERVER);
    host.look([tcp(SERVER, CLIENT).counted(1, 2), udp(CLIENT, SERVER).counted(10, 20)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (12, 21)));
    // Over loopback the client that is gone is not who listens.
    host.listen(held(2), "127.0.0.1:80");
    host.look([tcp("127.0.0.1:5000", "127.0.0.1:80").counted(100, 2000).over()]);
    assert_eq!((host.of(2), host.under(Reason::Exited)), ((100, 2000), (2012, 121)));
}

#[test]
fn a_port_that_nobody_listens_on_names_nobody() {
    let mut host = Host::new();
    host.listen(held(1), "10.0.0.1:81");
    host.listen(held(1), "198.51.100.1:80");
    host.open(held(1), Protocol::TCP, SERVER, ANY); // it is bound, and doesn't listen
    host.look([short().counted(100, 2000)]);
    assert_eq!((host.of(1), host.under(Reason::Exited)), ((0, 0), (100, 2000)));
}

/// Two name servers on one port, over which the kernel spreads queries.
fn two_servers() -> (Host, [Inode; 2]) {
    let mut host = Host::new();
    let sockets = [1, 2].map(|pid| host.open(held(pid), Protocol::UDP, "0.0.0.0:53", ANY));
    (host, sockets)
}

#[test]
fn of_sockets_that_share_a_port_it_is_the_one_that_the_kernel_chooses() {
    let (mut host, sockets) = two_servers();
    for (pid, chosen) in (1..).zip(sockets) {
        host.chosen = Some(chosen);
        host.look([udp(&format!("192.0.2.7:{pid}"), "10.0.0.1:53").counted(1, 2)]);
        assert_eq!(host.of(pid), (1, 2));
    }
    assert_eq!(host.all(), (2, 4));
}

#[test]
fn one_that_the_kernel_does_not_tell_or_that_was_not_listed_is_ambiguous() {
    for chosen in [None, Some(Inode(99))] {
        let (mut host, _) = two_servers();
        host.chosen = chosen;
        host.look([udp(CLIENT, "10.0.0.1:53").counted(1, 2)]);
        assert_eq!((host.under(Reason::Ambiguous), host.all()), ((1, 2), (1, 2)));
    }
}

#[test]
fn who_holds_the_chosen_one_may_be_hidden() {
    let (mut host, sockets) = two_servers();
    host.hand_on(sockets[0], Ownership::Denied);
    host.chosen = Some(sockets[0]);
    host.look([udp(CLIENT, "10.0.0.1:53").counted(1, 2)]);
    assert_eq!(host.under(Reason::NoPermission), (1, 2));
}

/// A connection that waits to be accepted for this many looks, without more bytes.
fn silent(flow: Flow, client: &str, server: &str, looks: u32) -> Host {
    let mut host = Host::new();
    host.look([]);
    host.without_inode(TcpState::ESTABLISHED, server, client);
    (0..looks).for_each(|_| drop(host.look([flow])));
    assert_eq!(host.under(Reason::Kernel), host.all(), "{looks}");
    host.sockets.clear();
    host
}

#[test]
fn a_connection_that_is_accepted_late_takes_its_bytes_along_and_need_not_say_more() {
    let tracked = short().counted(50_216, 112);
    let at_socket = at_socket(1, SERVER, CLIENT).counted(0, 50_000);
    for (flow, bytes) in [(tracked, (50_216, 112)), (at_socket, (50_000, 0))] {
        for looks in [1, 2, 5, 700] {
            let mut host = silent(flow, CLIENT, SERVER, looks);
            host.holders.clear(); // the cookie stays
            host.open(held(1), Protocol::TCP, SERVER, CLIENT);
            let shares = host.look([flow]);
            assert_eq!((host.of(1), host.all()), (bytes, bytes), "{looks}");
            assert!(shares.iter().all(|share| share.recent == Traffic::ZERO));
            assert_eq!(host.look([flow]), []);
        }
    }
}

/// Accepted, served and closed since the look before.
#[test]
fn a_connection_that_has_waited_long_and_is_over_is_whose_alone_can_have_accepted_it() {
    for looks in [1, 5, 700] {
        let mut host = silent(short().counted(50_216, 112), CLIENT, SERVER, looks);
        host.listen(held(1), "0.0.0.0:80");
        host.look([short().counted(50_320, 300).over()]);
        assert_eq!((host.of(1), host.all()), ((50_320, 300), (50_320, 300)), "{looks}");
    }
}
