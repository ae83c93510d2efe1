//! Processes: who they are, what they are named, and which of them holds a socket.

mod describe;
mod descriptor_search;
mod descriptors;
pub mod events;
mod facts;
#[cfg(test)]
mod few;
mod label;
mod names;
mod naming;
mod owners;
mod pods;

pub use describe::{COMMAND_LINE_MAX, command_line};
pub use descriptor_search::{DescriptorSearch, Found};
pub(crate) use facts::FactsReader;
pub use label::LabelBy;
pub use names::{Announced, Names};
pub(crate) use naming::ProcessNames;
pub use owners::{Acceptors, Owners, Ownership, SocketOwners};

pub use crate::model::ProcessId;
use crate::model::traffic::Name;

/// How a process is shown and matched: `/proc/PID/cmdline` with spaces for NUL bytes, or its name
/// in brackets where that is empty. Bytes, not text, and nothing in it can be trusted.
pub type CommandLine = Name;

/// What is known of a process beside its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// How it is shown and matched.
    pub command_line: CommandLine,
    /// By what it may be grouped, as asked for (see [`Owners::label_by`]); `None` where that was not
    /// asked, or the process has no such thing.
    pub label: Option<Label>,
}

/// By what a process may be grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What it is named.
    pub name: Name,
    /// Whether the process has chosen it, as it has its command line.
    pub chosen: bool,
}
