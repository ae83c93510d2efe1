//! Decoding of messages: hand-made, by netlink-packet-sock-diag, and damaged.

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_sock_diag::constants::{AF_INET as OTHER_AF_INET, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use proptest::prelude::*;

use super::*;
use crate::netlink::wire::build::attribute;

/// A connected TCP socket as Linux 6.18 lists it with `INET_DIAG_INFO`: 10.77.0.1:42154 to
/// 10.77.0.2:80, user 1000. Only the counters of its `tcp_info` are filled.
fn message(tcp_info: &[u8]) -> Vec<u8> {
    #[rustfmt::skip]
    let mut bytes = vec![
        2, 1, 0, 0,                         // AF_INET, ESTABLISHED, no timer, 0 retransmits
        0xa4, 0xaa, 0, 80,                  // ports
        10, 77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        10, 77, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0,                         // no device
        7, 0, 0, 0, 1, 0, 0, 0,             // cookie: low word 7, high word 1
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // expires, queues
        0xe8, 0x03, 0, 0,                   // uid 1000
        0x39, 0x30, 0, 0,                   // inode 12345
    ];
    bytes.extend(attribute(5, &[0])); // INET_DIAG_TOS, which is skipped
    bytes.extend(attribute(INET_DIAG_INFO, tcp_info));
    bytes
}

fn tcp_info(length: usize) -> Vec<u8> {
    let mut info = vec![0; length.max(280)];
    for (at, value) in [(120, 1001u64), (128, 5000), (200, 1200), (208, 200)] {
        info[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    info.truncate(length);
    info
}

#[test]
fn a_tcp_socket_with_its_counters() {
    let socket = decode(Protocol::TCP, &message(&tcp_info(280))).unwrap();
    assert_eq!(socket.tuple.to_string(), "tcp 10.77.0.1:42154 -> 10.77.0.2:80");
    assert_eq!((socket.uid, socket.inode), (1000, Some(Inode(12345))));
    assert_eq!((socket.cookie, socket.state), (1 << 32 | 7, TcpState::ESTABLISHED));
    assert_eq!(socket.counters, Some(Counters { original: 1000, reply: 5000 }));
    assert_eq!(socket.flow().unwrap().counters, socket.counters);
    let again = socket.flow_with_retransmissions().unwrap();
    assert_eq!(again.counters, Some(Counters { original: 1200, reply: 5000 }));
    assert!(socket.is_connected());
}

#[test]
fn a_shorter_tcp_info_of_an_older_kernel_gives_what_it_has() {
    let counters = |length| decode(Protocol::TCP, &message(&tcp_info(length))).unwrap().counters;
    // 4.1 has bytes_acked, which counted the SYN
    assert_eq!(counters(136), Some(Counters { original: 1001, reply: 5000 }));
    assert_eq!(counters(135), None);
    assert_eq!(counters(104), None);
    assert_eq!(counters(0), None);
}

#[test]
fn the_peers_fin_is_no_byte() {
    let mut bytes = message(&tcp_info(280));
    bytes[1] = TcpState::CLOSE_WAIT.0;
    let socket = decode(Protocol::TCP, &bytes).unwrap();
    assert_eq!(socket.counters, Some(Counters { original: 1000, reply: 4999 }));
}

#[test]
fn an_unconnected_ipv6_socket_that_refuses_ipv4() {
    let mut bytes = message(&[])[..72].to_vec();
    bytes[0] = AF_INET6;
    bytes[1] = TcpState::CLOSE.0;
    bytes[6..8].fill(0);
    bytes[8..40].fill(0);
    bytes[68..72].fill(0);
    bytes.extend(attribute(INET_DIAG_SKV6ONLY, &[1]));
    let socket = decode(Protocol::UDP, &bytes).unwrap();
    assert_eq!(socket.tuple.to_string(), "udp [::]:42154 -> [::]:0");
    assert!(socket.v6_only && !socket.is_connected());
    assert_eq!(socket.inode, None);
}

#[test]
fn an_announced_end_names_its_protocol() {
    let mut bytes = message(&tcp_info(280));
    bytes.extend(attribute(INET_DIAG_PROTOCOL, &[6]));
    assert_eq!(decode(Protocol(0), &bytes).unwrap().tuple.protocol, Protocol::TCP);
}

#[test]
fn what_is_no_socket_is_an_error() {
    assert_eq!(decode(Protocol::TCP, &[2; 71]), Err(DecodeError::Short(71)));
    let mut unix = message(&[]);
    unix[0] = 1;
    assert_eq!(decode(Protocol::TCP, &unix), Err(DecodeError::Family(1)));
}

#[test]
fn the_request_is_the_other_encoders() {
    let mut other = vec![0; 56];
    InetRequest {
        family: OTHER_AF_INET,
        protocol: IPPROTO_UDP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::from_bits_retain(!(1 << 6)),
        socket_id: SocketId { cookie: [0; 8], ..SocketId::new_v4() },
    }
    .emit(&mut other);
    assert_eq!(request(Family::V4, Protocol::UDP, true).as_slice(), other);
}

/// `struct inet_diag_req` has the extensions and states of the newer request at other offsets.
#[test]
fn the_request_for_both_families_says_the_same() {
    let newer = request(Family::V4, Protocol::TCP, true);
    let older = tcp_request(true);
    assert_eq!((older[3], &older[52..56]), (newer[2], &newer[4..8]));
    assert_eq!(older.iter().filter(|byte| **byte != 0).count(), 5);
    assert_eq!(tcp_request(false)[3], 0);
}

proptest! {
    #[test]
    fn another_decoder_sees_the_same_socket(
        v6: bool,
        state in 1u8..=11,
        fixed in proptest::collection::vec(any::<u8>(), 68),
    ) {
        let mut bytes = vec![if v6 { AF_INET6 } else { AF_INET }, state, 0, 0];
        bytes.extend(fixed);
        let ours = decode(Protocol::TCP, &bytes).unwrap();
        let header = InetResponse::parse(bytes.as_slice()).unwrap().header;
        let id = header.socket_id;
        prop_assert_eq!(ours.tuple.source, Endpoint::new(id.source_address.into(), id.source_port));
        prop_assert_eq!(
            ours.tuple.destination,
            Endpoint::new(id.destination_address.into(), id.destination_port)
        );
        prop_assert_eq!(ours.cookie.to_ne_bytes(), id.cookie);
        prop_assert_eq!((ours.uid, ours.state.0), (header.uid, header.state));
        prop_assert_eq!(ours.inode.map_or(0, |i| i.0), header.inode);
    }

    #[test]
    fn no_bytes_panic(protocol: u8, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(Protocol(protocol), &bytes);
    }
}
