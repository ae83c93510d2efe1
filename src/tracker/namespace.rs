//! The kernel's tables in one network namespace.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::addresses::{self, LocalAddresses};
use crate::conntrack::ctnetlink::NewFlows;
use crate::conntrack::{self, sysctls::Sysctls};
use crate::model::flow::{Address, Flow, Tuple};
use crate::netlink::NetlinkError;
use crate::netns::{NetnsId, NetnsKey};
use crate::sockets::{self, Ends, Finder, Inode, Listing, Socket, SocketTable};

/// What is opened in a namespace beside its sockets and addresses. Nothing else is opened: a socket with
/// announcements of ended flows that is never read would fill the kernel's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opens {
    /// Connection tracking's table, and the announcements of new flows.
    pub(crate) flows: bool,
    /// The announced ends of TCP sockets, and their counters.
    pub(crate) ends: bool,
}

/// Connection tracking's table of a namespace.
#[derive(Debug)]
pub(crate) struct FlowTable {
    pub(crate) reader: conntrack::Reader,
    /// The sysctls of connection tracking when it was opened.
    pub(crate) sysctls: Sysctls,
    /// The whole table, read in advance for a look; see [`Namespace::read_ahead`].
    pub(crate) ahead: Option<Result<(conntrack::Table, Chunks), conntrack::ReadError>>,
}

/// Flows in pieces, each of which is freed as soon as it was used: attribution remembers them meanwhile, and the
/// table may have hundreds of thousands.
pub(crate) type Chunks = Vec<Vec<Flow>>;

/// Flows in a piece.
const CHUNK: usize = 4096;

impl FlowTable {
    /// Opens the table of this thread's namespace; for the program's `own`, with all readers.
    pub(crate) fn open(proc: &Path, own: bool) -> FlowTable {
        FlowTable {
            reader: match own {
                true => conntrack::Reader::open(proc),
                // The other readers read the table of the program's own namespace.
                false => conntrack::Reader::by_netlink(),
            },
            sysctls: conntrack::sysctls::read(proc),
            ahead: None,
        }
    }

    /// Reads the whole table for the next look.
    pub(crate) fn read_ahead(&mut self) {
        let mut chunks = Chunks::new();
        let read = self.reader.read(|flow| match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(*flow),
            _ => {
                // Most tables are small.
                let capacity = if chunks.is_empty() { 0 } else { CHUNK };
                let mut chunk = Vec::with_capacity(capacity);
                chunk.push(*flow);
                chunks.push(chunk);
            }
        });
        self.ahead = Some(read.map(|table| (table, chunks)));
    }
}

/// The kernel's tables in one network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) key: NetnsKey,
    /// `None` for the program's own namespace, which exists as long as the program.
    pub(crate) id: Option<NetnsId>,
    pub(crate) sockets: sockets::Reader,
    pub(crate) table: SocketTable,
    /// The list of its sockets, if it was read in advance for a look.
    listed_ahead: Option<Result<Listing, sockets::ReadError>>,
    pub(crate) flows: Option<FlowTable>,
    /// `None` also if the kernel announces no ends.
    pub(crate) ends: Option<Ends>,
    pub(crate) local: LocalAddresses,
    addresses: addresses::Reader,
    pub(crate) finder: Option<Finder>,
}

impl Namespace {
    /// Opens the tables of this thread's network namespace, which is that of `process` (`self`, or a
    /// pid).
    ///
    /// # Errors
    /// If its addresses can't be listed.
    pub(crate) fn open(
        opens: Opens,
        key: NetnsKey,
        id: Option<NetnsId>,
        proc: &Path,
        process: &str,
    ) -> Result<Namespace, NetlinkError> {
        let mut addresses = addresses::Reader::open()?;
        let own = key == NetnsKey::OWN;
        Ok(Namespace {
            key,
            id,
            sockets: match own {
                true => sockets::Reader::open(proc),
                false => sockets::Reader::open(&proc.join(process)),
            },
            table: SocketTable::default(),
            listed_ahead: None,
            flows: opens.flows.then(|| FlowTable::open(proc, own)),
            ends: if opens.ends { Ends::listen() } else { None },
            local: addresses.read()?,
            addresses,
            finder: Finder::open().ok(),
        })
    }

    /// Reads everything for the first time, for the next look. Sockets come first: the entry of a flow
    /// outlives its socket.
    pub(crate) fn read_ahead(&mut self, counters: bool) {
        if let Some(ends) = &mut self.ends {
            ends.drain();
        }
        self.listed_ahead = Some(self.sockets.read(counters, &mut self.table));
        if let Some(flows) = &mut self.flows {
            flows.read_ahead();
        }
    }

    /// Lists the sockets, with their `counters` if asked for, unless they were listed in advance.
    pub(crate) fn list_sockets(&mut self, counters: bool) -> Result<Listing, sockets::ReadError> {
        // Ends first: sockets that end from now on are still listed, and announced later.
        // Conntrack's reader does the same by itself.
        if let Some(ends) = &mut self.ends {
            ends.drain();
        }
        match self.listed_ahead.take() {
            Some(listing) => listing,
            None => self.sockets.read(counters, &mut self.table),
        }
    }

    /// Whether its sockets were listed in advance and not used yet.
    pub(crate) fn is_listed_ahead(&self) -> bool {
        self.listed_ahead.is_some()
    }

    pub(crate) fn refresh_addresses(&mut self) {
        // If addresses can't be listed now, the old ones are kept.
        if let Ok(local) = self.addresses.read() {
            self.local = local;
        }
    }

    /// Reads single flows by their original tuples (in the default zone). From conntrack, those that have ended
    /// since the last reading come first. If conntrack isn't read, TCP sockets with their counters and
    /// retransmissions.
    pub(crate) fn ask(&mut self, tuples: &[Tuple], mut each: impl FnMut(&Flow)) {
        if let Some(flows) = &mut self.flows {
            // Flows that can't be read now are not handed on, which the caller has to handle.
            drop(flows.reader.read_chosen(tuples, each));
            return;
        }
        let Some(finder) = &mut self.finder else { return };
        let local = &self.local;
        let interface = |address: &Address| local.interface(address);
        let _ = finder.find_counted(tuples, interface, |_, socket| {
            socket.and_then(|socket| socket.flow_with_retransmissions()).iter().for_each(&mut each);
        });
    }

    /// The socket at the end of a flow that sends along `tuple`. Of several that share its address, the
    /// one that the kernel would choose.
    pub(crate) fn socket_of(&mut self, tuple: &Tuple) -> Option<&Socket> {
        let found = self.table.find(tuple)?;
        if found.sockets().nth(1).is_none() {
            return found.sockets().next();
        }
        let chosen = choose(&mut self.finder, &self.local, tuple)?;
        found.sockets().find(|socket| socket.inode == Some(chosen))
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let flows = self.flows.as_ref().and_then(|flows| flows.reader.events());
        flows.into_iter().chain(self.ends.as_ref().map(Ends::events))
    }

    pub(crate) fn drain(&mut self) {
        if let Some(flows) = &mut self.flows {
            flows.reader.drain();
        }
        if let Some(ends) = &mut self.ends {
            ends.drain();
        }
    }
}

/// Opens connection tracking's table in the namespace of this thread, and the announcements of new
/// flows.
pub(crate) fn open_flows(proc: &Path, own: bool) -> (FlowTable, Option<NewFlows>) {
    (FlowTable::open(proc, own), NewFlows::listen().ok())
}

/// Of several sockets that share an address, the one that the kernel would choose for a packet which
/// comes back along `tuple`.
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
