//! New flows, as they are announced.

use std::os::fd::{AsFd, BorrowedFd};

use super::handshakes::keep_to_handshakes;
use super::{NEW, NEW_GROUP, UPDATE_GROUP, decode, is_established};
use crate::model::flow::Flow;
use crate::netlink::{Netlink, NetlinkError, Subsystem};

/// Receives every flow that begins in the network namespace in which it was opened, with its tuples
/// and without counters.
#[derive(Debug)]
pub(crate) struct NewFlows {
    netlink: Netlink,
    /// Where changes of flows are announced, if anybody wants to know.
    updates: Option<Netlink>,
}

impl NewFlows {
    /// Begins to listen.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`; `EPROTONOSUPPORT` where the kernel has no nfnetlink.
    pub(crate) fn listen() -> std::io::Result<NewFlows> {
        Ok(NewFlows { netlink: Netlink::listen(Subsystem::Netfilter, NEW_GROUP)?, updates: None })
    }

    /// Receives handshakes as well: of every TCP connection at the moment at which its server may
    /// accept it.
    ///
    /// # Errors
    /// As [`NewFlows::listen`].
    pub(crate) fn listen_to_handshakes(&mut self) -> std::io::Result<()> {
        let updates = Netlink::listen(Subsystem::Netfilter, UPDATE_GROUP)?;
        // Without the filter there is only more to read.
        let _ = keep_to_handshakes(&updates);
        self.updates = Some(updates);
        Ok(())
    }

    /// What becomes readable when there is something for [`NewFlows::drain`].
    pub(crate) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(&self.netlink).chain(&self.updates).map(AsFd::as_fd)
    }

    /// Hands on every flow that has begun, then every one whose handshake is done.
    ///
    /// # Errors
    /// What the kernel says.
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

    /// How often new flows were lost since this was asked last, because they were not read in time.
    pub(crate) fn take_lost(&mut self) -> u64 {
        // A handshake that was missed costs nothing but a moment.
        self.netlink.take_lost()
    }
}
