//! What is asked of processes for the sake of their names.

use super::{Described, ProcessId};

/// Answers for names of processes.
pub(crate) trait ProcessNames {
    /// Reads again what a process is called, unless that was done at this look.
    fn refresh(&mut self, id: ProcessId);

    /// What is known of a process, also of one that has ended lately; `None` if nothing is.
    fn described(&mut self, id: ProcessId) -> Option<Described>;

    /// Whether a process was there at this look.
    fn is_there(&mut self, id: ProcessId) -> bool;

    /// Processes whose names were cut since they were taken last.
    fn take_cut(&mut self) -> Vec<ProcessId>;
}
