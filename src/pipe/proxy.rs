//! The PROXY protocol, version 2, which passes the client's address to the remote.
//!
//! See section 2.2 of haproxy's `doc/proxy-protocol.txt`. The header precedes the client's bytes
//! on the connection to the remote:
//!
//! ```text
//!   0  signature   0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a
//!  12  0x21        version 2, command PROXY
//!  13  0x11, 0x21  TCP over IPv4, over IPv6
//!  14  length      of what follows, big-endian: 12 or 36
//!  16  addresses   source, destination: 4 or 16 bytes each
//!      ports       source, destination: big-endian
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The signature, with which no other protocol starts.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Signature, version and command, family, length; then two IPv6 addresses and two ports.
const LONGEST: usize = 16 + 2 * 16 + 2 * 2;

/// A header, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Header {
    /// The bytes that precede the client's: 28 for IPv4, 52 for IPv6.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

/// The header for a connection of `client` to `local`, the address of this host that it connected
/// to.
///
/// A socket that listens on all addresses sees IPv4 clients as IPv4-mapped ones; the header has
/// their IPv4 address. The protocol has no header with one address of each kind; both are IPv6
/// then.
pub(super) fn header(client: SocketAddr, local: SocketAddr) -> Header {
    let mut header = Header { bytes: [0; LONGEST], length: 0 };
    header.push(&SIGNATURE);
    match (client.ip().to_canonical(), local.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(local)) => {
            header.push(&[VERSION_2_PROXY, TCP_OVER_IPV4, 0, 12]);
            header.push(&client.octets());
            header.push(&local.octets());
        }
        (client, local) => {
            header.push(&[VERSION_2_PROXY, TCP_OVER_IPV6, 0, 36]);
            header.push(&as_ipv6(client).octets());
            header.push(&as_ipv6(local).octets());
        }
    }
    header.push(&client.port().to_be_bytes());
    header.push(&local.port().to_be_bytes());
    header
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use ppp::v2;
    use proptest::prelude::*;

    use super::*;

    fn bytes(client: &str, local: &str) -> Vec<u8> {
        header(client.parse().unwrap(), local.parse().unwrap()).as_bytes().to_vec()
    }

    #[test]
    fn ipv4_field_by_field() {
        let expected = [
            &b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"[..], // signature
            b"\x21",                                                  // version 2, PROXY
            b"\x11",                                                  // TCP over IPv4
            b"\x00\x0c",                                              // 12 bytes follow
            b"\xc0\x00\x02\x01",                                      // source
            b"\xc6\x33\x64\x02",                                      // destination
            b"\xc3\x51",                                              // source port
            b"\x01\xbb",                                              // destination port
        ]
        .concat();
        assert_eq!(bytes("192.0.2.1:50001", "198.51.100.2:443"), expected);
        // What a dual-stack listener sees of the same connection.
        assert_eq!(bytes("[::ffff:192.0.2.1]:50001", "[::ffff:198.51.100.2]:443"), expected);
    }

    #[test]
    fn ipv6_field_by_field() {
        let expected = [
            &b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"[..], // signature
            b"\x21",                                                  // version 2, PROXY
            b"\x21",                                                  // TCP over IPv6
            b"\x00\x24",                                              // 36 bytes follow
            b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",            // source
            b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02",            // destination
            b"\xc3\x51",                                              // source port
            b"\x00\x50",                                              // destination port
        ]
        .concat();
        assert_eq!(bytes("[2001:db8::1]:50001", "[2001:db8::2]:80"), expected);
    }

    #[test]
    fn one_of_each_kind_is_written_as_ipv6() {
        let mixed = bytes("192.0.2.1:1", "[2001:db8::2]:80");
        assert_eq!(mixed[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(mixed[16..32], *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01");
        assert_eq!(mixed[32..48], *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02");
        assert_eq!(mixed, bytes("[::ffff:192.0.2.1]:1", "[2001:db8::2]:80"));
        assert_eq!(bytes("[2001:db8::2]:80", "192.0.2.1:1")[12..16], [0x21, 0x21, 0, 36]);
    }

    proptest! {
        #[test]
        fn another_parser_reads_what_was_meant(client: SocketAddr, local: SocketAddr) {
            let header = header(client, local);
            let parsed = v2::Header::try_from(header.as_bytes()).unwrap();
            prop_assert_eq!(parsed.version, v2::Version::Two);
            prop_assert_eq!(parsed.command, v2::Command::Proxy);
            prop_assert_eq!(parsed.protocol, v2::Protocol::Stream);
            prop_assert_eq!(parsed.len(), header.as_bytes().len());
            prop_assert_eq!(parsed.tlvs().count(), 0);
            let (source, destination): (SocketAddr, SocketAddr) = match parsed.addresses {
                v2::Addresses::IPv4(both) => (
                    (both.source_address, both.source_port).into(),
                    (both.destination_address, both.destination_port).into(),
                ),
                v2::Addresses::IPv6(both) => (
                    (both.source_address, both.source_port).into(),
                    (both.destination_address, both.destination_port).into(),
                ),
                other => panic!("{other:?}"),
            };
            for (got, meant) in [(source, client), (destination, local)] {
                prop_assert_eq!(got.ip().to_canonical(), meant.ip().to_canonical());
                prop_assert_eq!(got.port(), meant.port());
            }
            let is_ipv4 = |address: SocketAddr| address.ip().to_canonical().is_ipv4();
            prop_assert_eq!(source.is_ipv4(), is_ipv4(client) && is_ipv4(local));
        }
    }
}
