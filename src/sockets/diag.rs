//! Sockets from sock_diag.
//!
//! The format: `struct inet_diag_req_v2`, `struct inet_diag_msg` and the `INET_DIAG_*` attributes
//! in `include/uapi/linux/inet_diag.h`, `struct tcp_info` in `include/uapi/linux/tcp.h`. Ports and
//! addresses are in network byte order, everything else in the host's.

use thiserror::Error;

use super::{Inode, Socket, TcpState};
use crate::model::flow::{Address, Counters, Endpoint, Protocol, Tuple};
use crate::netlink::wire::{Attributes, put};

/// `SOCK_DIAG_BY_FAMILY`
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `TCPDIAG_GETSOCK`: the older request, for all address families at once.
pub(crate) const TCPDIAG_GETSOCK: u16 = 18;
/// `SKNLGRP_INET_TCP_DESTROY` (1) and `SKNLGRP_INET6_TCP_DESTROY` (3), as the bit mask of a bind:
/// the groups that announce the end of every TCP socket (`include/uapi/linux/sock_diag.h`).
pub(crate) const TCP_DESTROY_GROUPS: u32 = 0b0101;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_PROTOCOL: u16 = 10;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_ULP_INFO: u16 = 19;
/// `INET_ULP_INFO_NAME` inside `INET_DIAG_ULP_INFO`: the upper-layer protocol of this TCP socket.
const INET_ULP_INFO_NAME: u16 = 1;

/// `IPPROTO_MPTCP`, which does not fit into the eight bits of `sdiag_protocol`.
const MPTCP: u32 = 262;
/// `INET_DIAG_REQ_PROTOCOL`: the attribute for a protocol number that doesn't fit (Linux 5.9).
const INET_DIAG_REQ_PROTOCOL: u16 = 3;

/// The length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// Where `tcpi_bytes_retrans` is in a `struct tcp_info` (Linux 4.19).
const BYTES_RETRANS: usize = 208;

const LISTED_STATES: u32 = !(1 << TcpState::TIME_WAIT.0);

/// The address family of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `AF_INET`
    V4,
    /// `AF_INET6`, including IPv4-mapped sockets.
    V6,
}

/// The body of a dump request for every socket of `protocol` in `family` that is not in TIME_WAIT
/// (those have no owner any more); with `counters` also for `tcp_info`.
pub(crate) fn request(family: Family, protocol: Protocol, counters: bool) -> [u8; 56] {
    let mut body = [0; 56];
    body[0] = match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    body[1] = protocol.0;
    body[2] = extensions(counters);
    body[4..8].copy_from_slice(&LISTED_STATES.to_ne_bytes());
    body
}

/// The body of a dump request for TCP in both families (`struct inet_diag_req`, with
/// [`TCPDIAG_GETSOCK`]). The kernel then walks through its table once; most of the cost is the
/// connections in TIME_WAIT that it skips.
pub(crate) fn tcp_request(counters: bool) -> [u8; 60] {
    let mut body = [0; 60];
    body[3] = extensions(counters);
    body[52..56].copy_from_slice(&LISTED_STATES.to_ne_bytes());
    body
}

/// The dump request for the MPTCP sockets of `family`: those that have a token and, since Linux 5.18,
/// those that listen.
///
/// `sdiag_protocol` is 0 (`IPPROTO_IP`), which no handler serves: a kernel that does not know the
/// attribute refuses the request. With 6, which is 262 cut to eight bits, it would list the TCP
/// sockets.
pub(crate) fn mptcp_request(family: Family) -> Vec<u8> {
    let mut body = request(family, Protocol(0), false).to_vec();
    put(&mut body, INET_DIAG_REQ_PROTOCOL, &MPTCP.to_ne_bytes());
    body
}

const fn extensions(counters: bool) -> u8 {
    if counters { 1 << (INET_DIAG_INFO - 1) } else { 0 }
}

/// The body of a query for the socket at the end of a flow that sends along `tuple`: the one to which
/// the kernel would give a packet that has come through `interface`. For TCP it is the listening socket
/// if no other one matches. With interface 0, sockets bound to an interface are not found. With
/// `counters` the answer has `tcp_info` too.
pub(crate) fn question(tuple: &Tuple, interface: u32, counters: bool) -> [u8; 56] {
    let family = if tuple.source.address.is_v4() { Family::V4 } else { Family::V6 };
    let mut body = request(family, tuple.protocol, counters);
    let Tuple { mut source, mut destination, .. } = *tuple;
    if tuple.protocol.is_datagram() {
        // `udp_dump_one` in net/ipv4/udp_diag.c expects the ends in the opposite order.
        std::mem::swap(&mut source, &mut destination);
    }
    let from = if family == Family::V4 { 12 } else { 0 };
    for (port, at, end) in [(8, 12, source), (10, 28, destination)] {
        body[port..port + 2].copy_from_slice(&end.port.to_be_bytes());
        let address = &end.address.bytes()[from..];
        body[at..at + address.len()].copy_from_slice(address);
    }
    body[44..48].copy_from_slice(&interface.to_ne_bytes());
    // INET_DIAG_NOCOOKIE: any cookie.
    body[48..56].fill(0xff);
    body
}

/// Why a sock_diag message is no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    /// Shorter than `struct inet_diag_msg`.
    #[error("a message of {0} bytes, where a socket has at least 72")]
    Short(usize),
    /// Neither IPv4 nor IPv6.
    #[error("address family {0}, where 2 (IPv4) or 10 (IPv6) was expected")]
    Family(u8),
}

/// Decodes one message of a dump of `protocol`, or an announced end of a socket, which has its
/// protocol in it. Unknown attributes are skipped. The shorter `tcp_info` of an older kernel gives
/// what it has.
///
/// # Errors
/// The message is too short or of another address family.
pub(crate) fn decode(protocol: Protocol, body: &[u8]) -> Result<Socket, DecodeError> {
    let short = DecodeError::Short(body.len());
    let (fixed, attributes) = body.split_first_chunk::<MESSAGE>().ok_or(short)?;
    let be16 = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let ne32 =
        |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let address = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&fixed[at..at + 16]);
        match fixed[0] {
            AF_INET => Ok(Address::from_v4([bytes[0], bytes[1], bytes[2], bytes[3]])),
            AF_INET6 => Ok(Address::from_v6(bytes)),
            family => Err(DecodeError::Family(family)),
        }
    };
    let mut socket = Socket {
        tuple: Tuple {
            protocol,
            source: Endpoint::new(address(8)?, be16(4)),
            destination: Endpoint::new(address(24)?, be16(6)),
        },
        state: TcpState(fixed[1]),
        cookie: u64::from(ne32(44)) | u64::from(ne32(48)) << 32,
        uid: ne32(64),
        inode: (ne32(68) != 0).then(|| Inode(ne32(68))),
        v6_only: false,
        is_subflow: false,
        counters: None,
        sent_again: 0,
    };
    for attribute in Attributes::new(attributes) {
        match attribute.kind {
            INET_DIAG_SKV6ONLY => socket.v6_only = attribute.u8() == Some(1),
            INET_DIAG_PROTOCOL => {
                socket.tuple.protocol = attribute.u8().map_or(protocol, Protocol);
            }
            INET_DIAG_ULP_INFO => {
                let mut names = attribute.nested().filter(|a| a.kind == INET_ULP_INFO_NAME);
                socket.is_subflow = names.any(|name| name.value.starts_with(b"mptcp\0"));
            }
            INET_DIAG_INFO => {
                socket.counters = payload(attribute.value, socket.state);
                socket.sent_again = ne64(attribute.value, BYTES_RETRANS).unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(socket)
}

/// The payload bytes in a `struct tcp_info`; `None` if the kernel is older than 4.1.
///
/// Sent bytes are `tcpi_bytes_sent - tcpi_bytes_retrans` (Linux 4.19): what the program wrote and
/// TCP has sent, each byte once. Older kernels have `tcpi_bytes_acked` instead, which includes one
/// byte each for SYN and FIN. `tcpi_bytes_received` includes one byte for the peer's FIN.
fn payload(tcp_info: &[u8], state: TcpState) -> Option<Counters> {
    let (acked, received) = (ne64(tcp_info, 120)?, ne64(tcp_info, 128)?);
    let sent = match (ne64(tcp_info, 200), ne64(tcp_info, BYTES_RETRANS)) {
        (Some(sent), Some(again)) => sent.saturating_sub(again),
        _ => acked,
    };
    let fin = u64::from(state.fin_received());
    Some(Counters { original: sent, reply: received.saturating_sub(fin) })
}

fn ne64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
