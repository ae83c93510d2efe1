//! The end of every TCP socket, as the kernel announces it.

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
    /// Begins to listen. `None` where the kernel announces nothing (before Linux 4.11, or without
    /// `CONFIG_INET_DIAG`): there the last bytes before an end are missed.
    pub(crate) fn listen() -> Option<Ends> {
        let netlink = Netlink::listen(Subsystem::SockDiag, diag::TCP_DESTROY_GROUPS).ok()?;
        Some(Ends { netlink, flows: Vec::new(), failures: 0 })
    }

    /// Becomes readable when there is something for [`Ends::drain`].
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// Takes what was announced, so that the kernel's buffer never fills.
    pub(crate) fn drain(&mut self) {
        let flows = &mut self.flows;
        let drained = self.netlink.drain(|message| {
            if message.kind == diag::SOCK_DIAG_BY_FAMILY
                && let Ok(socket) = diag::decode(Protocol::TCP, message.body)
            {
                flows.extend(socket.flow().map(without_fin));
            }
        });
        // A read that fails has lost what it would have brought, like one that came too late.
        self.failures += u64::from(drained.is_err());
    }

    /// The flows that were drained since the last time, each as its socket counted it to the end.
    pub(crate) fn take(&mut self) -> Vec<Flow> {
        std::mem::take(&mut self.flows)
    }

    /// How often announcements were lost since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u64 {
        self.netlink.take_lost() + std::mem::take(&mut self.failures)
    }
}

/// Takes the peer's FIN off what was received: TCP counts it like a byte, and an announced end
/// doesn't tell any more whether there was one. There was, unless the connection was reset.
fn without_fin(mut flow: Flow) -> Flow {
    if let Some(counters) = &mut flow.counters {
        counters.reply = counters.reply.saturating_sub(1);
    }
    flow
}
