//! The scheduling of the thread.
//!
//! A process that lives for a millisecond ends before an ordinary thread gets its share of a busy
//! processor. A real-time thread doesn't wait, but could take over a processor; so the thread is
//! real-time only while it needs little.

use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::cpu::used;

/// The share of a processor above which it becomes an ordinary thread, and below which a real-time
/// one.
const MUCH: f64 = 0.30;
const LITTLE: f64 = 0.20;
/// The time over which the share is measured.
const WINDOW: Duration = Duration::from_millis(250);
/// The highest priority of an ordinary thread.
const NICE: i32 = -20;

/// The scheduling of the calling thread.
#[derive(Debug)]
pub(super) struct SchedulingPolicy {
    real_time: bool,
    since: Instant,
    used: Duration,
}

impl SchedulingPolicy {
    /// Raises the priority of this thread as far as the user may: without `CAP_SYS_NICE` it stays.
    pub(super) fn begin(now: Instant) -> SchedulingPolicy {
        let _ = setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut scheduling = SchedulingPolicy { real_time: false, since: now, used: used() };
        scheduling.set(true);
        scheduling
    }

    /// Adjusts the scheduling to the used share. Call it now and then.
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
            // The lowest real-time priority: other real-time threads are more urgent.
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
