//! Waiting in tests.

use std::time::{Duration, Instant};

/// Longer than any host takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition returns a value; a panic names `what` if it never does.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(met) = condition() {
            return met;
        }
        assert!(begin.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
