//! Replays of recordings.
//!
//! The join, attribution, names, the ledger and the snapshot are pure, and run in a replay as they do in the program:
//! without root, without the kernel, and within milliseconds. A recording also has the result of each refresh, so a
//! replay shows whether the result is the same now.
//!
//! `runmonitor --record FILE` writes a recording.

mod play;

pub use crate::recording::{Bytes2, Figures, Text, Truth};
pub use play::{Player, ReplayError, Replayed};

#[cfg(test)]
mod tests;
