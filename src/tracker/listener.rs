//! The announcements of one network namespace, and queries in it.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::addresses::{self, LocalAddresses};
use crate::conntrack::ctnetlink::NewFlows;
use crate::model::flow::{Address, Flow, Tuple};
use crate::netlink::NetlinkError;
use crate::netns::{self, NetnsId, NetnsKey};
use crate::sockets::{Finder, RawSockets, Socket};

/// How long a namespace is new: its addresses are still being assigned.
const NEW: Duration = Duration::from_secs(5);
/// Minimum time between two listings of its addresses, for a new namespace and for another.
const OFTEN: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_secs(1);

/// Receives announcements and answers queries in one network namespace.
#[derive(Debug)]
pub(super) struct NetnsListener {
    pub(super) key: NetnsKey,
    pub(super) id: Option<NetnsId>,
    /// `None` if flows are not counted, or the kernel has no connection tracking.
    new_flows: Option<NewFlows>,
    finder: Finder,
    /// The sockets that the finder doesn't know.
    pub(super) raw: RawSockets,
    addresses: addresses::Reader,
    pub(super) local: LocalAddresses,
    opened: Instant,
    listed: Instant,
    /// Whether handshakes are announced too; if the kernel refuses, this is not tried again.
    handshakes: bool,
}

impl NetnsListener {
    /// Opens the announcements of this thread's network namespace.
    ///
    /// # Errors
    /// Those of opening the sockets.
    pub(super) fn open(key: NetnsKey, flows: bool) -> io::Result<NetnsListener> {
        let mut addresses = addresses::Reader::open()?;
        let local = addresses.read().map_err(io::Error::other)?;
        let now = Instant::now();
        Ok(NetnsListener {
            key,
            id: netns::of(Path::new("/proc"), "thread-self").ok(),
            new_flows: if flows { NewFlows::listen().ok() } else { None },
            finder: Finder::open()?,
            raw: RawSockets::open(Path::new("/proc/thread-self/net")),
            addresses,
            local,
            opened: now,
            listed: now,
            handshakes: false,
        })
    }

    pub(super) fn listens(&self) -> bool {
        self.new_flows.is_some()
    }

    /// Stops the announcements of new flows.
    pub(super) fn stop_following(&mut self) {
        self.new_flows = None;
    }

    /// Uses these announcements of new flows, unless it has some already.
    pub(super) fn follow(&mut self, new_flows: NewFlows) -> bool {
        let is_new = self.new_flows.is_none();
        self.new_flows.get_or_insert(new_flows);
        is_new
    }

    pub(super) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.new_flows.iter().flat_map(NewFlows::events)
    }

    /// Hands on announcements: flows that started, then those whose handshake is complete. Returns
    /// how often the kernel dropped some.
    pub(super) fn drain(
        &mut self,
        mut born: impl FnMut(NetnsKey, Flow),
        mut established: impl FnMut(NetnsKey, Flow),
    ) -> u64 {
        let Some(new_flows) = &mut self.new_flows else { return 0 };
        let key = self.key;
        let drained = new_flows.drain(|flow| born(key, flow), |flow| established(key, flow));
        // A read that fails has lost what it would have brought.
        new_flows.take_lost() + u64::from(drained.is_err())
    }

    /// Subscribes to handshakes. Returns whether that is new.
    pub(super) fn listen_to_handshakes(&mut self) -> bool {
        let Some(new_flows) = &mut self.new_flows else { return false };
        if self.handshakes {
            return false;
        }
        self.handshakes = true;
        new_flows.listen_to_handshakes().is_ok()
    }

    /// Finds the sockets at the ends that send along these tuples: see [`Finder::find`].
    pub(super) fn find(
        &mut self,
        tuples: &[Tuple],
        each: impl FnMut(usize, Option<Socket>),
    ) -> Result<(), NetlinkError> {
        let NetnsListener { finder, local, .. } = self;
        finder.find(tuples, |address| local.interface(address), each)
    }

    /// Whether this namespace has the address, and it is unique to it.
    pub(super) fn is_known_as(&self, address: &Address) -> bool {
        self.local.is_known_as(address)
    }

    /// Lists the addresses again, if they may have changed. Returns whether it did.
    pub(super) fn refresh(&mut self, now: Instant) -> bool {
        let patience = if now - self.opened < NEW { OFTEN } else { SELDOM };
        if now - self.listed < patience {
            return false;
        }
        self.listed = now;
        match self.addresses.read() {
            Ok(local) => {
                let changed = local != self.local;
                self.local = local;
                changed
            }
            Err(_) => false,
        }
    }
}
