//! How tests wait for what others do.

use std::time::{Duration, Instant};

/// No machine is so busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until there is something, and hands it on; `what` is waited for is said where it never comes.
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
