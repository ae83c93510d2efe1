//! The connections that wait for the shaper, in the order of their turns.

use std::collections::VecDeque;

/// A queue in which each turn is one grant. A connection that was granted something goes to the end.
/// One that was granted nothing stays first, and the next ones get no turn. So no connection has two
/// turns before all others have had one.
#[derive(Debug)]
pub(super) struct Queue<T>(VecDeque<T>);

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It wants no more for now, or is gone.
    Enough,
    /// It was granted something, and wants more.
    Wants,
    /// It was granted nothing.
    Refused,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue(VecDeque::new())
    }
}

impl<T: Copy> Queue<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds it at the end.
    pub(super) fn join(&mut self, who: T) {
        self.0.push_back(who);
    }

    /// Gives up to `turns` turns, until one is granted nothing. Returns whether the next one may be
    /// granted something now.
    pub(super) fn pass(&mut self, turns: usize, mut serve: impl FnMut(T) -> Served) -> bool {
        for _ in 0..turns {
            let Some(first) = self.0.pop_front() else { return false };
            match serve(first) {
                Served::Enough => {}
                Served::Wants => self.0.push_back(first),
                Served::Refused => {
                    self.0.push_front(first);
                    return false;
                }
            }
        }
        !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::pipe::counters::Way;
    use crate::pipe::shape::{Shaper, TICK};

    #[test]
    fn who_was_refused_is_the_next_one() {
        let mut queue = Queue::default();
        (0..4).for_each(|number| queue.join(number));
        let mut seen = Vec::new();
        let mut pass = |grants: usize| {
            let mut left = grants;
            queue.pass(100, |who| {
                if left == 0 {
                    return Served::Refused;
                }
                left -= 1;
                seen.push(who);
                // The third one needs but one turn.
                if who == 2 { Served::Enough } else { Served::Wants }
            })
        };
        assert!(![3, 0, 2, 1].into_iter().any(&mut pass), "all that there was has been granted");
        assert_eq!(seen, [0, 1, 2, 3, 0, 1]);
        assert!(queue.pass(2, |_| Served::Wants), "two turns, and there may be more");
        assert!(!queue.pass(100, |_| Served::Enough), "nobody is left");
        assert!(queue.is_empty());
    }

    /// What each of these senders gets, all of which always want something, spread over two workers
    /// which look after them every so often.
    fn shares(senders: [usize; 2], rate: u64, steps: u32) -> Vec<usize> {
        let start = Instant::now();
        let shaper = Shaper::new(NonZeroU64::new(rate), 2, start);
        let mut got = vec![0; senders[0] + senders[1]];
        let mut queues = [Queue::default(), Queue::default()];
        for worker in [0, 1] {
            let first = worker * senders[0];
            (first..first + senders[worker]).for_each(|sender| queues[worker].join(sender));
            shaper.waits(Way::Down, worker, senders[worker], start);
        }
        for step in 1..=steps {
            let now = start + step * TICK;
            for (worker, queue) in queues.iter_mut().enumerate() {
                while queue.pass(64, |sender: usize| {
                    match shaper.take(Way::Down, worker, 64 << 10, senders[worker], now) {
                        0 => Served::Refused,
                        granted => {
                            got[sender] += granted;
                            Served::Wants
                        }
                    }
                }) {}
            }
        }
        let sum = got.iter().sum::<usize>() as f64;
        let exact = rate as f64 * (steps * TICK).as_secs_f64();
        assert!((sum - exact).abs() < rate as f64 * 0.05, "{sum} of {exact}");
        got
    }

    #[test]
    fn all_who_wait_get_the_same() {
        for senders in [[1, 1], [25, 25], [100, 100], [1, 49], [200, 0]] {
            for rate in [100 << 10, 10 << 20] {
                let steps = (Duration::from_secs(60).as_millis() / TICK.as_millis()) as u32;
                let got = shares(senders, rate, steps);
                let mean = rate as usize * 60 / got.len();
                let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
                assert!(
                    *least > mean * 9 / 10 && *most < mean * 11 / 10,
                    "{senders:?} at {rate}: {least} to {most}, mean {mean}"
                );
            }
        }
    }
}
