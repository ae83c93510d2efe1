//! Flows from ctnetlink.
//!
//! The format: `include/uapi/linux/netfilter/nfnetlink_conntrack.h` of the kernel, filled by
//! `ctnetlink_fill_info` in `net/netfilter/nf_conntrack_netlink.c`. Values inside the attributes
//! are in network byte order. The dump is a plain `IPCTNL_MSG_CT_GET`: the variant that also resets
//! the counters would take them away from every other reader.

mod handshakes;
mod new_flows;
mod reader;

use thiserror::Error;

pub(crate) use new_flows::NewFlows;
pub(crate) use reader::Dumped;
pub use reader::Reader;

use crate::model::flow::{Address, CountedAt, Counters, Endpoint, Flow, Protocol, Status, Tuple};
use crate::netlink::wire::{Attribute, Attributes, NESTED, put};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`: an entry exists, is new, or has changed.
const NEW: u16 = 1 << 8;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`
const GET: u16 = 1 << 8 | 1;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`: an entry has left the table.
const DELETE: u16 = 1 << 8 | 2;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS`: statistics of the whole table.
const GET_STATS: u16 = 1 << 8 | 5;

/// `NFNLGRP_CONNTRACK_NEW` (1), as the bit mask of a bind.
const NEW_GROUP: u32 = 1;
/// `NFNLGRP_CONNTRACK_UPDATE` (2), as the bit mask of a bind.
const UPDATE_GROUP: u32 = 1 << 1;
/// `NFNLGRP_CONNTRACK_DESTROY` (3), as the bit mask of a bind.
const DESTROY_GROUP: u32 = 1 << 2;

/// `struct nfgenmsg`: `AF_UNSPEC` (both families), version 0, resource id 0.
const NFGENMSG: [u8; 4] = [0; 4];
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
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

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
/// `enum tcp_conntrack` (`include/uapi/linux/netfilter/nf_conntrack_tcp.h`).
const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
const TCP_CONNTRACK_TIME_WAIT: u8 = 7;
const TCP_CONNTRACK_CLOSE: u8 = 8;

/// `CTA_STATS_GLOBAL_ENTRIES`
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;

/// Why a conntrack message is no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    /// The message is shorter than its `nfgenmsg`.
    #[error("the message is shorter than its header")]
    Short,
    /// A tuple is missing, or has no protocol or no address.
    #[error("the {0} tuple is missing or incomplete")]
    Tuple(&'static str),
}

/// Decodes one message of a dump or an event. Unknown attributes are skipped.
///
/// # Errors
/// The message lacks a part of the two tuples, each with a protocol and two addresses.
pub(crate) fn decode(body: &[u8]) -> Result<Flow, DecodeError> {
    let attributes = body.get(NFGENMSG.len()..).ok_or(DecodeError::Short)?;
    let (mut original, mut reply) = (None, None);
    let (mut sent, mut answered) = (None, None);
    let (mut zone, mut original_zone) = (None, None);
    let mut status = Status::default();
    let mut generation = None;
    let mut closed = false;
    for attribute in Attributes::new(attributes) {
        match attribute.kind {
            CTA_TUPLE_ORIG => original = tuple(&attribute, &mut original_zone),
            CTA_TUPLE_REPLY => reply = tuple(&attribute, &mut None),
            CTA_COUNTERS_ORIG => sent = bytes(&attribute),
            CTA_COUNTERS_REPLY => answered = bytes(&attribute),
            CTA_PROTOINFO => {
                closed = matches!(
                    tcp_state(&attribute),
                    Some(TCP_CONNTRACK_TIME_WAIT | TCP_CONNTRACK_CLOSE)
                );
            }
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
        closed,
        ended: false,
    })
}

/// The query for the entry with this original tuple, in the default zone.
pub(crate) fn question(original: &Tuple) -> Vec<u8> {
    let Tuple { protocol, source, destination } = *original;
    let v4 = source.address.is_v4();
    let mut body = NFGENMSG.to_vec();
    body[0] = if v4 { AF_INET } else { AF_INET6 };
    let (mut ip, mut proto) = (Vec::new(), Vec::new());
    let (ends, from) = match v4 {
        true => ([CTA_IP_V4_SRC, CTA_IP_V4_DST], 12),
        false => ([CTA_IP_V6_SRC, CTA_IP_V6_DST], 0),
    };
    for (kind, end) in ends.into_iter().zip([source, destination]) {
        put(&mut ip, kind, &end.address.bytes()[from..]);
    }
    put(&mut proto, CTA_PROTO_NUM, &[protocol.0]);
    if protocol.is_icmp() {
        let [kind, code] = destination.port.to_be_bytes();
        let [id_is, kind_is, code_is] = match protocol {
            Protocol::ICMP => [CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE],
            _ => [CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE],
        };
        put(&mut proto, id_is, &source.port.to_be_bytes());
        put(&mut proto, kind_is, &[kind]);
        put(&mut proto, code_is, &[code]);
    } else {
        put(&mut proto, CTA_PROTO_SRC_PORT, &source.port.to_be_bytes());
        put(&mut proto, CTA_PROTO_DST_PORT, &destination.port.to_be_bytes());
    }
    let mut tuple = Vec::new();
    put(&mut tuple, CTA_TUPLE_IP | NESTED, &ip);
    put(&mut tuple, CTA_TUPLE_PROTO | NESTED, &proto);
    put(&mut body, CTA_TUPLE_ORIG | NESTED, &tuple);
    body
}

/// The number of entries in an answer with the table's statistics.
fn entries(body: &[u8]) -> Option<u64> {
    let mut attributes = Attributes::new(body.get(NFGENMSG.len()..)?);
    let entries = attributes.find(|attribute| attribute.kind == CTA_STATS_GLOBAL_ENTRIES)?;
    entries.be32().map(u64::from)
}

fn tcp_state(protoinfo: &Attribute<'_>) -> Option<u8> {
    let tcp = protoinfo.nested().find(|attribute| attribute.kind == CTA_PROTOINFO_TCP)?;
    tcp.nested().find(|attribute| attribute.kind == CTA_PROTOINFO_TCP_STATE)?.u8()
}

/// Whether a message is about a TCP connection whose handshake is complete.
fn is_established(body: &[u8]) -> bool {
    let mut attributes = Attributes::new(body.get(NFGENMSG.len()..).unwrap_or_default());
    attributes.find(|attribute| attribute.kind == CTA_PROTOINFO).as_ref().and_then(tcp_state)
        == Some(TCP_CONNTRACK_ESTABLISHED)
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

#[cfg(test)]
mod tests;
