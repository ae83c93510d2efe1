//! What is read of one network namespace.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::dump_policy::DumpPolicy;
use crate::addresses::{self, LocalAddresses};
use crate::conntrack::{self, state::State};
use crate::flow::{Address, Flow, Tuple};
use crate::netlink::NetlinkError;
use crate::netns::{NetnsId, NetnsKey};
use crate::sockets::{self, Ends, Finder, Inode, Listing, Socket, SocketTable};
use crate::watch::Source;

/// What counts, and only that: a socket that is told the ends of flows and never read would fill
/// the kernel's buffer.
#[derive(Debug)]
pub(crate) enum Counting {
    Conntrack(conntrack::Reader),
    /// The sockets are listed in any case; their ends are announced by most kernels.
    Sockets(Option<Ends>),
    /// Sockets are counted for all namespaces at once.
    Apart,
}

/// What was read of a network namespace by another thread than the one that looks.
#[derive(Debug)]
struct Ahead {
    sockets: Option<Result<Listing, sockets::ReadError>>,
    /// The whole table of flows, where these are counted.
    flows: Option<Result<(conntrack::Table, Vec<Flow>), conntrack::ReadError>>,
}

/// The kernel's tables in one network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) key: NetnsKey,
    /// `None` for the program's own, which is there as long as the program is.
    pub(crate) id: Option<NetnsId>,
    pub(crate) counting: Counting,
    pub(crate) sockets: sockets::Reader,
    pub(crate) table: SocketTable,
    /// What was read before the look for which it is; see [`Namespace::read_ahead`].
    ahead: Option<Ahead>,
    pub(crate) local: LocalAddresses,
    addresses: addresses::Reader,
    finder: Option<Finder>,
    /// What connection tracking was set to when it was opened.
    state: State,
    pub(crate) dump_policy: DumpPolicy,
}

impl Namespace {
    /// Opens the tables of the network namespace of this thread, in which `process` is (`self`, or a
    /// process's number).
    ///
    /// # Errors
    /// If its addresses can't be listed at all.
    pub(crate) fn open(
        source: Source,
        key: NetnsKey,
        id: Option<NetnsId>,
        proc: &Path,
        process: &str,
    ) -> Result<Namespace, NetlinkError> {
        let addresses = addresses::Reader::open()?;
        let own = key == NetnsKey::OWN;
        let mut readers = Namespace {
            key,
            id,
            counting: match source {
                // The other ways to read a table lead to the program's own.
                Source::Conntrack if own => Counting::Conntrack(conntrack::Reader::open(proc)),
                Source::Conntrack => Counting::Conntrack(conntrack::Reader::by_netlink()),
                Source::Sockets => Counting::Sockets(Ends::listen()),
                Source::Ebpf => Counting::Apart,
            },
            sockets: match own {
                true => sockets::Reader::open(proc),
                false => sockets::Reader::open(&proc.join(process)),
            },
            table: SocketTable::default(),
            ahead: None,
            local: LocalAddresses::default(),
            addresses,
            finder: Finder::open().ok(),
            state: conntrack::state::read(proc),
            dump_policy: DumpPolicy::default(),
        };
        readers.local = readers.addresses.read()?;
        Ok(readers)
    }

    /// Reads all of it for the first time, for the next look. The sockets come first: see there.
    pub(crate) fn read_ahead(&mut self, source: Source) {
        if let Counting::Sockets(Some(ends)) = &mut self.counting {
            ends.drain();
        }
        let sockets = self.sockets.read(source == Source::Sockets, &mut self.table);
        let flows = match &mut self.counting {
            Counting::Conntrack(reader) => {
                let mut flows = Vec::new();
                let read = reader.read(|flow| flows.push(*flow));
                Some(read.map(|table| (table, flows)))
            }
            Counting::Sockets(_) | Counting::Apart => None,
        };
        self.ahead = Some(Ahead { sockets: Some(sockets), flows });
    }

    /// Lists the sockets, with their counters where they count, unless that was done ahead.
    pub(crate) fn list_sockets(&mut self, counters: bool) -> Result<Listing, sockets::ReadError> {
        match self.ahead.as_mut().and_then(|ahead| ahead.sockets.take()) {
            Some(listing) => listing,
            None => self.sockets.read(counters, &mut self.table),
        }
    }

    /// Whether its sockets were listed ahead, and by no look yet.
    pub(crate) fn is_listed_ahead(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.sockets.is_some())
    }

    pub(crate) fn refresh_addresses(&mut self) {
        // Addresses that can't be listed now have hardly changed.
        if let Ok(local) = self.addresses.read() {
            self.local = local;
        }
    }

    /// What is read, and beside it what there is to find the ends of flows.
    pub(crate) fn split(&mut self) -> (Reading<'_>, NetnsKey, &SocketTable, &LocalAddresses) {
        let Namespace { key, counting, table, ahead, local, finder, dump_policy, state, .. } = self;
        let ahead = ahead.take().and_then(|ahead| ahead.flows);
        (Reading { counting, ahead, finder, dump_policy, state }, *key, table, local)
    }

    /// Reads single flows by their tuples out of the originator (in the default zone): of conntrack those
    /// that have ended since the last reading come first.
    pub(crate) fn ask(&mut self, tuples: &[Tuple], mut each: impl FnMut(&Flow)) {
        match &mut self.counting {
            // Flows that can't be read now are not handed on: whoever asks knows what that means.
            Counting::Conntrack(reader) => drop(reader.read_chosen(tuples, each)),
            Counting::Sockets(_) => {
                let Some(finder) = &mut self.finder else { return };
                let local = &self.local;
                let interface = |address: &Address| local.interface(address);
                let _ = finder.find_counted(tuples, interface, |_, socket| {
                    socket.and_then(|socket| socket.flow()).iter().for_each(&mut each);
                });
            }
            Counting::Apart => {}
        }
    }

    /// The socket at the end of a flow that sends along `tuple`: of several that share its address the one
    /// that the kernel would choose.
    pub(crate) fn socket_of(&mut self, tuple: &Tuple) -> Option<&Socket> {
        let found = self.table.find(tuple)?;
        if found.sockets().nth(1).is_none() {
            return found.sockets().next();
        }
        let chosen = choose(&mut self.finder, &self.local, tuple)?;
        found.sockets().find(|socket| socket.inode == Some(chosen))
    }

    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        match &self.counting {
            Counting::Conntrack(reader) => reader.events(),
            Counting::Sockets(ends) => ends.as_ref().map(Ends::events),
            Counting::Apart => None,
        }
    }

    pub(crate) fn drain(&mut self) {
        match &mut self.counting {
            Counting::Conntrack(reader) => reader.drain(),
            Counting::Sockets(Some(ends)) => ends.drain(),
            Counting::Sockets(None) | Counting::Apart => {}
        }
    }
}

/// What changes while flows are read.
pub(crate) struct Reading<'a> {
    pub(crate) counting: &'a mut Counting,
    /// The whole table, if it was read ahead.
    pub(crate) ahead: Option<Result<(conntrack::Table, Vec<Flow>), conntrack::ReadError>>,
    pub(crate) finder: &'a mut Option<Finder>,
    pub(crate) dump_policy: &'a mut DumpPolicy,
    pub(crate) state: &'a State,
}

/// The socket that the kernel would choose for a packet that comes back along `tuple`, where several
/// share its address.
pub(crate) fn choose(
    finder: &mut Option<Finder>,
    local: &LocalAddresses,
    tuple: &Tuple,
) -> Option<Inode> {
    let finder = finder.as_mut().filter(|_| Finder::knows(tuple.protocol))?;
    let mut chosen = None;
    let interface = |address: &Address| local.interface(address);
    finder.find(&[*tuple], interface, |_, socket| chosen = socket.and_then(|s| s.inode)).ok()?;
    chosen
}
