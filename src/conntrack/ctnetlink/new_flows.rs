//! Announcements of new flows.

use std::os::fd::{AsFd, BorrowedFd};

use super::handshakes::keep_to_handshakes;
use super::{NEW, NEW_GROUP, UPDATE_GROUP, decode, is_established};
use crate::model::flow::Flow;
use crate::netlink::{Netlink, NetlinkError, Subsystem};

/// Receives every flow that starts in the network namespace in which it was opened, with its tuples
/// and without counters.
#[derive(Debug)]
pub(crate) struct NewFlows {
    netlink: Netlink,
    /// Announcements of changed flows, if they are subscribed to.
    updates: Option<Netlink>,
}

impl NewFlows {
    /// Subscribes to new flows.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; `EPROTONOSUPPORT` if the kernel has no nfnetlink.
    pub(crate) fn listen() -> std::io::Result<NewFlows> {
        Ok(NewFlows { netlink: Netlink::listen(Subsystem::Netfilter, NEW_GROUP)?, updates: None })
    }

    /// Subscribes to handshakes as well: to each TCP connection at the moment from which its server
    /// may accept it.
    ///
    /// # Errors
    /// As [`NewFlows::listen`].
    pub(crate) fn listen_to_handshakes(&mut self) -> std::io::Result<()> {
        let updates = Netlink::listen(Subsystem::Netfilter, UPDATE_GROUP)?;
        // Without the filter there are only more messages to read.
        let _ = keep_to_handshakes(&updates);
        self.updates = Some(updates);
        Ok(())
    }

    /// Descriptors that become readable when [`NewFlows::drain`] has something to take.
    pub(crate) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(&self.netlink).chain(&self.updates).map(AsFd::as_fd)
    }

    /// Hands on every flow that has started, then every one whose handshake is complete.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    pub(crate) fn drain(
        &mut self,
        mut born: impl FnMut(Flow),
        mut established: impl FnMut(Flow),
    ) -> Result<(), NetlinkError> {
        self.netlink.drain(|message| {
            if message.kind == NEW
                && let Ok(flow) = decode(message.body)
            {
                born(flow);
            }
        })?;
        let Some(updates) = &mut self.updates else { return Ok(()) };
        updates.drain(|message| {
            if message.kind == NEW
                && is_established(message.body)
                && let Ok(flow) = decode(message.body)
            {
                established(flow);
            }
        })
    }

    /// Number of times that the kernel dropped new flows since the last call, because they were not
    /// read in time.
    pub(crate) fn take_lost(&mut self) -> u64 {
        // A missed handshake only costs a moment.
        self.netlink.take_lost()
    }
}
