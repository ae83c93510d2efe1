//! The reader: one netlink socket in one network namespace.

use std::os::fd::{AsFd, BorrowedFd};

use super::{
    DELETE, DESTROY_GROUP, DecodeError, GET, GET_STATS, NFGENMSG, decode, entries, question,
};
use crate::model::flow::{Flow, Tuple};
use crate::netlink::wire::Message;
use crate::netlink::{Dump, Netlink, NetlinkError, Subsystem};

/// The result of one dump, beside its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dumped {
    /// Whether the table changed during the dump.
    pub dump: Dump,
    /// Number of flows that were handed on.
    pub flows: u64,
    /// Number of messages that were no valid flow.
    pub malformed: u64,
    /// Why the first malformed message was no flow.
    pub first_error: Option<DecodeError>,
    /// Number of times that the kernel dropped announcements of ended flows.
    pub lost: u64,
}

/// Reads flows through one netlink socket, in the network namespace in which it was opened.
///
/// The kernel announces the end of every flow, with its last counters, on the same socket that
/// receives the dumps. So everything comes in the order in which the kernel made it: an end comes
/// before the part of a dump that may show the next flow of the same tuple, even if that one has
/// the same id.
#[derive(Debug)]
pub struct Reader {
    netlink: Netlink,
    ended: Vec<Flow>,
}

impl Reader {
    /// Opens the socket. The first read shows whether the user may dump.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2); `EPROTONOSUPPORT` if the kernel has no nfnetlink.
    pub fn open() -> std::io::Result<Reader> {
        // A user who may not receive ends may not dump either, and the dump's error is the one that
        // is reported.
        let netlink = Netlink::listen(Subsystem::Netfilter, DESTROY_GROUP)
            .or_else(|_| Netlink::open(Subsystem::Netfilter))?;
        Ok(Reader { netlink, ended: Vec::new() })
    }

    /// Becomes readable when [`Reader::drain`] has something to take.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// Takes the announced ends, so that the kernel's buffer never fills. The next [`Reader::read`]
    /// hands them on.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    pub(crate) fn drain(&mut self) -> Result<(), NetlinkError> {
        let ended = &mut self.ended;
        self.netlink.drain(|message| {
            if message.kind == DELETE
                && let Ok(flow) = decode(message.body)
            {
                ended.push(Flow { ended: true, ..flow });
            }
        })
    }

    /// Hands on the flows that have ended since the last time, then dumps the whole table, IPv4 and
    /// IPv6, and hands on every flow in it.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; `EINVAL` if the kernel has no ctnetlink.
    pub(crate) fn read(&mut self, mut each: impl FnMut(&Flow)) -> Result<Dumped, NetlinkError> {
        self.drain()?;
        let mut count = Count::default();
        self.ended.drain(..).for_each(|flow| count.hand_on(flow, &mut each));
        let dump = self.netlink.dump(GET, &NFGENMSG, |message| count.take(message, &mut each))?;
        Ok(count.dumped(dump, self.netlink.take_lost()))
    }

    /// Hands on the flows that have ended since the last time, then those entries with these tuples
    /// (in the default zone) that exist. This costs less than a dump if few of many flows can have
    /// changed.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(crate) fn read_chosen(
        &mut self,
        chosen: &[Tuple],
        mut each: impl FnMut(&Flow),
    ) -> Result<Dumped, NetlinkError> {
        self.drain()?;
        let mut count = Count::default();
        self.ended.drain(..).for_each(|flow| count.hand_on(flow, &mut each));
        let questions = chosen.iter().map(question);
        self.netlink.ask(GET, questions, |_, answer| {
            // An entry that has left the table meanwhile is announced as well.
            if let Ok(message) = answer {
                count.take(message, &mut each);
            }
        })?;
        Ok(count.dumped(Dump::Complete, self.netlink.take_lost()))
    }

    /// Number of entries in the table; `None` if the kernel doesn't report it (before Linux 5.9).
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(crate) fn entries(&mut self) -> Result<Option<u64>, NetlinkError> {
        let mut count = None;
        let ended = &mut self.ended;
        self.netlink.ask(GET_STATS, [NFGENMSG], |place, answer| match (place, answer) {
            (Some(_), Ok(message)) => count = entries(message.body),
            (None, Ok(message)) if message.kind == DELETE => {
                ended.extend(decode(message.body).map(|flow| Flow { ended: true, ..flow }));
            }
            _ => {}
        })?;
        Ok(count)
    }

    /// Reads the whole table without decoding it, which costs what the kernel alone does, and
    /// returns the number of entries. For benchmarks.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn skim(&mut self) -> Result<u64, NetlinkError> {
        let mut entries = 0;
        self.netlink.dump(GET, &NFGENMSG, |_| entries += 1)?;
        Ok(entries)
    }
}

/// Numbers of what was handed on.
#[derive(Default)]
struct Count {
    flows: u64,
    malformed: u64,
    first_error: Option<DecodeError>,
}

impl Count {
    fn hand_on(&mut self, flow: Flow, each: &mut impl FnMut(&Flow)) {
        self.flows += 1;
        each(&flow);
    }

    fn take(&mut self, message: Message<'_>, each: &mut impl FnMut(&Flow)) {
        match decode(message.body) {
            Ok(flow) => self.hand_on(Flow { ended: message.kind == DELETE, ..flow }, each),
            Err(error) => {
                self.malformed += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    fn dumped(self, dump: Dump, lost: u64) -> Dumped {
        let Count { flows, malformed, first_error } = self;
        Dumped { dump, flows, malformed, first_error, lost }
    }
}
