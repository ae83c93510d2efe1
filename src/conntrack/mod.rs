//! Connection tracking: the kernel's table of flows, read through netlink or from text.
//!
//! [`Reader`] reads the whole table by whichever way works. [`text`] parses lines of the table.

mod command;
#[doc(hidden)]
pub mod ctnetlink;
mod reader;
pub(crate) mod sysctls;
pub mod text;

pub use reader::{ReadError, Reader, Table, Via};
