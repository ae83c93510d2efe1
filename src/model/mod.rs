//! The values that every stage works with. Nothing here reads the kernel or a clock.

mod name;
mod rows;
mod snapshot;

pub use name::Text;
pub(crate) use rows::Rows;
pub use snapshot::{Account, Health, Kind, Process, Row, Snapshot, Unattributed};
