//! Finds the owner of a socket that was counted in the kernel.

use super::Map;
use crate::attribution::{Candidates, Remembered, Resolution, holder, resolve};
use crate::ebpf::{Counted, Origin, TICK, Task};
use crate::model::owner::{Comm, Owner, Reason};
use crate::processes::{Owners, Ownership, ProcessId};
use crate::recording::Found;
use crate::sockets::Inode;

/// Number of sockets with traffic whose holder is confirmed at every look, which reads a link each.
/// Further ones take turns, each at every eighth look.
const CONFIRMED: u32 = 4096;
const CONFIRM_ROUND: u32 = 8;

/// A time later than the start of any process.
const NOW: u64 = u64::MAX / TICK;

/// The knowledge at a look.
pub(super) struct OwnerResolver<'a> {
    pub(super) owners: &'a mut Owners,
    pub(super) looks: u32,
    /// All sockets by their cookies, as in this list and the one before.
    pub(super) listed: &'a [Map<u64, Option<Inode>>; 2],
    /// The watched network namespace, if there is only one.
    pub(super) only: Option<u64>,
    /// Whether sockets or their holders were not read yet.
    pub(super) unread: bool,
    /// The processes found at the socket that was resolved last.
    pub(super) found: Option<Found>,
}

impl OwnerResolver<'_> {
    /// The owner of a socket; `None` if it is not to be accounted. `confirmed` counts the holders
    /// that were confirmed.
    pub(super) fn resolve(
        &mut self,
        counted: &Counted,
        origin: &Origin,
        remembered: &Remembered,
        confirmed: &mut u32,
    ) -> Option<Resolution> {
        let find = |cookie| self.listed.iter().find_map(|listed| listed.get(&cookie));
        let inode = counted.inode.or(remembered.inode);
        let inode = inode.or_else(|| find(counted.cookie).copied().flatten());
        // A socket from before the start is in this namespace if it is or was listed here.
        let was_listed =
            || inode.is_some() || find(counted.cookie).is_some() || find(origin.listener).is_some();
        if self.only.is_some_and(|only| only != origin.netns) {
            if origin.netns != 0 {
                return None;
            }
            // The kernel does not let its structures be read.
            if !was_listed() {
                // Its listening socket is from before the start, and would be listed if it were
                // here.
                if origin.listener != 0 {
                    return None;
                }
                self.found = Some(Found::default());
                let to = Reason::Exited.into();
                return origin.released.then_some(Resolution { to, held: false, inode: None });
            }
        }
        let is_turn = || (self.looks + counted.slot).is_multiple_of(CONFIRM_ROUND);
        let now = match (remembered.held, inode.filter(|_| !origin.released)) {
            (Some(held), _) if *confirmed >= CONFIRMED && !is_turn() => {
                Some(Ownership::Process(held))
            }
            (_, Some(inode)) => {
                *confirmed += 1;
                Some(self.owners.owner(inode))
            }
            // It may be listed later.
            (_, None) => (self.unread && !origin.released).then_some(Ownership::Unread),
        };
        let mut found = Found { now, inode, ..Found::default() };
        let to = match holder(origin, now, remembered.held) {
            Some(process) => process.into(),
            None => {
                let maker = origin.maker.map(|maker| self.task(&maker, origin.made / TICK));
                let closer = origin.closer.map(|closer| self.task(&closer, NOW));
                found = Found { maker, closer, ..found };
                resolve(origin, &Candidates { holder: now, maker, closer }, remembered.held)
            }
        };
        self.found = Some(found);
        let held = matches!(now, Some(Ownership::Process(_)));
        Some(Resolution { to, held, inode })
    }

    /// The process that the kernel saw, which had its pid at that time, in clock ticks since boot. A process
    /// of which nothing else is known gets its short name. If its start was not seen, neither by the kernel
    /// nor in `/proc`, it has no identity.
    fn task(&mut self, task: &Task, at: u64) -> Owner {
        let Task { pid, start, name } = *task;
        let (names, comm) = (self.owners.names(), Comm(name));
        let known = match start {
            Some(start_time) => Some(ProcessId { start_time, pid }),
            None => self.owners.by_number(pid, at).or_else(|| names.by_number(pid, at)),
        };
        let Some(id) = known else { return Owner::Unseen { pid, comm } };
        if names.described(id).is_none() {
            names.seen(id, comm.bytes());
        }
        id.into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A number and the time at which a socket was made are no identity.
    #[test]
    fn a_process_that_nobody_has_seen_has_an_identity_only_where_the_kernel_says_when_it_started() {
        let mut owners = Owners::open(Path::new("/proc")).unwrap();
        let listed = Default::default();
        let mut resolver = OwnerResolver {
            owners: &mut owners,
            looks: 1,
            listed: &listed,
            only: None,
            unread: false,
            found: None,
        };
        let name = *b"gone\0\0\0\0\0\0\0\0\0\0\0\0";
        let task = Task { pid: u32::MAX, start: None, name };
        let unseen = Owner::Unseen { pid: u32::MAX, comm: Comm(name) };
        assert_eq!(resolver.task(&task, 7), unseen);
        assert_eq!(resolver.task(&task, 7), unseen, "it was learnt from what was asked");
        let id = ProcessId { start_time: 5, pid: u32::MAX };
        assert_eq!(resolver.task(&Task { start: Some(5), ..task }, 7), Owner::Process(id));
        assert_eq!(&*resolver.owners.described(id).unwrap().command_line, b"[gone]");
        // From now on a process is known that had the pid at that time.
        assert_eq!(resolver.task(&task, 7), Owner::Process(id));
        assert_eq!(resolver.task(&task, 4), unseen);
    }
}
