//! Announced ends of TCP sockets.

use std::os::fd::{AsFd, BorrowedFd};

use super::diag;
use crate::model::flow::{Flow, Protocol};
use crate::netlink::{Netlink, Subsystem};

/// Receives the end of every TCP socket of the network namespace in which it was opened, with its
/// last counters.
#[derive(Debug)]
pub(crate) struct Ends {
    netlink: Netlink,
    flows: Vec<Flow>,
    failures: u64,
}

impl Ends {
    /// Subscribes to the ends. `None` if the kernel announces none (before Linux 4.11, or without
    /// `CONFIG_INET_DIAG`): then the last bytes before an end are missed.
    pub(crate) fn listen() -> Option<Ends> {
        let netlink = Netlink::listen(Subsystem::SockDiag, diag::TCP_DESTROY_GROUPS).ok()?;
        Some(Ends { netlink, flows: Vec::new(), failures: 0 })
    }

    /// Becomes readable when [`Ends::drain`] has something to take.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// Takes the announcements, so that the kernel's buffer never fills.
    pub(crate) fn drain(&mut self) {
        let flows = &mut self.flows;
        let drained = self.netlink.drain(|message| {
            if message.kind == diag::SOCK_DIAG_BY_FAMILY
                && let Ok(socket) = diag::decode(Protocol::TCP, message.body)
            {
                flows.extend(socket.flow().map(without_fin));
            }
        });
        // A failed read has lost what it would have brought, like a late one.
        self.failures += u64::from(drained.is_err());
    }

    /// The flows of the ended sockets since the last call, with their last counters.
    pub(crate) fn take(&mut self) -> Vec<Flow> {
        std::mem::take(&mut self.flows)
    }

    /// Number of times that the kernel dropped announcements since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        self.netlink.take_lost() + std::mem::take(&mut self.failures)
    }
}

/// Subtracts the peer's FIN from the received bytes: TCP counts it as a byte, and an announced end
/// doesn't show whether there was one. There was, unless the connection was reset.
fn without_fin(mut flow: Flow) -> Flow {
    if let Some(counters) = &mut flow.counters {
        counters.reply = counters.reply.saturating_sub(1);
    }
    flow
}
