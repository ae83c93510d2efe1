//! The lines of a recording: one JSON value a line, small enough to be kept in the repository.
//!
//! A tuple, flow or socket that comes again is written once: as a text or a list at first, and later as its
//! number, from 0, in the order of first occurrence.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::figures::{Bytes2, Figures};
use crate::attribution::{Coverage, Share};
use crate::ebpf::{self, Origin};
use crate::environment::Opening;
use crate::model::flow::{CountedAt, Counters, Endpoint, Flow, Protocol, Status, Tuple};
use crate::model::owner::{Comm, Owner, Reason};
use crate::model::traffic::Traffic;
use crate::netns::NetnsKey;
use crate::processes::{Ownership, ProcessId};
use crate::sockets::{Inode, Socket, TcpState};
use crate::tracker::{NewFlowRecord, Seen};

/// The version of recordings that this program writes and reads.
pub(crate) const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// The version of the format.
    #[serde(rename = "bwmon-recording")]
    pub(crate) version: u32,
    /// The name of the source.
    pub(crate) source: String,
    /// Whether bytes counted before the start are accounted.
    pub(crate) lookback: bool,
}

/// Each other line: an input of the core, in its order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// A look started, this many microseconds after the recording.
    Look(u64),
    /// The answers of the environment from here on.
    Answers(Answers),
    /// An observation of flows started: the progress of opening namespaces, and the tracker's
    /// records.
    Observe(OpeningName, Vec<RecordRow>),
    /// The order of the namespaces, if it has changed.
    Namespaces(Vec<u32>),
    /// The addresses of a namespace, if they have changed: its own, and broadcasts.
    Addresses(u32, Vec<String>, Vec<String>),
    /// The sockets of a namespace, if they have changed.
    Table(u32, Vec<Item<SocketRow>>),
    /// Reading a namespace's flows started; whether processes were still unread, and whether the flows come
    /// from a table.
    Reading(u32, bool, bool),
    /// Flows that were read.
    Flows(Vec<Item<FlowRow>>),
    /// Reading a namespace's flows ended.
    Leave(u32, CoverageName),
    /// The observation of flows ended.
    Observed,
    /// An observation of sockets with slots started.
    Count,
    /// Sockets whose reading equals their last one.
    Quiet(Vec<u32>),
    /// A socket that was read, and not accounted.
    Seen(Item<SlotRow>, [u64; 4]),
    /// A socket that was read, and accounted by what was found of it; without anything found if it is not in a
    /// watched namespace.
    Slot(Item<SlotRow>, [u64; 4], u8, Option<Evidence>),
    /// New bytes of a socket that is not remembered.
    Passing([u64; 4], u8, Option<Evidence>),
    /// A socket was forgotten.
    Release(u32),
    /// Bytes counted outside the slots, by namespace.
    Outside(Vec<(u64, [u64; 16])>),
    /// Bytes that were accounted by input that is not recorded.
    Share(OwnerRow, Bytes2, Bytes2, Option<String>, bool),
    /// Names were updated: processes that ended, and processes whose names were cut.
    Name(Vec<ProcessRow>, Vec<ProcessRow>),
    /// A namespace is no longer watched.
    Forget(u32),
    /// A refresh, and its result.
    Refresh(Figures),
    /// Bytes counted by other means, by names. Written by the maker of the recording.
    Truth(Truth),
}

/// Bytes counted by other means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// The workload that was recorded.
    pub workload: String,
    /// Received and sent bytes of each owner. Rows belong to it if their names start with one of these texts; a
    /// text in parentheses is a reason.
    pub owners: Vec<(Vec<String>, Bytes2)>,
    /// The sum of all rows and reasons.
    pub sum: Option<Bytes2>,
    /// The minimum part of each owner's bytes that its rows must have, in percent.
    pub floor: f64,
}

/// A value that may have come before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Item<T> {
    /// Its number.
    Seen(u32),
    New(T),
}

/// Queries of the environment, and its answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Answers {
    /// The holders of sockets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) owners: Vec<(u32, OwnershipRow)>,
    /// The only process that can have accepted at these sockets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) acceptors: Vec<(Vec<u32>, Option<ProcessRow>)>,
    /// Of several sockets, the one that the kernel would choose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) chosen: Vec<(TupleText, Option<u32>)>,
    /// Command lines and labels of processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) named: Vec<(ProcessRow, Option<Text>)>,
    /// Whether a process exists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) there: Vec<(ProcessRow, bool)>,
}

/// A pid and a start time.
pub(crate) type ProcessRow = (u32, u64);

pub(crate) fn process_row(id: ProcessId) -> ProcessRow {
    (id.pid, id.start_time)
}

pub(crate) fn process((pid, start_time): ProcessRow) -> ProcessId {
    ProcessId { start_time, pid }
}

/// Bytes that are mostly text, as in [`crate::model::Text`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// Valid UTF-8.
    Text(String),
    /// Other bytes.
    Raw(Vec<u8>),
}

impl Text {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Text::Text(text) => text.as_bytes(),
            Text::Raw(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Text {
        match str::from_utf8(bytes) {
            Ok(text) => Text::Text(text.to_owned()),
            Err(_) => Text::Raw(bytes.to_owned()),
        }
    }
}

/// `6 10.77.0.1:40000 10.77.0.2:9000`: the protocol number, the sender, the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TupleText(pub(crate) Tuple);

impl From<TupleText> for String {
    fn from(TupleText(tuple): TupleText) -> String {
        format!("{} {} {}", tuple.protocol.0, tuple.source, tuple.destination)
    }
}

impl TryFrom<String> for TupleText {
    type Error = String;

    fn try_from(text: String) -> Result<TupleText, String> {
        let endpoint = |text: &str| {
            let address: SocketAddr = text.parse().ok()?;
            Some(Endpoint::new(address.ip().into(), address.port()))
        };
        let mut words = text.split(' ');
        let mut tuple = || {
            let protocol = Protocol(words.next()?.parse().ok()?);
            let [source, destination] = [endpoint(words.next()?)?, endpoint(words.next()?)?];
            let tuple = Tuple { protocol, source, destination };
            words.next().is_none().then_some(TupleText(tuple))
        };
        let wrong = || format!("not PROTOCOL ADDRESS:PORT ADDRESS:PORT: {text:?}");
        tuple().ok_or_else(wrong)
    }
}

/// A flow: its tuples (without the reply if that is the reverse), its zone and generation, its counters, its status,
/// and [`FLOW_BITS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlowRow(
    pub(crate) Item<TupleText>,
    pub(crate) Option<Item<TupleText>>,
    u16,
    Option<u64>,
    Option<[u64; 2]>,
    u32,
    u8,
);

/// Counted at a socket; closed; ended.
const FLOW_BITS: [u8; 3] = [1, 2, 4];

impl FlowRow {
    pub(crate) fn of(flow: &Flow, mut tuple: impl FnMut(Tuple) -> Item<TupleText>) -> FlowRow {
        let Flow { zone, generation, original, reply, counters, status, counted_at, closed, ended } =
            *flow;
        let bits = bits(FLOW_BITS, [counted_at == CountedAt::Socket, closed, ended]);
        let original_text = tuple(original);
        let reply = (reply != original.reversed()).then(|| tuple(reply));
        let counters = counters.map(pair);
        FlowRow(original_text, reply, zone, generation, counters, status.0, bits)
    }

    /// The flow, with the tuples of its items.
    pub(crate) fn flow(&self, original: Tuple, reply: Option<Tuple>) -> Flow {
        let FlowRow(_, _, zone, generation, counters, status, bits) = *self;
        let [socket, closed, ended] = FLOW_BITS.map(|bit| bits & bit != 0);
        Flow {
            zone,
            generation,
            original,
            reply: reply.unwrap_or(original.reversed()),
            counters: counters.map(unpair),
            status: Status(status),
            counted_at: if socket { CountedAt::Socket } else { CountedAt::Path },
            closed,
            ended,
        }
    }
}

fn bits<const N: usize>(bits: [u8; N], are: [bool; N]) -> u8 {
    bits.into_iter().zip(are).filter(|(_, is)| *is).map(|(bit, _)| bit).sum()
}

fn pair(counters: Counters) -> [u64; 2] {
    [counters.original, counters.reply]
}

fn unpair([original, reply]: [u64; 2]) -> Counters {
    Counters { original, reply }
}

/// A socket: its tuple, inode, cookie and state, [`SOCKET_BITS`], and its counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SocketRow(pub(crate) Item<TupleText>, Option<u32>, u64, u8, u8, Option<[u64; 2]>);

/// Accepts no IPv4; is a subflow; is found by no flow.
const SOCKET_BITS: [u8; 3] = [1, 2, 4];

impl SocketRow {
    pub(crate) fn of(socket: &Socket, is_unmatched: bool, tuple: Item<TupleText>) -> SocketRow {
        let Socket { inode, cookie, state, v6_only, is_subflow, counters, .. } = *socket;
        let bits = bits(SOCKET_BITS, [v6_only, is_subflow, is_unmatched]);
        SocketRow(tuple, inode.map(|inode| inode.0), cookie, state.0, bits, counters.map(pair))
    }

    /// The socket, and whether no flow finds it. Its user and what it sent again are not recorded, because nothing
    /// uses them.
    pub(crate) fn socket(&self, tuple: Tuple) -> (Socket, bool) {
        let SocketRow(_, inode, cookie, state, bits, counters) = *self;
        let [v6_only, is_subflow, is_unmatched] = SOCKET_BITS.map(|bit| bits & bit != 0);
        let socket = Socket {
            tuple,
            inode: inode.map(Inode),
            uid: 0,
            cookie,
            state: TcpState(state),
            v6_only,
            is_subflow,
            counters: counters.map(unpair),
            sent_again: 0,
        };
        (socket, is_unmatched)
    }
}

/// A record of the tracker: the namespace of the table, the flow, the processes at its ends and their namespaces,
/// and whether the flow started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordRow(u32, pub(crate) Item<FlowRow>, [Option<(u32, u64, u32)>; 2], bool);

impl RecordRow {
    pub(crate) fn of(record: &NewFlowRecord, flow: Item<FlowRow>) -> RecordRow {
        let seen = |seen: Seen| (seen.process.pid, seen.process.start_time, seen.netns.0);
        let ends = record.ends.map(|end| end.map(seen));
        RecordRow(record.netns.0, flow, ends, record.is_new)
    }

    pub(crate) fn record(&self, flow: Flow) -> NewFlowRecord {
        let RecordRow(netns, _, ends, is_new) = self;
        let seen =
            |(pid, start, netns)| Seen { process: process((pid, start)), netns: NetnsKey(netns) };
        let ends = ends.map(|end| end.map(seen));
        NewFlowRecord { netns: NetnsKey(*netns), flow, ends, is_new: *is_new }
    }
}

/// The holder of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum OwnershipRow {
    Process(u32, u64),
    None(NoOwner),
}

/// Why there is no holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoOwner {
    Denied,
    Hidden,
    Nobody,
    Unread,
}

impl From<Ownership> for OwnershipRow {
    fn from(ownership: Ownership) -> OwnershipRow {
        OwnershipRow::None(match ownership {
            Ownership::Process(id) => return OwnershipRow::Process(id.pid, id.start_time),
            Ownership::Denied => NoOwner::Denied,
            Ownership::Hidden => NoOwner::Hidden,
            Ownership::Nobody => NoOwner::Nobody,
            Ownership::Unread => NoOwner::Unread,
        })
    }
}

impl From<OwnershipRow> for Ownership {
    fn from(row: OwnershipRow) -> Ownership {
        match row {
            OwnershipRow::Process(pid, start) => Ownership::Process(process((pid, start))),
            OwnershipRow::None(NoOwner::Denied) => Ownership::Denied,
            OwnershipRow::None(NoOwner::Hidden) => Ownership::Hidden,
            OwnershipRow::None(NoOwner::Nobody) => Ownership::Nobody,
            OwnershipRow::None(NoOwner::Unread) => Ownership::Unread,
        }
    }
}

/// An owner: a process, an unseen one with its short name, or a reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum OwnerRow {
    Process(u32, u64),
    Unseen(u32, Text),
    Nobody(String),
}

impl From<Owner> for OwnerRow {
    fn from(owner: Owner) -> OwnerRow {
        match owner {
            Owner::Process(id) => OwnerRow::Process(id.pid, id.start_time),
            Owner::Unseen { pid, comm } => OwnerRow::Unseen(pid, comm.bytes().into()),
            Owner::Nobody(reason) => OwnerRow::Nobody(reason.name().to_owned()),
        }
    }
}

impl OwnerRow {
    /// `None` for an unknown reason.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Some(match self {
            OwnerRow::Process(pid, start) => Owner::Process(process((*pid, *start))),
            OwnerRow::Unseen(pid, name) => {
                let mut comm = Comm::default();
                comm.0.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = *from);
                Owner::Unseen { pid: *pid, comm }
            }
            OwnerRow::Nobody(name) => reason(name)?.into(),
        })
    }
}

pub(crate) fn reason(name: &str) -> Option<Reason> {
    Reason::ALL.into_iter().find(|reason| reason.name() == name)
}

/// A share, as a line.
pub(crate) fn share_line(share: &Share) -> Line {
    let Share { to, traffic, recent, from, local, .. } = *share;
    let from = from.map(|reason| reason.name().to_owned());
    Line::Share(to.into(), bytes2(traffic), bytes2(recent), from, local)
}

pub(crate) fn bytes2(traffic: Traffic) -> Bytes2 {
    [traffic.received, traffic.sent]
}

/// The slot and cookie of a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotRow(u32, u64);

impl SlotRow {
    pub(crate) fn of(counted: &ebpf::Counted) -> SlotRow {
        SlotRow(counted.slot, counted.cookie)
    }

    pub(crate) fn counted(&self, bytes: [u64; 4]) -> ebpf::Counted {
        let SlotRow(slot, cookie) = *self;
        ebpf::Counted { slot, cookie, inode: None, bytes: unbytes(bytes) }
    }
}

/// Received and sent bytes, first remote ones, then those on the loopback device.
pub(crate) fn bytes4(bytes: ebpf::Bytes) -> [u64; 4] {
    let ebpf::Bytes { remote, local } = bytes;
    [remote.received, remote.sent, local.received, local.sent]
}

pub(crate) fn unbytes([a, b, c, d]: [u64; 4]) -> ebpf::Bytes {
    ebpf::Bytes { remote: Traffic::new(a, b), local: Traffic::new(c, d) }
}

/// What was found at a socket with a slot: its holder, its maker, its closer, and its inode. Makers and closers are
/// recorded only if they were needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence(
    pub(crate) Option<OwnershipRow>,
    pub(crate) Option<OwnerRow>,
    pub(crate) Option<OwnerRow>,
    pub(crate) Option<u32>,
);

/// Accepted; released; has a maker.
const ORIGIN_BITS: [u8; 3] = [1, 2, 4];

pub(crate) fn origin_bits(origin: &Origin) -> u8 {
    bits(ORIGIN_BITS, [origin.accepted, origin.released, origin.maker.is_some()])
}

/// The part of a socket's origin that decides its owner.
pub(crate) fn origin(bits: u8) -> Origin {
    let [accepted, released, made] = ORIGIN_BITS.map(|bit| bits & bit != 0);
    let maker = made.then_some(ebpf::Task { pid: 0, start: None, name: [0; 16] });
    Origin {
        maker,
        made: 0,
        closer: None,
        accepted,
        listener: 0,
        released,
        ended: false,
        listening: false,
        silent: false,
        multipath: false,
        token: 0,
        netns: 0,
        ports: [0; 2],
        protocol: Protocol::TCP,
    }
}

/// The progress of opening the namespaces of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OpeningName {
    Done,
    UnderWay,
    JustDone,
}

impl From<Opening> for OpeningName {
    fn from(opening: Opening) -> OpeningName {
        match opening {
            Opening::Done => OpeningName::Done,
            Opening::UnderWay => OpeningName::UnderWay,
            Opening::JustDone => OpeningName::JustDone,
        }
    }
}

impl From<OpeningName> for Opening {
    fn from(name: OpeningName) -> Opening {
        match name {
            OpeningName::Done => Opening::Done,
            OpeningName::UnderWay => Opening::UnderWay,
            OpeningName::JustDone => Opening::JustDone,
        }
    }
}

/// The part of a namespace's flows that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CoverageName {
    Whole,
    Interrupted,
    Chosen,
}

impl From<Coverage> for CoverageName {
    fn from(coverage: Coverage) -> CoverageName {
        match coverage {
            Coverage::Whole => CoverageName::Whole,
            Coverage::Interrupted => CoverageName::Interrupted,
            Coverage::Chosen => CoverageName::Chosen,
        }
    }
}

impl From<CoverageName> for Coverage {
    fn from(name: CoverageName) -> Coverage {
        match name {
            CoverageName::Whole => Coverage::Whole,
            CoverageName::Interrupted => Coverage::Interrupted,
            CoverageName::Chosen => Coverage::Chosen,
        }
    }
}
