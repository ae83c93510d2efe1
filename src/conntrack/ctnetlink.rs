//! Flows as ctnetlink dumps them.
//!
//! The format: `include/uapi/linux/netfilter/nfnetlink_conntrack.h` of the kernel, filled by
//! `ctnetlink_fill_info` in `net/netfilter/nf_conntrack_netlink.c`. Values inside the attributes
//! are in network byte order. The dump is a plain `IPCTNL_MSG_CT_GET`: the variant that also
//! zeroes the counters would take them away from every other reader.

use std::os::fd::{AsFd, BorrowedFd};

use thiserror::Error;

use crate::flow::{Address, CountedAt, Counters, Endpoint, Flow, Protocol, Status, Tuple};
use crate::netlink::wire::{Attribute, Attributes};
use crate::netlink::{Dump, Netlink, NetlinkError, Subsystem};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`
const GET: u16 = 1 << 8 | 1;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`: an entry has left the table.
const DELETE: u16 = 1 << 8 | 2;
/// `NFNLGRP_CONNTRACK_DESTROY` (3), as the bit mask of a bind.
const DESTROY_GROUP: u32 = 1 << 2;

/// `struct nfgenmsg`: `AF_UNSPEC` (both families), version 0, resource id 0.
const NFGENMSG: [u8; 4] = [0; 4];

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;

const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

const CTA_COUNTERS_BYTES: u16 = 2;
/// Kernels before 2.6.22 counted in 32 bits.
const CTA_COUNTERS32_BYTES: u16 = 4;

/// A conntrack message that is no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message is shorter than its `nfgenmsg`.
    #[error("the message is shorter than its header")]
    Short,
    /// A tuple is missing, or has no protocol or no address.
    #[error("the {0} tuple is missing or incomplete")]
    Tuple(&'static str),
}

/// Reads one message of a dump or an event into a flow. Attributes that it doesn't know are
/// skipped.
///
/// # Errors
/// If the message lacks what makes a flow: both tuples, each with a protocol and two addresses.
pub fn decode(body: &[u8]) -> Result<Flow, DecodeError> {
    let attributes = body.get(NFGENMSG.len()..).ok_or(DecodeError::Short)?;
    let (mut original, mut reply) = (None, None);
    let (mut sent, mut answered) = (None, None);
    let (mut zone, mut original_zone) = (None, None);
    let mut status = Status::default();
    let mut generation = None;
    for attribute in Attributes::new(attributes) {
        match attribute.kind {
            CTA_TUPLE_ORIG => original = tuple(&attribute, &mut original_zone),
            CTA_TUPLE_REPLY => reply = tuple(&attribute, &mut None),
            CTA_COUNTERS_ORIG => sent = bytes(&attribute),
            CTA_COUNTERS_REPLY => answered = bytes(&attribute),
            CTA_STATUS => status = Status(attribute.be32().unwrap_or(0)),
            CTA_ID => generation = attribute.be32().map(u64::from),
            CTA_ZONE => zone = attribute.be16(),
            _ => {}
        }
    }
    Ok(Flow {
        zone: zone.or(original_zone).unwrap_or(0),
        generation,
        original: original.ok_or(DecodeError::Tuple("original"))?,
        reply: reply.ok_or(DecodeError::Tuple("reply"))?,
        counters: (sent.is_some() || answered.is_some())
            .then(|| Counters { original: sent.unwrap_or(0), reply: answered.unwrap_or(0) }),
        status,
        counted_at: CountedAt::Path,
        ended: false,
    })
}

fn tuple(attribute: &Attribute<'_>, zone: &mut Option<u16>) -> Option<Tuple> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, 0, 0);
    for part in attribute.nested() {
        match part.kind {
            CTA_TUPLE_IP => {
                for ip in part.nested() {
                    match ip.kind {
                        CTA_IP_V4_SRC => source = v4(&ip),
                        CTA_IP_V4_DST => destination = v4(&ip),
                        CTA_IP_V6_SRC => source = v6(&ip),
                        CTA_IP_V6_DST => destination = v6(&ip),
                        _ => {}
                    }
                }
            }
            CTA_TUPLE_PROTO => {
                for item in part.nested() {
                    match item.kind {
                        CTA_PROTO_NUM => protocol = item.u8().map(Protocol),
                        CTA_PROTO_SRC_PORT | CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => {
                            source_port = item.be16()?;
                        }
                        CTA_PROTO_DST_PORT => destination_port = item.be16()?,
                        CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => {
                            destination_port |= u16::from(item.u8()?) << 8;
                        }
                        CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => {
                            destination_port |= u16::from(item.u8()?);
                        }
                        _ => {}
                    }
                }
            }
            CTA_TUPLE_ZONE => *zone = part.be16(),
            _ => {}
        }
    }
    Some(Tuple {
        protocol: protocol?,
        source: Endpoint::new(source?, source_port),
        destination: Endpoint::new(destination?, destination_port),
    })
}

fn v4(attribute: &Attribute<'_>) -> Option<Address> {
    attribute.value.try_into().ok().map(Address::from_v4)
}

fn v6(attribute: &Attribute<'_>) -> Option<Address> {
    attribute.value.try_into().ok().map(Address::from_v6)
}

fn bytes(counters: &Attribute<'_>) -> Option<u64> {
    counters.nested().find_map(|attribute| match attribute.kind {
        CTA_COUNTERS_BYTES => attribute.be64(),
        CTA_COUNTERS32_BYTES => attribute.be32().map(u64::from),
        _ => None,
    })
}

/// What one dump held beside its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// Whether the table changed under the dump.
    pub dump: Dump,
    /// Flows that were handed on.
    pub flows: u64,
    /// Messages that were no flow, with the reason of the first.
    pub malformed: u64,
    /// Why the first malformed message was none.
    pub first_error: Option<DecodeError>,
    /// How often announcements of ends were lost.
    pub lost: u64,
}

/// The reader: one netlink socket in the network namespace in which it was opened.
///
/// It is told the end of every flow, with its last counters, over the same socket through which it
/// dumps. So everything comes in the order in which the kernel made it: an end before whatever part
/// of a dump may show the next flow of the same tuple, which may even have the same id.
#[derive(Debug)]
pub struct Reader {
    netlink: Netlink,
    ended: Vec<Flow>,
}

impl Reader {
    /// Opens the socket. Whether the user may dump shows at the first [`Reader::read`].
    ///
    /// # Errors
    /// What the kernel says; `EPROTONOSUPPORT` where it has no nfnetlink.
    pub fn open() -> std::io::Result<Reader> {
        // Who may not be told of ends may not dump either, and that is said in its place.
        let netlink = Netlink::listen(Subsystem::Netfilter, DESTROY_GROUP)
            .or_else(|_| Netlink::open(Subsystem::Netfilter))?;
        Ok(Reader { netlink, ended: Vec::new() })
    }

    /// Becomes readable when there is something for [`Reader::drain`].
    pub fn events(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// Takes the ends that were announced, so that the kernel's buffer never fills. The next
    /// [`Reader::read`] hands them on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drain(&mut self) -> Result<(), NetlinkError> {
        let ended = &mut self.ended;
        self.netlink.drain(|message| {
            if message.kind == DELETE
                && let Ok(flow) = decode(message.body)
            {
                ended.push(Flow { ended: true, ..flow });
            }
        })
    }

    /// Hands on the flows that have ended since the last time, then dumps the whole table, IPv4
    /// and IPv6, and hands on every flow in it.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; `EINVAL` where the kernel has no ctnetlink.
    pub fn read(&mut self, mut each: impl FnMut(&Flow)) -> Result<Dumped, NetlinkError> {
        self.drain()?;
        let (mut flows, mut malformed, mut first_error) = (0, 0, None);
        for flow in self.ended.drain(..) {
            flows += 1;
            each(&flow);
        }
        let dump = self.netlink.dump(GET, &NFGENMSG, |message| match decode(message.body) {
            Ok(flow) => {
                flows += 1;
                each(&Flow { ended: message.kind == DELETE, ..flow });
            }
            Err(error) => {
                malformed += 1;
                first_error.get_or_insert(error);
            }
        })?;
        Ok(Dumped { dump, flows, malformed, first_error, lost: self.netlink.take_lost() })
    }

    /// Reads the whole table and decodes nothing: what the kernel alone costs. Returns the number
    /// of entries. For benchmarks.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn skim(&mut self) -> Result<u64, NetlinkError> {
        let mut entries = 0;
        self.netlink.dump(GET, &NFGENMSG, |_| entries += 1)?;
        Ok(entries)
    }
}

#[cfg(test)]
mod tests;
