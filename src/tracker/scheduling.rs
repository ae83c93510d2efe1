//! How soon the thread is given a processor.
//!
//! A process that lives a millisecond is gone before a thread that waits for its share of a busy
//! processor has looked. A real-time thread doesn't wait, but could take a processor for itself; so it
//! is one only as long as it needs little.

use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::cpu::used;

/// The share of a processor beyond which it is an ordinary thread, and below which a real-time one.
const MUCH: f64 = 0.30;
const LITTLE: f64 = 0.20;
/// Over which time.
const WINDOW: Duration = Duration::from_millis(250);
/// The most urgent that an ordinary thread can be.
const NICE: i32 = -20;

/// The scheduling of the thread that it is used on.
#[derive(Debug)]
pub(super) struct SchedulingPolicy {
    real_time: bool,
    since: Instant,
    used: Duration,
}

impl SchedulingPolicy {
    /// Makes this thread as urgent as the user may: without `CAP_SYS_NICE` it stays as it is.
    pub(super) fn begin(now: Instant) -> SchedulingPolicy {
        let _ = setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut scheduling = SchedulingPolicy { real_time: false, since: now, used: used() };
        scheduling.set(true);
        scheduling
    }

    /// To be called now and then.
    pub(super) fn mind(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < WINDOW {
            return;
        }
        let before = std::mem::replace(&mut self.used, used());
        let share = (self.used - before).as_secs_f64() / passed.as_secs_f64();
        self.since = now;
        if share > MUCH {
            self.set(false);
        } else if share < LITTLE {
            self.set(true);
        }
    }

    fn set(&mut self, real_time: bool) {
        if real_time == self.real_time {
            return;
        }
        let (priority, policy) = match real_time {
            // The least urgent of the real-time ones: what others are so for is more urgent.
            true => (
                ThreadPriority::Min,
                ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin),
            ),
            false => (
                ThreadPriority::Max,
                ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other),
            ),
        };
        if set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok() {
            self.real_time = real_time;
        }
    }
}
