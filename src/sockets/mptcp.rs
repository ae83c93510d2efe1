//! MPTCP sockets: a descriptor names one, and TCP sockets (its subflows) send and receive its bytes.
//!
//! The kernel gives each subflow the inode of its MPTCP socket, when it makes one and when a connection
//! is accepted (`mptcp_subflow_create_socket` and `mptcp_sock_graft` in `net/mptcp`). A flow
//! therefore finds the process through the subflow alone. The list of MPTCP sockets adds their cookies,
//! by which a program in the kernel knows who made one.

use std::io;

use super::diag::{self, Family};
use super::{Listing, Socket, SocketTable, TcpState};
use crate::model::flow::Protocol;
use crate::netlink::{Dump, Netlink, NetlinkError, until_complete};

/// Lists the MPTCP sockets of one network namespace.
#[derive(Debug, Default)]
pub(super) struct Mptcp {
    /// Whether the kernel has no list of them: then it is not queried again.
    refused: bool,
}

impl Mptcp {
    /// Adds every MPTCP socket to `table`, which has the TCP sockets already. If none of them is a
    /// subflow, nothing is queried.
    pub(super) fn read(
        &mut self,
        netlink: &mut Netlink,
        table: &mut SocketTable,
        listing: &mut Listing,
    ) {
        if self.refused || !table.iter().any(|socket| socket.is_subflow) {
            return;
        }
        let mut found = Vec::new();
        for family in [Family::V4, Family::V6] {
            match dump(netlink, family, &mut found) {
                Ok((outcome, malformed)) => {
                    listing.malformed += malformed;
                    listing.interrupted += u64::from(outcome == Dump::Interrupted);
                }
                Err(NetlinkError::Kernel(error)) if error.kind() == io::ErrorKind::NotFound => {
                    self.refused = true;
                    return;
                }
                // After this failure the next look tries again.
                Err(_) => return,
            }
        }
        keep_own_cookies(&mut found);
        found.into_iter().for_each(|socket| table.insert_unmatched(socket));
    }
}

/// Adds the MPTCP sockets of one family to `found`. Returns the number of malformed messages too.
fn dump(
    netlink: &mut Netlink,
    family: Family,
    found: &mut Vec<Socket>,
) -> Result<(Dump, u64), NetlinkError> {
    let (before, request) = (found.len(), diag::mptcp_request(family));
    let mut malformed = 0;
    let outcome = until_complete(|| {
        found.truncate(before);
        malformed = 0;
        netlink.dump(diag::SOCK_DIAG_BY_FAMILY, &request, |message| {
            match diag::decode(Protocol::TCP, message.body) {
                Ok(socket) => found.push(socket),
                Err(_) => malformed += 1,
            }
        })
    })?;
    Ok((outcome, malformed))
}

/// Removes the cookie of sockets that have another socket's. For each connection that it accepts,
/// the kernel copies a listening MPTCP socket together with its cookie, if the cookie was queried
/// before (`mptcp_sk_clone_init`). Such a cookie belongs to the listening socket.
fn keep_own_cookies(sockets: &mut [Socket]) {
    // Of equal cookies, the first is the listening socket's.
    sockets.sort_unstable_by_key(|socket| (socket.cookie, socket.state != TcpState::LISTEN));
    let mut before = None;
    for socket in sockets {
        if before.replace(socket.cookie) == Some(socket.cookie) {
            socket.cookie = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::build::{attribute, nested};
    use crate::sockets::Inode;

    /// `struct inet_diag_msg` of Linux 6.18 for an MPTCP server's connection: what tcp_diag and the MPTCP
    /// diag have in common.
    fn message(state: TcpState, cookie: u8, inode: u8) -> Vec<u8> {
        #[rustfmt::skip]
        let bytes = vec![
            2, state.0, 0, 0,                   // AF_INET, no timer, 0 retransmits
            0x1f, 0x45, 0xab, 0x24,             // ports 8005 and 43812
            10, 231, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            10, 231, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0,                         // no device
            cookie, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // expires, queues
            0, 0, 0, 0,                         // uid 0
            inode, 0, 0, 0,
        ];
        bytes
    }

    fn socket(state: TcpState, cookie: u8, inode: u8) -> Socket {
        diag::decode(Protocol::TCP, &message(state, cookie, inode)).unwrap()
    }

    /// `ss -tiane` shows this as `tcp-ulp-mptcp flags:Mec token:0000(id:0)/c73c44fb(id:0)`.
    #[test]
    fn tcp_diag_says_which_tcp_socket_is_a_subflow() {
        let mut bytes = message(TcpState::ESTABLISHED, 0x33, 7);
        assert!(!diag::decode(Protocol::TCP, &bytes).unwrap().is_subflow);
        let name = attribute(1, b"mptcp\0"); // INET_ULP_INFO_NAME
        let token = attribute(2, &0xc73c_44fb_u32.to_ne_bytes()); // MPTCP_SUBFLOW_ATTR_TOKEN_LOC
        let info = nested(3, &[token]); // INET_ULP_INFO_MPTCP
        bytes.extend(nested(19, &[name, info])); // INET_DIAG_ULP_INFO
        let subflow = diag::decode(Protocol::TCP, &bytes).unwrap();
        assert!(subflow.is_subflow);
        assert_eq!(subflow.inode, Some(Inode(7)));
        // kTLS is another one of these protocols on top.
        let mut bytes = message(TcpState::ESTABLISHED, 0x33, 7);
        bytes.extend(nested(19, &[attribute(1, b"tls\0")]));
        assert!(!diag::decode(Protocol::TCP, &bytes).unwrap().is_subflow);
    }

    #[test]
    fn the_request_names_a_protocol_that_has_more_than_eight_bits() {
        let request = diag::mptcp_request(Family::V6);
        assert_eq!(request[..2], [10, 0]); // AF_INET6, IPPROTO_IP
        assert_eq!(request[56..60], [8, 0, 3, 0]); // 8 bytes of INET_DIAG_REQ_PROTOCOL
        assert_eq!(request[60..], 262u32.to_ne_bytes());
    }

    /// As Linux 6.18 lists a listening socket and two that it has accepted after `ss` had run.
    #[test]
    fn a_cookie_that_was_copied_stays_with_the_listening_socket() {
        let mut sockets = [
            socket(TcpState::ESTABLISHED, 0x2f, 1),
            socket(TcpState::ESTABLISHED, 0x31, 2),
            socket(TcpState::LISTEN, 0x2f, 3),
            socket(TcpState::ESTABLISHED, 0x2f, 4),
        ];
        keep_own_cookies(&mut sockets);
        let mut kept: Vec<_> = sockets.iter().map(|s| (s.inode.unwrap().0, s.cookie)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [(1, 0), (2, 0x31), (3, 0x2f), (4, 0)]);
    }

    #[test]
    fn an_mptcp_socket_is_listed_and_no_flow_finds_it() {
        let mut table = SocketTable::default();
        table.insert_unmatched(socket(TcpState::ESTABLISHED, 1, 2));
        table.insert_unmatched(socket(TcpState::LISTEN, 3, 4));
        let tuple = socket(TcpState::ESTABLISHED, 1, 2).tuple;
        assert!(table.find(&tuple).is_none());
        assert_eq!(table.listeners(tuple.source).count(), 0);
        assert_eq!(table.iter().map(|s| s.cookie).collect::<Vec<_>>(), [1, 3]);
    }
}
