//! Who has namespaces, of all test processes on this host.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use crate::leftovers::PREFIX;

/// Who has namespaces now: many tests, or one alone, of all test processes on this host.
pub(crate) struct Turn(File);

/// The way to a turn. While one waits there to be alone nobody else comes through: else it might wait for ever.
pub(crate) struct Gate {
    file: File,
    alone: bool,
}

impl Gate {
    /// Waits until nobody is at the gate who is to be alone, or nobody at all.
    pub(crate) fn take(alone: bool) -> Gate {
        Gate { file: locked("gate", alone), alone }
    }

    /// Waits for the turn.
    pub(crate) fn pass(self) -> Turn {
        let turn = Turn(locked("turn", self.alone));
        let _ = flock(&self.file, FlockOperation::Unlock);
        turn
    }
}

fn locked(name: &str, alone: bool) -> File {
    let kind = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    let path = format!("/run/{PREFIX}.{name}");
    let file = File::options().create(true).append(true).open(path).unwrap();
    retry_on_intr(|| flock(&file, kind)).unwrap();
    file
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Not left to the closing: a child that calls no exec yet has a copy.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
