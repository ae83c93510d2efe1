//! The reader: one netlink socket in one network namespace.

use std::os::fd::{AsFd, BorrowedFd};

use super::{
    DELETE, DESTROY_GROUP, DecodeError, GET, GET_STATS, NFGENMSG, decode, entries, question,
};
use crate::model::flow::{Flow, Tuple};
use crate::netlink::wire::Message;
use crate::netlink::{Dump, Netlink, NetlinkError, Subsystem};

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
        let mut count = Count::default();
        self.ended.drain(..).for_each(|flow| count.hand_on(flow, &mut each));
        let dump = self.netlink.dump(GET, &NFGENMSG, |message| count.take(message, &mut each))?;
        Ok(count.dumped(dump, self.netlink.take_lost()))
    }

    /// Hands on the flows that have ended since the last time, then those of the entries with these
    /// tuples (in the default zone) that are there. Where few of many can have changed this costs
    /// less than a dump.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_chosen(
        &mut self,
        chosen: &[Tuple],
        mut each: impl FnMut(&Flow),
    ) -> Result<Dumped, NetlinkError> {
        self.drain()?;
        let mut count = Count::default();
        self.ended.drain(..).for_each(|flow| count.hand_on(flow, &mut each));
        let questions = chosen.iter().map(question);
        self.netlink.ask(GET, questions, |_, answer| {
            // An entry that has left meanwhile is announced, too.
            if let Ok(message) = answer {
                count.take(message, &mut each);
            }
        })?;
        Ok(count.dumped(Dump::Complete, self.netlink.take_lost()))
    }

    /// How many entries the table has; `None` where the kernel doesn't tell (before Linux 5.9).
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn entries(&mut self) -> Result<Option<u64>, NetlinkError> {
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

/// What has been handed on.
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
