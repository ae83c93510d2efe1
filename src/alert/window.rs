//! The recent traffic of an application, and its mean.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::traffic::Rate;

/// Steps of a rate in 1 byte/s.
///
/// Rates are summed up as whole numbers of these steps: sums of floating-point numbers drift over
/// the years, and a rate that stays at its threshold must not exceed it by a rounding error.
const STEPS: f64 = 1_048_576.0;

/// Steps of a rate in 1 KiB/s.
const STEPS_OF_KIB: f64 = STEPS * 1024.0;

/// Maximum number of points of a window. Beyond it every other point of the older half is dropped,
/// and the rate between the rest is taken as constant. This matters only at the edge of a rule's
/// window, for a part as small as the distance of two points.
const POINTS: usize = 1024;

/// Maximum number of points of all windows together, and the minimum for each window.
const ALL_POINTS: usize = 1 << 20;
const LEAST_POINTS: usize = 64;

/// Maximum number of points for each of so many windows.
pub(super) fn points_of(windows: usize) -> usize {
    (ALL_POINTS / windows.max(1)).clamp(LEAST_POINTS, POINTS)
}

/// Received and sent: steps of a rate times nanoseconds, summed up since the start.
type Sums = [u128; 2];

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    /// The sums until then.
    sums: Sums,
}

/// The samples of an application.
/// Samples are stored as running sums at points in time, between which the rate is constant. So the
/// mean over any span is a difference of two sums, each found by binary search. Silence after the
/// last point takes no memory.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Before this time nothing is known.
    begin: Instant,
    /// The end of the last sample with traffic.
    carried: Instant,
    /// In the order of time. Empty if all points were forgotten.
    points: VecDeque<Point>,
}

impl Window {
    /// A window without samples, for the time from `begin`.
    pub(super) fn new(begin: Instant) -> Window {
        Window { begin, carried: begin, points: VecDeque::new() }
    }

    /// Adds a sample with the constant rate `rate` (bytes/s) after `from` and up to `to`.
    ///
    /// Samples come in the order of time. A second one of the same time is added to the first. If there
    /// are more than `points` points, some are merged.
    pub(super) fn push(&mut self, from: Instant, to: Instant, rate: Rate, points: usize) {
        let nanoseconds = to.saturating_duration_since(from).as_nanos();
        let sample = [rate.received, rate.sent]
            .map(|rate| u128::from(steps(rate)).saturating_mul(nanoseconds));
        let before = self.points.back().map_or([0; 2], |point| point.sums);
        let sums = [0, 1].map(|way| before[way].saturating_add(sample[way]));
        match self.points.back_mut() {
            Some(last) if last.at >= to => last.sums = sums,
            Some(last) if last.at == from => self.points.push_back(Point { at: to, sums }),
            // It was silent until `from`.
            _ => self.points.extend([Point { at: from, sums: before }, Point { at: to, sums }]),
        }
        self.carried = to;
        if self.points.len() > points {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let half = self.points.len() / 2;
        let mut index = 0;
        self.points.retain(|_| {
            index += 1;
            index > half || index % 2 == 1
        });
    }

    /// The mean over the last `window` before `at`, or over its known part: KiB/s received and
    /// sent. No sample may be later than `at`.
    ///
    /// The mean lies between the lowest and the highest sample, and is exact if all samples are
    /// equal.
    pub(super) fn mean(&self, at: Instant, window: Duration) -> [f64; 2] {
        let start = at.checked_sub(window).map_or(self.begin, |start| start.max(self.begin));
        let nanoseconds = at.saturating_duration_since(start).as_nanos();
        if nanoseconds == 0 {
            return [0.0; 2];
        }
        let (until, before) = (self.sums_at(at), self.sums_at(start));
        [0, 1].map(|way| {
            let sum = until[way].saturating_sub(before[way]);
            // The nearest step: exact in an f64 up to 8 GiB/s.
            (sum.saturating_add(nanoseconds / 2) / nanoseconds) as f64 / STEPS_OF_KIB
        })
    }

    fn sums_at(&self, time: Instant) -> Sums {
        let next = self.points.partition_point(|point| point.at <= time);
        let earlier = next.checked_sub(1).and_then(|index| self.points.get(index));
        match (earlier, self.points.get(next)) {
            (Some(a), Some(b)) => {
                let whole = (b.at - a.at).as_nanos();
                let part = (time - a.at).as_nanos();
                // The difference is a multiple of its time, unless points were dropped: nothing
                // else is rounded.
                [0, 1].map(|way| a.sums[way] + (b.sums[way] - a.sums[way]) / whole * part)
            }
            (Some(point), None) | (None, Some(point)) => point.sums,
            (None, None) => [0; 2],
        }
    }

    /// The end of the last traffic.
    pub(super) fn carried(&self) -> Instant {
        self.carried
    }

    /// Drops points that no mean over `longest`, before `at` or later, needs.
    pub(super) fn trim(&mut self, at: Instant, longest: Duration) {
        let Some(start) = at.checked_sub(longest) else { return };
        // The point before the edge stays: the sample that crosses the edge starts there.
        while self.points.get(1).is_some_and(|second| second.at <= start) {
            self.points.pop_front();
        }
    }

    /// Whether there was no traffic in the last `longest` before `at`.
    pub(super) fn is_silent(&self, at: Instant, longest: Duration) -> bool {
        at.saturating_duration_since(self.carried) >= longest
    }

    /// Frees the memory of the points. Only for a window that [is silent](Self::is_silent).
    pub(super) fn forget_points(&mut self) {
        self.points = VecDeque::new();
    }

    /// Treats the time before `begin` as unknown from now on.
    pub(super) fn begin_not_before(&mut self, begin: Instant) {
        self.begin = self.begin.max(begin);
    }

    /// Number of points.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }
}

/// A rate in bytes/s as whole steps. `as` maps invalid rates (negative, not a number) to 0.
fn steps(rate: f64) -> u64 {
    (rate * STEPS).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: f64 = 1024.0;

    fn rate(received: f64, sent: f64) -> Rate {
        Rate { received, sent }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_sample_that_straddles_the_edge_counts_with_its_part_inside() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.push(start, start + seconds(10), rate(100.0 * KIB, 0.0), POINTS);
        window.push(start + seconds(10), start + seconds(12), rate(40.0 * KIB, 640.0), POINTS);
        // 3 s of 100, 2 s of 40.
        assert_eq!(window.mean(start + seconds(12), seconds(5)), [76.0, 0.25]);
        // One sample may be longer than the window.
        assert_eq!(window.mean(start + seconds(10), seconds(5)), [100.0, 0.0]);
    }

    #[test]
    fn it_is_over_what_is_known_at_first_and_silence_is_0_later() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.push(start, start + seconds(1), rate(10.0 * KIB, 0.0), POINTS);
        assert_eq!(window.mean(start + seconds(1), seconds(5))[0], 10.0);
        assert_eq!(window.mean(start + seconds(2), seconds(5))[0], 5.0);
        assert_eq!(window.mean(start + seconds(5), seconds(5))[0], 2.0);
        assert_eq!(window.mean(start + seconds(6), seconds(5))[0], 0.0);
        window.push(start + seconds(8), start + seconds(9), rate(10.0 * KIB, 0.0), POINTS);
        assert_eq!(window.mean(start + seconds(9), seconds(5))[0], 2.0);
        // 18 s are asked for and 9 known.
        let mean = window.mean(start + seconds(9), seconds(9) * 2)[0];
        assert!((mean - 20.0 / 9.0).abs() < 1e-8, "{mean}");
    }

    #[test]
    fn a_steady_rate_is_its_own_mean_to_the_last_bit() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let step = Duration::from_nanos(199_999_937);
        let mut now = start;
        for _ in 0..100_000 {
            window.push(now, now + step, rate(100.0 * KIB, 0.1), POINTS);
            now += step;
            window.trim(now, seconds(7));
            assert_eq!(window.mean(now, seconds(7))[0], 100.0);
        }
        // The points on both sides of 7 s of 0.2 s each.
        assert!(window.len() <= 37, "{}", window.len());
    }

    #[test]
    fn silence_takes_no_points() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.push(start, start + seconds(1), rate(KIB, KIB), POINTS);
        window.push(start + seconds(900), start + seconds(901), rate(KIB, KIB), POINTS);
        assert_eq!(window.len(), 4);
        window.trim(start + seconds(901), seconds(2));
        // One before the edge stays.
        assert_eq!(window.len(), 3);
        assert!(!window.is_silent(start + seconds(902), seconds(2)));
        assert!(window.is_silent(start + seconds(903), seconds(2)));
    }

    /// A day's window, looked at each second: it needs no 86,400 points.
    #[test]
    fn long_windows_are_bounded_and_nearly_exact() {
        let start = Instant::now();
        let mut window = Window::new(start);
        // A minute of this, a minute of nothing.
        let busy = |second: u64| (second / 60).is_multiple_of(2);
        let last = 100_000;
        for second in (0..last).filter(|second| busy(*second)) {
            window.push(
                start + seconds(second),
                start + seconds(second + 1),
                rate(KIB, 0.0),
                POINTS,
            );
            window.trim(start + seconds(second + 1), seconds(86_400));
            assert!(window.len() <= POINTS);
        }
        let at = start + seconds(last);
        for width in [60, 300, 3_600, 86_400] {
            let expected = (last - width..last).filter(|s| busy(*s)).count() as f64 / width as f64;
            let mean = window.mean(at, seconds(width))[0];
            let bound = if width <= 300 { 1e-8 } else { 0.01 };
            assert!((mean - expected).abs() <= bound, "{width} s: {mean}, not {expected}");
        }
    }

    #[test]
    fn windows_of_many_applications_have_fewer_points_each() {
        assert_eq!([1, 1024, 4096, 1 << 20].map(points_of), [1024, 1024, 256, 64]);
        let start = Instant::now();
        let mut window = Window::new(start);
        for second in 0..1000 {
            let points = if second < 900 { POINTS } else { 64 };
            window.push(
                start + seconds(second),
                start + seconds(second + 1),
                rate(KIB, 0.0),
                points,
            );
        }
        assert!(window.len() <= 64, "{}", window.len());
        assert_eq!(window.mean(start + seconds(1000), seconds(1000))[0], 1.0);
    }

    #[test]
    fn what_is_no_rate_does_no_harm() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.push(start, start + seconds(1), rate(f64::NAN, -1.0), POINTS);
        assert_eq!(window.mean(start + seconds(1), seconds(1)), [0.0, 0.0]);
        window.push(start + seconds(1), start + seconds(1 << 20), rate(f64::INFINITY, 0.0), POINTS);
        let [received, sent] = window.mean(start + seconds(1 << 20), seconds(1));
        assert!(received.is_finite() && received > 1e9 && sent == 0.0);
    }

    proptest! {
        /// The oracle adds up each sample's part inside.
        #[test]
        fn as_a_sum_over_all_samples(
            samples in proptest::collection::vec(
                (1_u64..20_000, prop_oneof![Just(0.0), 0.0..1e9_f64]), 1..60
            ),
            window_ms in 1_u64..100_000,
        ) {
            let start = Instant::now();
            let width = Duration::from_millis(window_ms);
            let mut window = Window::new(start);
            let mut all: Vec<(Instant, Instant, f64)> = Vec::new();
            let mut now = start;
            for (ms, bytes) in samples {
                let to = now + Duration::from_millis(ms);
                if bytes > 0.0 {
                    window.push(now, to, rate(bytes, 0.0), POINTS);
                }
                all.push((now, to, bytes));
                now = to;
                window.trim(now, width);
                let edge = now.checked_sub(width).map_or(start, |edge| edge.max(start));
                let mut sum = 0.0;
                for (from, to, bytes) in &all {
                    sum += bytes * to.saturating_duration_since(edge.max(*from)).as_secs_f64();
                }
                let expected = sum / (now - edge).as_secs_f64() / KIB;
                let mean = window.mean(now, width)[0];
                prop_assert!((mean - expected).abs() <= 1e-6 * expected.max(1.0), "{mean} {expected}");
                let inside = || all.iter().filter(|(_, to, _)| *to > edge).map(|(_, _, b)| b / KIB);
                let low = inside().fold(f64::INFINITY, f64::min);
                let high = inside().fold(0.0, f64::max);
                // A step of a rate is 1e-9 KiB/s.
                prop_assert!(mean >= low - 1e-8 && mean <= high + 1e-8, "{low} {mean} {high}");
            }
        }
    }
}
