//! Work at an even rate, by several threads, so that one that has to wait doesn't hold up the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use testbed::bench::roles::{READY, say};

/// How many threads share the work.
const THREADS: u64 = 16;

/// Does the work that `worker` makes, one for each thread, so many times a second, until the
/// standard input is closed. To every line it answers how often it was done and how often it failed.
pub(crate) fn run<W>(rate: f64, worker: impl Fn() -> W) -> anyhow::Result<()>
where
    W: FnMut(u64) -> io::Result<()> + Send + 'static,
{
    let counters = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let begin = Instant::now();
    for first in 0..THREADS {
        let (mut work, counters) = (worker(), Arc::clone(&counters));
        spawn(move || {
            for number in (first..).step_by(THREADS as usize) {
                // By the time since the beginning: whoever is late catches up.
                let due = begin + Duration::from_secs_f64(number as f64 / rate);
                sleep(due.saturating_duration_since(Instant::now()));
                match work(number) {
                    Ok(()) => counters.0.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        let failures = counters.1.fetch_add(1, Ordering::Relaxed);
                        if failures == 0 {
                            eprintln!("the first that failed was number {number}: {error}");
                        }
                        failures
                    }
                };
            }
        });
    }
    say(READY)?;
    for line in io::stdin().lines() {
        line?;
        let (done, failed) = &*counters;
        say(&format!("{} {}", done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed)))?;
    }
    Ok(())
}
