//! The names of the processes in a ledger.

use crate::attribution::Share;
use crate::ledger::Ledger;
use crate::processes::{Described, ProcessId, ProcessNames};

/// Accounts a share to `ledger`.
pub(crate) fn credit(ledger: &mut Ledger, share: &Share, processes: &mut dyn ProcessNames) {
    ledger.credit(share, || described(share, processes));
}

/// The name of a share's process.
fn described(share: &Share, processes: &mut dyn ProcessNames) -> Described {
    let described = share.to.process().and_then(|process| {
        // Its sockets may have been too short-lived for a look.
        processes.refresh(process);
        processes.described(process)
    });
    // A process that has held a socket has a name; this is a fallback.
    described.unwrap_or_else(|| Described::of((*b"[?]").into()))
}

/// Updates the names of processes, and passes ended ones to the ledger. `unlisted` are processes
/// with bytes that were not listed.
pub(crate) fn name(
    ledger: &mut Ledger,
    processes: &mut dyn ProcessNames,
    unlisted: &mut Vec<ProcessId>,
    ended: Vec<ProcessId>,
) {
    let active: Vec<_> = ledger.active().collect();
    let gone = unlisted.drain(..).filter(|process| !processes.is_there(*process));
    ledger.ended(gone.collect::<Vec<_>>());
    for process in active {
        processes.refresh(process);
        if let Some(described) = processes.described(process) {
            ledger.rename(process, &described);
        }
        if !processes.is_there(process) {
            unlisted.push(process);
        }
    }
    // Names that are cut here would be kept there by those that are silent, and the ended have had a last title.
    for process in processes.take_cut().into_iter().chain(ended.iter().copied()) {
        if let Some(described) = processes.described(process) {
            ledger.rename(process, &described);
        }
    }
    ledger.ended(ended);
}
