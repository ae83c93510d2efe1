//! The PROXY protocol's header, version 2, as
//! <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt> has it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use testbed::streams::{LOCAL, connect, expect_end, finish};

use super::rig::Rig;

/// Reads a header; source and destination.
fn read_header(mut stream: &TcpStream) -> (SocketAddr, SocketAddr) {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).unwrap();
    assert_eq!(&fixed[..12], b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A");
    assert_eq!(fixed[12], 0x21, "version 2, command PROXY");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    stream.read_exact(&mut rest).unwrap();
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match fixed[13] {
        0x11 => {
            let address =
                |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&rest[at..at + 4]).unwrap());
            ((address(0), port(8)).into(), (address(4), port(10)).into())
        }
        0x21 => {
            let address =
                |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).unwrap());
            ((address(0), port(32)).into(), (address(16), port(34)).into())
        }
        other => panic!("family and protocol {other:#x}"),
    }
}

#[test]
fn the_header_names_the_client_and_is_not_counted() {
    let rig = Rig::with(|config| config.send_proxy = true);
    let locals = [LOCAL, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5)), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for (round, local) in (1..).zip(locals) {
        let client = connect((local, rig.pipe.address().port()).into());
        let remote = rig.remote.accept();
        // Before the client has said anything: the remote may have to speak first.
        let (source, destination) = read_header(&remote);
        assert_eq!(source, client.local_addr().unwrap());
        assert_eq!(destination, client.peer_addr().unwrap());
        (&client).write_all(b"hello").unwrap();
        let mut got = [0; 5];
        (&remote).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        (&remote).write_all(b"well").unwrap();
        let mut got = [0; 4];
        (&client).read_exact(&mut got).unwrap();
        finish(client, remote);
        rig.expect_counted(5 * round, 4 * round);
        let traffic = rig.events.ended().pop().unwrap().traffic;
        assert_eq!((traffic.received, traffic.sent), (5, 4));
    }
}

#[test]
fn the_header_comes_first_for_a_client_that_is_done_at_once() {
    let rig = Rig::with(|config| config.send_proxy = true);
    let client = rig.client();
    (&client).write_all(b"all").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let remote = rig.remote.accept();
    assert_eq!(read_header(&remote).0, client.local_addr().unwrap());
    let mut got = [0; 3];
    (&remote).read_exact(&mut got).unwrap();
    assert_eq!(&got, b"all");
    expect_end(&remote);
}

#[test]
fn without_the_option_there_is_no_header() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    testbed::streams::exchange(&client, &remote);
}
