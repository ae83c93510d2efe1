//! Sockets in `/proc/net/{tcp,udp,udplite,raw,icmp}{,6}`: the fallback if sock_diag lacks a
//! protocol's module, and the only list of raw and ping sockets on many kernels.
//!
//! The lists have neither cookies nor counters, and don't show whether an IPv6 socket accepts IPv4.

use std::io::{self, BufRead};

use procfs::net::TcpNetEntries;
use procfs::{FromBufReadSI, current_system_info};

use super::{Inode, Socket, TcpState};
use crate::model::flow::{Endpoint, Protocol, Tuple};

/// The meaning of the "port" in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Transport protocols: the port. ICMP: the echo identifier of a ping socket.
    Ports,
    /// Raw sockets: the local "port" is the protocol number.
    Raw,
}

/// Lines that were no socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddities {
    /// Their number.
    pub malformed: u64,
    /// The line number of the first, from 1, including the header.
    pub first_line: Option<u64>,
}

/// Reads one table and hands every socket to `each`. A malformed line is counted and not fatal: one
/// unknown state must not hide all other sockets.
///
/// # Errors
/// Those of reading `input`.
pub(crate) fn read(
    mut input: impl BufRead,
    protocol: Protocol,
    kind: Kind,
    mut each: impl FnMut(Socket),
) -> io::Result<Oddities> {
    let mut oddities = Oddities::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if number == 1 || line.trim_ascii().is_empty() {
            continue;
        }
        match socket(&line, protocol, kind) {
            Some(socket) => each(socket),
            None => {
                oddities.malformed += 1;
                oddities.first_line.get_or_insert(number);
            }
        }
    }
    Ok(oddities)
}

fn socket(line: &[u8], protocol: Protocol, kind: Kind) -> Option<Socket> {
    // procfs skips a header line and stops at the first malformed one, so it gets one line at a
    // time. Its TCP table has the columns of all of these tables, and the state numbers are TCP's.
    let mut table = b"\n".to_vec();
    table.extend_from_slice(line);
    let entries = TcpNetEntries::from_buf_read(&table[..], current_system_info()).ok()?;
    let entry = entries.0.first()?;
    let mut tuple = Tuple {
        protocol,
        source: endpoint(entry.local_address),
        destination: endpoint(entry.remote_address),
    };
    if kind == Kind::Raw {
        tuple.protocol = Protocol(u8::try_from(tuple.source.port).ok()?);
        tuple.source.port = 0;
        tuple.destination.port = 0;
    }
    let inode = u32::try_from(entry.inode).ok()?;
    Some(Socket {
        tuple,
        inode: (inode != 0).then_some(Inode(inode)),
        uid: entry.uid,
        cookie: 0,
        state: TcpState(entry.state.to_u8()),
        v6_only: false,
        is_subflow: false,
        counters: None,
        sent_again: 0,
    })
}

fn endpoint(address: std::net::SocketAddr) -> Endpoint {
    Endpoint::new(address.ip().into(), address.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `cat /proc/net/tcp` of Linux 6.18, with a state that no kernel has and a cut line added.
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 23456 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 23457 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F91 0100007F:C351 5F 00000000:00000000 00:00000000 00000000  1000        0 23458 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:1F91 01000
   4: 0100007F:1F92 0100007F:C352 06 00000000:00000000 03:00000A5F 00000000     0        0 0 3 0000000000000000
";
    /// `cat /proc/net/raw6` while `ping6` runs.
    const RAW6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   58: 00000000000000000000000000000000:003A 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 34567 2 0000000000000000 0
";

    fn sockets(text: &str, protocol: Protocol, kind: Kind) -> (Vec<Socket>, Oddities) {
        let mut sockets = Vec::new();
        let oddities = read(text.as_bytes(), protocol, kind, |s| sockets.push(s)).unwrap();
        (sockets, oddities)
    }

    #[test]
    fn bad_lines_are_counted_and_hide_nothing() {
        let (sockets, oddities) = sockets(TCP, Protocol::TCP, Kind::Ports);
        assert_eq!(oddities, Oddities { malformed: 2, first_line: Some(4) });
        let seen: Vec<_> =
            sockets.iter().map(|s| (s.tuple.to_string(), s.inode.map(|i| i.0))).collect();
        assert_eq!(
            seen,
            [
                ("tcp 127.0.0.1:8080 -> 0.0.0.0:0".to_owned(), Some(23456)),
                ("tcp 127.0.0.1:8080 -> 127.0.0.1:50000".to_owned(), Some(23457)),
                ("tcp 127.0.0.1:8082 -> 127.0.0.1:50002".to_owned(), None),
            ]
        );
        assert_eq!(sockets[0].state, TcpState::LISTEN);
        assert_eq!(sockets[2].state, TcpState::TIME_WAIT);
    }

    #[test]
    fn a_raw_sockets_port_is_its_protocol() {
        let (sockets, oddities) = sockets(RAW6, Protocol(0), Kind::Raw);
        assert_eq!(oddities, Oddities::default());
        assert_eq!(sockets[0].tuple.to_string(), "icmpv6 [::]:0 -> [::]:0");
        assert_eq!(sockets[0].inode, Some(Inode(34567)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(bytes.as_slice(), Protocol::TCP, Kind::Ports, |_| ());
        }

        #[test]
        fn no_damaged_line_panics(at in 0..TCP.len(), byte: u8) {
            let mut bytes = TCP.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = read(bytes.as_slice(), Protocol::TCP, Kind::Raw, |_| ());
        }
    }
}
