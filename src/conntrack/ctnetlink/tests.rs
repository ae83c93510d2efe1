//! ctnetlink messages, built here and read by the decoder and by another one.

use proptest::prelude::*;

use super::*;
use crate::netlink::wire::build::{attribute, nested};

fn tuple_bytes(kind: u16, tuple: &Tuple, zone: Option<u16>) -> Vec<u8> {
    let (source, destination) = (tuple.source, tuple.destination);
    let ip = if source.address.is_v4() {
        let last = |a: Address| a.bytes()[12..].to_vec();
        [
            attribute(CTA_IP_V4_SRC, &last(source.address)),
            attribute(CTA_IP_V4_DST, &last(destination.address)),
        ]
    } else {
        [
            attribute(CTA_IP_V6_SRC, source.address.bytes()),
            attribute(CTA_IP_V6_DST, destination.address.bytes()),
        ]
    };
    let mut proto = vec![attribute(CTA_PROTO_NUM, &[tuple.protocol.0])];
    if tuple.protocol.is_icmp() {
        let [kind, code] = destination.port.to_be_bytes();
        let v6 = if tuple.protocol == Protocol::ICMPV6 { 3 } else { 0 };
        proto.push(attribute(CTA_PROTO_ICMP_ID + v6, &source.port.to_be_bytes()));
        proto.push(attribute(CTA_PROTO_ICMP_TYPE + v6, &[kind]));
        proto.push(attribute(CTA_PROTO_ICMP_CODE + v6, &[code]));
    } else {
        proto.push(attribute(CTA_PROTO_SRC_PORT, &source.port.to_be_bytes()));
        proto.push(attribute(CTA_PROTO_DST_PORT, &destination.port.to_be_bytes()));
    }
    let mut parts = vec![nested(CTA_TUPLE_IP, &ip), nested(CTA_TUPLE_PROTO, &proto)];
    if let Some(zone) = zone {
        parts.push(attribute(CTA_TUPLE_ZONE, &zone.to_be_bytes()));
    }
    nested(kind, &parts)
}

fn flow_bytes(flow: &Flow) -> Vec<u8> {
    let mut bytes = NFGENMSG.to_vec();
    bytes.extend(tuple_bytes(CTA_TUPLE_ORIG, &flow.original, None));
    bytes.extend(tuple_bytes(CTA_TUPLE_REPLY, &flow.reply, None));
    bytes.extend(attribute(CTA_STATUS, &flow.status.0.to_be_bytes()));
    bytes.extend(attribute(7, &600u32.to_be_bytes())); // CTA_TIMEOUT, which is skipped
    if let Some(counters) = flow.counters {
        for (kind, count) in
            [(CTA_COUNTERS_ORIG, counters.original), (CTA_COUNTERS_REPLY, counters.reply)]
        {
            bytes.extend(nested(
                kind,
                &[
                    attribute(1, &7u64.to_be_bytes()), // CTA_COUNTERS_PACKETS
                    attribute(CTA_COUNTERS_BYTES, &count.to_be_bytes()),
                ],
            ));
        }
    }
    if let Some(id) = flow.generation {
        bytes.extend(attribute(CTA_ID, &(id as u32).to_be_bytes()));
    }
    if flow.zone != 0 {
        bytes.extend(attribute(CTA_ZONE, &flow.zone.to_be_bytes()));
    }
    bytes
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let tuple = |v6: bool| {
        let protocols = if v6 { [6, 17, 58, 132] } else { [6, 17, 1, 136] };
        (any::<([u8; 16], [u8; 16], u16, u16)>(), prop::sample::select(protocols.to_vec()))
            .prop_map(move |((a, b, source, destination), protocol)| {
                let address = |bytes: [u8; 16]| match v6 {
                    // 2001:db8::/32, so that it is never a mapped IPv4 address
                    true => {
                        let mut bytes = bytes;
                        bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
                        Address::from_v6(bytes)
                    }
                    false => Address::from_v4([bytes[0], bytes[1], bytes[2], bytes[3]]),
                };
                Tuple {
                    protocol: Protocol(protocol),
                    source: Endpoint::new(address(a), source),
                    destination: Endpoint::new(address(b), destination),
                }
            })
    };
    any::<bool>().prop_flat_map(move |v6| {
        ((tuple(v6), tuple(v6)), any::<(u16, Option<u32>, Option<(u64, u64)>, u32)>()).prop_map(
            |((original, reply), (zone, id, counters, status))| Flow {
                zone,
                generation: id.map(u64::from),
                original,
                reply,
                counters: counters.map(|(original, reply)| Counters { original, reply }),
                status: Status(status),
                counted_at: CountedAt::Path,
                closed: false,
                ended: false,
            },
        )
    })
}

/// One entry as Linux 6.18 dumps it, taken with `strace -e trace=recvmsg -x conntrack -L`
/// while a `curl` from 10.77.0.1 fetched from 10.77.0.2 port 80 with accounting on.
#[rustfmt::skip]
pub(super) const TCP_ENTRY: &[u8] = &[
    2, 0, 0, 0,                                     // nfgenmsg: AF_INET, version 0, id 0
    0x34, 0, 0x01, 0x80,                            // CTA_TUPLE_ORIG | NESTED
      0x14, 0, 0x01, 0x80,                          //   CTA_TUPLE_IP | NESTED
        8, 0, 1, 0,  10, 77, 0, 1,                  //     CTA_IP_V4_SRC
        8, 0, 2, 0,  10, 77, 0, 2,                  //     CTA_IP_V4_DST
      0x1c, 0, 0x02, 0x80,                          //   CTA_TUPLE_PROTO | NESTED
        5, 0, 1, 0,  6, 0, 0, 0,                    //     CTA_PROTO_NUM: TCP
        6, 0, 2, 0,  0xa4, 0xaa, 0, 0,              //     CTA_PROTO_SRC_PORT: 42154
        6, 0, 3, 0,  0, 80, 0, 0,                   //     CTA_PROTO_DST_PORT: 80
    0x34, 0, 0x02, 0x80,                            // CTA_TUPLE_REPLY | NESTED
      0x14, 0, 0x01, 0x80,
        8, 0, 1, 0,  10, 77, 0, 2,
        8, 0, 2, 0,  10, 77, 0, 1,
      0x1c, 0, 0x02, 0x80,
        5, 0, 1, 0,  6, 0, 0, 0,
        6, 0, 2, 0,  0, 80, 0, 0,
        6, 0, 3, 0,  0xa4, 0xaa, 0, 0,
    8, 0, 3, 0,  0, 0, 1, 0x8e,                     // CTA_STATUS
    8, 0, 7, 0,  0, 0, 0, 0x77,                     // CTA_TIMEOUT: 119 s
    0x1c, 0, 0x09, 0x80,                            // CTA_COUNTERS_ORIG | NESTED
      0x0c, 0, 1, 0,  0, 0, 0, 0, 0, 0, 0, 6,       //   CTA_COUNTERS_PACKETS: 6
      0x0c, 0, 2, 0,  0, 0, 0, 0, 0, 0, 1, 0x85,    //   CTA_COUNTERS_BYTES: 389
    0x1c, 0, 0x0a, 0x80,                            // CTA_COUNTERS_REPLY | NESTED
      0x0c, 0, 1, 0,  0, 0, 0, 0, 0, 0, 0, 5,
      0x0c, 0, 2, 0,  0, 0, 0, 0, 0, 1, 0, 0,       //   65536
    8, 0, 8, 0,  0, 0, 0, 0,                        // CTA_MARK
    8, 0, 12, 0,  0x5b, 0x0f, 0x2e, 0xcc,           // CTA_ID
    8, 0, 11, 0,  0, 0, 0, 1,                       // CTA_USE
];

#[test]
fn an_entry_of_a_real_dump() {
    let flow = decode(TCP_ENTRY).unwrap();
    assert_eq!(flow.original.to_string(), "tcp 10.77.0.1:42154 -> 10.77.0.2:80");
    assert_eq!(flow.reply, flow.original.reversed());
    assert_eq!(flow.counters, Some(Counters { original: 389, reply: 65536 }));
    assert_eq!((flow.zone, flow.generation), (0, Some(0x5b0f_2ecc)));
    assert!(flow.status.has(Status::SEEN_REPLY | Status::ASSURED));
}

#[test]
fn a_zone_of_one_direction_is_the_flows_zone() {
    let flow = decode(TCP_ENTRY).unwrap();
    let bytes = [
        NFGENMSG.to_vec(),
        tuple_bytes(CTA_TUPLE_ORIG, &flow.original, Some(7)),
        tuple_bytes(CTA_TUPLE_REPLY, &flow.reply, None),
    ]
    .concat();
    assert_eq!(decode(&bytes).unwrap().zone, 7);
}

#[test]
fn a_message_without_its_tuples_is_an_error() {
    assert_eq!(decode(&[2, 0]), Err(DecodeError::Short));
    assert_eq!(decode(&NFGENMSG), Err(DecodeError::Tuple("original")));
    let half = &TCP_ENTRY[..4 + 0x34];
    assert_eq!(decode(half), Err(DecodeError::Tuple("reply")));
}

/// `TCP_ENTRY` with its connection in this state, as `tcp_to_nlattr` writes it.
pub(super) fn in_state(state: u8) -> Vec<u8> {
    let tcp = [
        attribute(CTA_PROTOINFO_TCP_STATE, &[state]),
        attribute(2, &[7]),    // CTA_PROTOINFO_TCP_WSCALE_ORIGINAL
        attribute(3, &[7]),    // CTA_PROTOINFO_TCP_WSCALE_REPLY
        attribute(4, &[3, 0]), // CTA_PROTOINFO_TCP_FLAGS_ORIGINAL
    ];
    [TCP_ENTRY.to_vec(), nested(CTA_PROTOINFO, &[nested(CTA_PROTOINFO_TCP, &tcp)])].concat()
}

#[test]
fn a_connection_is_closed_when_nothing_but_its_end_is_to_come() {
    assert!(!decode(TCP_ENTRY).unwrap().closed);
    // TCP_CONNTRACK_NONE to TCP_CONNTRACK_SYN_SENT2
    let closed: Vec<u8> =
        (0..=9).filter(|state| decode(&in_state(*state)).unwrap().closed).collect();
    assert_eq!(closed, [7, 8]); // TIME_WAIT and CLOSE
    assert!(!decode(&sctp_entry()).unwrap().closed);
}

/// One with CTA_PROTOINFO_SCTP, whose states are others.
pub(super) fn sctp_entry() -> Vec<u8> {
    let sctp = nested(3, &[attribute(1, &[7])]);
    [TCP_ENTRY.to_vec(), nested(CTA_PROTOINFO, &[sctp])].concat()
}

#[test]
fn a_handshake_is_done_in_one_state() {
    let done: Vec<u8> = (0..=9).filter(|state| is_established(&in_state(*state))).collect();
    assert_eq!(done, [3]); // ESTABLISHED
    assert!(!is_established(TCP_ENTRY) && !is_established(&[2, 0]));
}

#[test]
fn the_number_of_entries_is_the_tables() {
    let answer = |kind, value: &[u8]| [NFGENMSG.to_vec(), attribute(kind, value)].concat();
    let most = [answer(CTA_STATS_GLOBAL_ENTRIES, &[0, 0, 1, 2]), attribute(2, &[0, 4, 0, 0])];
    assert_eq!(entries(&most.concat()), Some(258)); // 2 is CTA_STATS_GLOBAL_MAX_ENTRIES
    assert_eq!(entries(&answer(2, &[0, 4, 0, 0])), None);
    assert_eq!(entries(&answer(CTA_STATS_GLOBAL_ENTRIES, &[1])), None);
    assert_eq!((entries(&NFGENMSG), entries(&[2])), (None, None));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(flow in any_flow()) {
        prop_assert_eq!(decode(&flow_bytes(&flow)), Ok(flow));
    }

    /// netlink-packet-netfilter decodes the tuples independently, except ICMP's.
    #[test]
    fn another_decoder_sees_the_same_tuples(flow in any_flow()) {
        prop_assume!(!flow.original.protocol.is_icmp() && !flow.reply.protocol.is_icmp());
        let bytes = flow_bytes(&flow);
        let family = bytes[0];
        prop_assert_eq!(oracle::tuples(&bytes), (family, Some(flow.original), Some(flow.reply)));
    }

    /// Another decoder reads the queries, in the family of their addresses.
    #[test]
    fn another_decoder_understands_a_question(flow in any_flow()) {
        prop_assume!(!flow.original.protocol.is_icmp());
        let family = if flow.original.source.address.is_v4() { AF_INET } else { AF_INET6 };
        let asked = oracle::tuples(&question(&flow.original));
        prop_assert_eq!(asked, (family, Some(flow.original), None));
    }

    /// Those of ICMP too, as the kernel itself writes them.
    #[test]
    fn a_question_is_written_as_the_kernel_writes_an_entry(flow in any_flow()) {
        let bytes = question(&flow.original);
        prop_assert_eq!(&bytes[4..], tuple_bytes(CTA_TUPLE_ORIG, &flow.original, None));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_damaged_entry_never_panics(at in 0..TCP_ENTRY.len(), byte: u8, cut in 0..TCP_ENTRY.len()) {
        let mut bytes = TCP_ENTRY.to_vec();
        bytes[at] = byte;
        let _ = decode(&bytes);
        bytes.truncate(cut);
        let _ = decode(&bytes);
    }
}

/// netlink-packet-netfilter's reading of the same bytes (it leaves the counters undecoded).
mod oracle {
    use netlink_packet_core::ParseableParametrized;
    use netlink_packet_netfilter::conntrack as other;
    use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};

    use crate::model::flow::{Address, Endpoint, Protocol, Tuple};

    /// The family of a message, and its tuples.
    pub(super) fn tuples(body: &[u8]) -> (u8, Option<Tuple>, Option<Tuple>) {
        let message = NetfilterMessage::parse_with_param(body, super::GET).unwrap();
        let NetfilterMessageInner::Conntrack(other::ConntrackMessage::Get(attributes)) =
            message.inner
        else {
            panic!("no conntrack message: {message:?}");
        };
        let (mut original, mut reply) = (None, None);
        for attribute in attributes {
            match attribute {
                other::ConntrackAttribute::CtaTupleOrig(parts) => original = Some(tuple(&parts)),
                other::ConntrackAttribute::CtaTupleReply(parts) => reply = Some(tuple(&parts)),
                _ => {}
            }
        }
        (message.header.family.into(), original, reply)
    }

    fn tuple(parts: &[other::Tuple]) -> Tuple {
        let nowhere = Endpoint::new(Address::ANY_V6, 0);
        let mut tuple = Tuple { protocol: Protocol(0), source: nowhere, destination: nowhere };
        for part in parts {
            match part {
                other::Tuple::Ip(addresses) => {
                    for address in addresses {
                        match address {
                            other::IPTuple::SourceAddress(ip) => {
                                tuple.source.address = (*ip).into();
                            }
                            other::IPTuple::DestinationAddress(ip) => {
                                tuple.destination.address = (*ip).into();
                            }
                            _ => {}
                        }
                    }
                }
                other::Tuple::Proto(items) => {
                    for item in items {
                        match item {
                            other::ProtoTuple::Protocol(number) => {
                                tuple.protocol = Protocol((*number).into());
                            }
                            other::ProtoTuple::SourcePort(port) => tuple.source.port = *port,
                            other::ProtoTuple::DestinationPort(port) => {
                                tuple.destination.port = *port;
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        tuple
    }
}
