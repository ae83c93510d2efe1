//! Recordings of what decides whose bytes are was given, while a program watches real traffic: for
//! [`replay`](crate::replay), which gives it to the same code again.
//!
//! The border is where values come in that were read or asked: flows, sockets, counters, what the tracker has seen,
//! and what the [environment](crate::environment) answers.

mod figures;
pub(crate) mod format;
mod record;

pub use figures::{Bytes2, Figures};
pub use format::{Text, Truth};
pub(crate) use record::{Found, Recorded, Recorder};
