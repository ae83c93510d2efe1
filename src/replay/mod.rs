//! Replays of recordings.
//!
//! What is right of the border (the join, attribution, names, the ledger, the snapshot) is pure, and runs in a replay
//! as it does in the program: without root, without the kernel, and in no time. A recording has what each refresh came
//! to as well, so a replay shows whether the same is decided now.
//!
//! `runmonitor --record FILE` writes a recording.

mod play;

pub use crate::recording::{Bytes2, Figures, Text, Truth};
pub use play::{Player, ReplayError, Replayed};

#[cfg(test)]
mod tests;
