//! Connection tracking: the kernel's table of flows, read from its several sources.

pub mod command;
pub mod ctnetlink;
mod reader;
pub mod state;
pub mod text;

pub use reader::{ReadError, Reader, Table, Via};
