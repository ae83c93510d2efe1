//! Processes: their identity and name, and the processes that hold a socket.

mod attributes;
mod containers;
mod describe;
mod descriptor_search;
mod descriptors;
pub(crate) mod events;
mod facts;
#[cfg(test)]
mod few;
mod label;
mod names;
mod naming;
mod of_root;
mod owners;
mod pods;

pub(crate) use describe::command_line;
pub(crate) use descriptor_search::DescriptorSearch;
pub(crate) use facts::FactsReader;
pub use label::{LabelBy, Labelling};
pub(crate) use names::{Announced, Names};
pub(crate) use naming::ProcessNames;
pub(crate) use owners::{Acceptors, SocketOwners};
pub use owners::{Look, Owners, Ownership};

use std::sync::Arc;

use crate::model::Attributes;
pub use crate::model::ProcessId;
use crate::model::traffic::Name;

/// How a process is shown and matched: `/proc/PID/cmdline` with spaces for NUL bytes, or its `comm`
/// in brackets if that file is empty. Untrusted bytes, which need not be UTF-8.
pub type CommandLine = Name;

/// The command line and the label of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The text by which the process is shown and matched.
    pub command_line: CommandLine,
    /// The label that [`Owners::label_by`] asks for; `None` if no label is asked for, or the process
    /// has none.
    pub label: Option<Label>,
    /// What it can be grouped by, if that is asked for.
    pub attributes: Option<Arc<Attributes>>,
}

impl Described {
    /// A process of which only the command line is known.
    pub(crate) fn of(command_line: CommandLine) -> Described {
        Described { command_line, label: None, attributes: None }
    }
}

/// An attribute by which processes can be grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The attribute's value, such as the name of a user or of a unit.
    pub name: Name,
    /// Whether the process can choose the value itself, as it can choose its command line.
    pub chosen: bool,
}
