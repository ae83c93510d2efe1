//! A filter for announcements of changed flows.
//!
//! A connection's entry changes half a dozen times between its start and its end, and each
//! announcement wakes the receiver. So the kernel gets a filter (classic BPF,
//! `Documentation/networking/filter.rst`) that passes only complete handshakes.

use std::io;
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

use super::{
    CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE, NFGENMSG, TCP_CONNTRACK_ESTABLISHED,
};
use crate::netlink::wire::HEADER;

/// The length of `struct nlattr` (`include/uapi/linux/netlink.h`).
const NLATTR: u32 = 4;

/// Loads the offset of an attribute, or 0. `NEXT` finds the first attribute of the type in X from the
/// offset in A on, `NESTED` the one inside the attribute at that offset (`SKF_AD_OFF` with
/// `SKF_AD_NLATTR` and `SKF_AD_NLATTR_NEST`, `include/uapi/linux/filter.h`).
const NEXT: SockFilter = SockFilter::new(LD_ABS, 0, 0, SKF_AD_OFF + 12);
const NESTED: SockFilter = SockFilter::new(LD_ABS, 0, 0, SKF_AD_OFF + 16);
const SKF_AD_OFF: u32 = 0u32.wrapping_sub(0x1000);

// Instructions (`include/uapi/linux/bpf_common.h`).
const LD_IMM: u16 = 0x00;
const LDX_IMM: u16 = 0x01;
const LD_ABS: u16 = 0x20;
const LDB_IND: u16 = 0x50;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;
const TAX: u16 = 0x07;

const fn load(to: u16, value: u32) -> SockFilter {
    SockFilter::new(to, 0, 0, value)
}

/// Continues if A is `value`, else skips this many instructions.
const fn if_equal(value: u32, or_skip: u8) -> SockFilter {
    SockFilter::new(JEQ, 0, or_skip, value)
}

/// Skips this many instructions if A is 0.
const fn unless_zero(or_skip: u8) -> SockFilter {
    SockFilter::new(JEQ, or_skip, 0, 0)
}

/// Passes only messages about TCP connections whose handshake is complete on this socket.
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn keep_to_handshakes(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).attach_filter(&[
        load(LD_IMM, (HEADER + NFGENMSG.len()) as u32),
        load(LDX_IMM, CTA_PROTOINFO as u32),
        NEXT,
        unless_zero(10),
        load(LDX_IMM, CTA_PROTOINFO_TCP as u32),
        NESTED,
        unless_zero(7),
        load(LDX_IMM, CTA_PROTOINFO_TCP_STATE as u32),
        NESTED,
        unless_zero(4),
        SockFilter::new(TAX, 0, 0, 0),
        load(LDB_IND, NLATTR),
        if_equal(TCP_CONNTRACK_ESTABLISHED as u32, 1),
        load(RET, u32::MAX),
        load(RET, 0),
    ])
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::super::tests::{TCP_ENTRY, in_state, sctp_entry};
    use super::*;

    /// Any socket can have the filter.
    #[test]
    fn only_handshakes_that_are_done_pass() {
        let (kernel, listener) = UnixDatagram::pair().unwrap();
        keep_to_handshakes(&listener).unwrap();
        let message = |body: &[u8]| [&[0; HEADER], body].concat();
        let mut sent: Vec<Vec<u8>> = (0..=9).map(|state| message(&in_state(state))).collect();
        sent.extend([message(TCP_ENTRY), message(&sctp_entry()), message(&[]), vec![0; 3]]);
        for message in &sent {
            kernel.send(message).unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        let mut passed = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = listener.recv(&mut buffer) {
            passed.push(buffer[..length].to_vec());
        }
        assert_eq!(passed, [message(&in_state(TCP_CONNTRACK_ESTABLISHED))]);
    }
}
