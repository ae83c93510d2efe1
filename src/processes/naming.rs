//! Queries for the names of processes.

use super::{Described, ProcessId};

/// Answers queries for names of processes.
pub(crate) trait ProcessNames {
    /// Reads the name of a process again, unless this look has done so.
    fn refresh(&mut self, id: ProcessId);

    /// Command line and label of a process, also of one that ended recently; `None` if they are
    /// unknown.
    fn described(&mut self, id: ProcessId) -> Option<Described>;

    /// Whether this look listed the process.
    fn is_there(&mut self, id: ProcessId) -> bool;

    /// Processes whose names were cut since the last call.
    fn take_cut(&mut self) -> Vec<ProcessId>;
}
