//! The values that every stage works with. This module reads neither the kernel nor a clock.

mod detail;
pub mod flow;
mod looked;
mod name;
mod notification;
pub mod owner;
mod process;
mod rows;
mod snapshot;
mod source;
pub mod traffic;
mod unread;

pub use detail::{Attributes, Detail, Interface, Part, Remote};
pub use looked::Looked;
pub use name::Text;
pub use notification::{Direction, Notification, State};
pub use process::ProcessId;
pub(crate) use rows::Rows;
pub use snapshot::{
    Account, Group, Health, Kind, Process, ProcessFacts, Row, Snapshot, Unattributed,
};
pub use source::{SourceChoice, SourceKind};
pub use unread::Unread;
