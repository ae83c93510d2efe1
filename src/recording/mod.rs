//! Recordings of the input of attribution and ledger, made while a program watches real traffic. A
//! [`replay`](crate::replay) gives the input to the same code again.
//!
//! Recorded is what was read or queried: flows, sockets, counters, the tracker's records, and the answers of the
//! [environment](crate::environment).

mod figures;
pub(crate) mod format;
mod record;

pub use figures::{Bytes2, Figures};
pub use format::{Text, Truth};
pub(crate) use record::{Found, Recorded, Recorder};
