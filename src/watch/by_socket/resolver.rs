//! Whose the bytes of a socket are, and on whose account they go.

use std::collections::HashSet;

use super::makers::Makers;
use crate::attribution::{self, Candidates, Judge, Reason, Remembered, Resolution, Share, whose};
use crate::ebpf::{Counted, Origin, Passing, Reader, TICK};
use crate::flow::Protocol;
use crate::ledger::Ledger;
use crate::processes::{Ownership, ProcessId};
use crate::sockets::Inode;
use crate::traffic::Traffic;
use crate::watch::Map;

/// For how many sockets with traffic it is asked at every look who holds them, each of which takes a
/// link to be read; beyond that they are asked for in turn, each at every eighth look.
const CONFIRMED: u32 = 4096;
const CONFIRM_ROUND: u32 = 8;

/// Later than any process has started.
const NOW: u64 = u64::MAX / TICK;

/// What is known at a look.
pub(super) struct OwnerResolver<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) makers: Makers<'a>,
    /// All sockets by their cookies, and those of the list before.
    pub(super) listed: &'a [Map<u64, Option<Inode>>; 2],
    /// The network namespace that is watched if it is but one.
    pub(super) only: Option<u64>,
    /// This process, and the ports of its pipes.
    pub(super) own: Option<ProcessId>,
    pub(super) pipes: &'a HashSet<u16>,
    pub(super) ledger: &'a mut Ledger,
    /// What the kernel's own sockets have counted of pings.
    pub(super) pings: &'a mut Traffic,
    /// Who let go of which Multipath TCP connection, by its token.
    pub(super) closed: &'a Map<u32, (Passing, u32)>,
    /// Whether sockets or their holders were not read yet.
    pub(super) unread: bool,
    pub(super) confirmed: u32,
}

impl Judge for OwnerResolver<'_> {
    /// The subflow of a Multipath TCP connection is let go of with that: nobody else had it.
    fn origin(&self, of: &Counted) -> Option<Origin> {
        let origin = self.reader.origin(of)?;
        let whole = || self.closed.get(&origin.token).filter(|_| origin.token != 0);
        match whole() {
            Some((closer, _)) if !origin.multipath => {
                Some(Origin { closer: Some(*closer), released: true, ..origin })
            }
            _ => Some(origin),
        }
    }

    fn whose(
        &mut self,
        counted: &Counted,
        origin: &Origin,
        remembered: &Remembered,
    ) -> Option<Resolution> {
        let find = |cookie| self.listed.iter().find_map(|listed| listed.get(&cookie));
        let inode = counted.inode.or(remembered.inode);
        let inode = inode.or_else(|| find(counted.cookie).copied().flatten());
        // One of before the start is this namespace's if it is or was listed here.
        let was_listed =
            || inode.is_some() || find(counted.cookie).is_some() || find(origin.listener).is_some();
        if self.only.is_some_and(|only| only != origin.netns) {
            if origin.netns != 0 {
                return None;
            }
            // Where the kernel doesn't let its structures be read.
            if !was_listed() {
                // The socket at which it was accepted is of before the start, and would be listed if it were here.
                if origin.listener != 0 {
                    return None;
                }
                let to = Err(Reason::Exited);
                return origin.released.then_some(Resolution { to, held: false, inode: None });
            }
        }
        let is_turn = || (self.makers.looks + counted.slot).is_multiple_of(CONFIRM_ROUND);
        let holder = match (remembered.held, inode.filter(|_| !origin.released)) {
            (Some(held), _) if self.confirmed >= CONFIRMED && !is_turn() => {
                Some(Ownership::Process(held))
            }
            (_, Some(inode)) => {
                self.confirmed += 1;
                Some(self.makers.owners.owner(inode))
            }
            // It may be listed later.
            (_, None) => (self.unread && !origin.released).then_some(Ownership::Unread),
        };
        let to = match attribution::holder(origin, holder, remembered.held) {
            Some(process) => Ok(process),
            None => {
                let find = |maker| self.makers.find(&maker, origin.made / TICK);
                let maker = origin.maker.map(find);
                let closer = origin.closer.map(|closer| self.makers.find(&closer, NOW));
                whose(origin, &Candidates { holder, maker, closer }, remembered.held)
            }
        };
        let held = matches!(holder, Some(Ownership::Process(_)));
        Some(Resolution { to, held, inode })
    }

    fn take(&mut self, origin: &Origin, mut share: Share) {
        if origin.protocol.is_icmp() && share.to == Err(Reason::Kernel) {
            *self.pings += share.traffic;
        }
        if self.own.is_some_and(|own| share.to == Ok(own)) && self.is_of_pipe(origin) {
            share.to = Err(Reason::OwnPipe);
        }
        self.makers.credit(self.ledger, &share);
    }
}

impl OwnerResolver<'_> {
    fn is_of_pipe(&self, origin: &Origin) -> bool {
        let ports = &origin.ports;
        origin.protocol == Protocol::TCP && ports.iter().any(|port| self.pipes.contains(port))
    }
}
