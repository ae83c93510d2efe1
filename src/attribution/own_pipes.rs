//! Traffic of the program's own pipes.

use std::collections::HashSet;

use super::Share;
use crate::model::flow::{Flow, Protocol};
use crate::model::owner::{Owner, Reason};
use crate::processes::ProcessId;

/// The pipes of this process, which account the bytes that they forward themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnPipes {
    /// This process.
    pub process: Option<ProcessId>,
    /// The local and the remote ports of its pipes.
    pub ports: HashSet<u16>,
}

impl OwnPipes {
    /// The share of a socket or flow with one of these ports: bytes of this process's own pipes have no
    /// process.
    pub(crate) fn without(&self, protocol: Protocol, ports: &[u16], share: Share) -> Share {
        Share { to: self.owner(protocol, ports, share.to), ..share }
    }

    /// As [`OwnPipes::without`], of a flow.
    pub(crate) fn without_flow(&self, flow: &Flow, share: Share) -> Share {
        self.without(flow.original.protocol, &ports(flow), share)
    }

    /// The owner instead of this process.
    pub(crate) fn owner(&self, protocol: Protocol, ports: &[u16], owner: Owner) -> Owner {
        let is_own = self.process.is_some_and(|own| owner == Owner::Process(own));
        match is_own && self.are_of_pipe(protocol, ports) {
            true => Owner::Nobody(Reason::OwnPipe),
            false => owner,
        }
    }

    /// Whether a flow of this process belongs to one of its pipes. A connection for another purpose,
    /// such as to a name server, uses none of their ports.
    fn are_of_pipe(&self, protocol: Protocol, ports: &[u16]) -> bool {
        protocol == Protocol::TCP && ports.iter().any(|port| self.ports.contains(port))
    }
}

/// The ports of a flow, before and after address translation.
pub(crate) fn ports(flow: &Flow) -> [u16; 4] {
    let [original, reply] = [&flow.original, &flow.reply];
    [&original.source, &original.destination, &reply.source, &reply.destination].map(|e| e.port)
}
