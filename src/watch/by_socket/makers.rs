//! Who made a socket, and who let go of it.

use crate::attribution::Share;
use crate::ebpf::Passing;
use crate::ledger::Ledger;
use crate::processes::{Owners, ProcessId};
use crate::watch::flows;

/// Who the processes are that the kernel has seen in passing.
pub(super) struct Makers<'a> {
    pub(super) owners: &'a mut Owners,
    pub(super) looks: u32,
}

impl Makers<'_> {
    /// The process that the kernel saw, which had its number at that time, in clock ticks since boot. One of
    /// which nothing else is known is named by its short name, and where the kernel didn't see when it
    /// started, it is that time that tells it apart.
    pub(super) fn find(&mut self, passing: &Passing, at: u64) -> ProcessId {
        let Passing { pid, start, name } = *passing;
        let names = self.owners.names();
        let known = match start {
            Some(start_time) => Some(ProcessId { start_time, pid }),
            None => self.owners.by_number(pid, at).or_else(|| names.by_number(pid, at)),
        };
        let id = known.unwrap_or(ProcessId { start_time: at, pid });
        if names.described(id).is_none() {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            names.seen(id, name);
        }
        id
    }

    pub(super) fn credit(&mut self, ledger: &mut Ledger, share: &Share) {
        ledger.credit(share, || flows::described_or_unknown(share, self.owners));
    }
}
