//! Who has namespaces, of all test processes on this host.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use crate::leftovers::PREFIX;

/// Who has namespaces now: many tests, or one alone, of all test processes on this host.
pub(crate) struct Turn(File);

impl Turn {
    pub(crate) fn take(alone: bool) -> Turn {
        let kind = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
        let lock = |name: &str| {
            let path = format!("/run/{PREFIX}.{name}");
            let file = File::options().create(true).append(true).open(path).unwrap();
            retry_on_intr(|| flock(&file, kind)).unwrap();
            file
        };
        // While one waits at the gate to be alone, nobody else comes through: else it might wait for ever.
        let gate = lock("gate");
        let turn = Turn(lock("turn"));
        flock(&gate, FlockOperation::Unlock).unwrap();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Not left to the closing: a child that calls no exec yet has a copy.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
