//! Waiting for a condition with a deadline, and never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that takes a few seconds at most. No machine is so busy.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Waits until it is so, but no longer than `time`; whether it is.
pub fn until(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Waits until it is so; fails after [`DEADLINE`].
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(until(DEADLINE, condition), "never came: {what}");
}
