//! Rates over the last refreshes: a mean over some seconds can be read, the figure of one second jumps.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::model::traffic::{Rate, Traffic};

/// Points of a history: five minutes of refreshes a second apart.
pub(super) const POINTS: usize = 300;

/// Histories kept at once.
const METERS: usize = 2_000;

/// Shortest time of a point. Refreshes that come faster share one, so that every window fits into a history.
const SHORTEST: Duration = Duration::from_millis(200);

/// The time over which a rate is a mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// The last refresh.
    Raw,
    /// This many seconds.
    Seconds(u8),
}

impl Window {
    /// The windows of iftop.
    pub(super) const MEANS: [Window; 3] =
        [Window::Seconds(2), Window::Seconds(10), Window::Seconds(40)];

    /// What the header calls it.
    pub(super) fn name(self) -> String {
        match self {
            Window::Raw => "last refresh".to_owned(),
            Window::Seconds(seconds) => format!("mean of {seconds} s"),
        }
    }

    fn seconds(self) -> f64 {
        match self {
            Window::Raw => 0.0,
            Window::Seconds(seconds) => seconds.into(),
        }
    }
}

/// The bytes of one name, point by point. Points without bytes after the last are not stored.
#[derive(Clone, Debug)]
struct Meter {
    points: VecDeque<[f32; 2]>,
    /// The number of the last of them.
    last: u64,
}

/// The bytes of many names in the last refreshes.
#[derive(Clone, Debug)]
pub(super) struct Meters<K> {
    /// Seconds of each point.
    times: VecDeque<f64>,
    /// Number of the newest point; 0 if there is none.
    newest: u64,
    meters: HashMap<K, Meter, RandomState>,
    /// Whether some names have no history because there are too many.
    crowded: bool,
}

impl<K> Default for Meters<K> {
    fn default() -> Meters<K> {
        let (times, meters) = Default::default();
        Meters { times, newest: 0, meters, crowded: false }
    }
}

impl<K: Clone + Eq + Hash> Meters<K> {
    /// Begins a refresh that took `elapsed`.
    pub(super) fn begin(&mut self, elapsed: Duration) {
        let shared = self.times.back_mut().filter(|last| **last < SHORTEST.as_secs_f64());
        if let Some(last) = shared {
            *last += elapsed.as_secs_f64();
            return;
        }
        self.newest += 1;
        self.times.push_back(elapsed.as_secs_f64());
        if self.times.len() > POINTS {
            self.times.pop_front();
        }
        let newest = self.newest;
        let keep = if self.meters.len() < METERS { POINTS as u64 } else { 45 };
        self.meters.retain(|_, meter| newest - meter.last < keep);
        self.crowded = false;
    }

    /// Adds the bytes of a name in this refresh.
    pub(super) fn add(&mut self, key: &K, recent: Traffic) {
        if recent.is_zero() || self.newest == 0 {
            return;
        }
        if !self.meters.contains_key(key) && self.meters.len() >= METERS {
            self.crowded = true;
            return;
        }
        let newest = self.newest;
        let empty = || Meter { points: VecDeque::new(), last: newest - 1 };
        let meter = self.meters.entry(key.clone()).or_insert_with(empty);
        let behind = (newest - meter.last).min(POINTS as u64);
        (0..behind).for_each(|_| meter.points.push_back([0.0; 2]));
        meter.last = newest;
        let extra = meter.points.len().saturating_sub(POINTS);
        meter.points.drain(..extra);
        if let Some([received, sent]) = meter.points.back_mut() {
            *received += recent.received as f32;
            *sent += recent.sent as f32;
        }
    }

    /// Bytes of a point, by its number.
    fn point(&self, meter: Option<&Meter>, number: u64) -> [f64; 2] {
        let point = meter.and_then(|meter| {
            let back = meter.last.checked_sub(number)?;
            let index = meter.points.len().checked_sub(1 + usize::try_from(back).ok()?)?;
            meter.points.get(index)
        });
        point.map_or([0.0; 2], |point| point.map(f64::from))
    }

    /// Seconds of a point, by its number; `None` if it is forgotten.
    fn time(&self, number: u64) -> Option<f64> {
        let back = usize::try_from(self.newest.checked_sub(number)?).ok()?;
        self.times.get(self.times.len().checked_sub(1 + back)?).copied()
    }

    /// The mean over a window, or over what there is of it. `None` if this name has no history because there are
    /// too many.
    pub(super) fn rate(&self, key: &K, window: Window) -> Option<Rate> {
        let meter = self.meters.get(key);
        if meter.is_none() {
            return (!self.crowded).then(Rate::default);
        }
        let (mut bytes, mut seconds) = ([0.0; 2], 0.0);
        for number in (1..=self.newest).rev() {
            let Some(time) = self.time(number) else { break };
            // A point that is mostly outside belongs to the time before.
            if seconds > 0.0 && seconds + time / 2.0 > window.seconds() {
                break;
            }
            let point = self.point(meter, number);
            bytes = [bytes[0] + point[0], bytes[1] + point[1]];
            seconds += time;
        }
        Some(mean(bytes, seconds))
    }

    /// The newest `cells` means of `per_cell` points each, the newest last; fewer if there are fewer.
    pub(super) fn history(&self, key: &K, cells: usize, per_cell: u64) -> Vec<Rate> {
        let meter = self.meters.get(key);
        let per_cell = per_cell.max(1);
        // A cell has the same points as long as it is shown: a history moves, and doesn't shimmer.
        let last = self.newest / per_cell;
        let first = (last + 1).saturating_sub(cells as u64);
        let means = (first..=last).filter_map(|cell| {
            let (mut bytes, mut seconds) = ([0.0; 2], 0.0);
            for number in cell * per_cell..(cell + 1) * per_cell {
                let Some(time) = self.time(number).filter(|_| number > 0) else { continue };
                let point = self.point(meter, number);
                bytes = [bytes[0] + point[0], bytes[1] + point[1]];
                seconds += time;
            }
            (seconds > 0.0).then(|| mean(bytes, seconds))
        });
        means.collect()
    }

    /// Seconds of the newest `points` points.
    pub(super) fn span(&self, points: usize) -> f64 {
        self.times.iter().rev().take(points).sum()
    }
}

fn mean([received, sent]: [f64; 2], seconds: f64) -> Rate {
    if seconds <= 0.0 {
        return Rate::default();
    }
    Rate { received: received / seconds, sent: sent / seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(figures: impl IntoIterator<Item = u64>) -> Meters<u8> {
        let mut meters = Meters::default();
        for received in figures {
            meters.begin(SECOND);
            meters.add(&1, Traffic::new(received, 0));
        }
        meters
    }

    fn received(meters: &Meters<u8>, window: Window) -> f64 {
        meters.rate(&1, window).unwrap().received
    }

    /// A download that is limited to 3 MB/s, as the kernel shows it second by second.
    #[test]
    fn what_comes_in_bursts_has_a_mean_that_can_be_read() {
        let bursts = [52, 52, 52, 12_000_000].into_iter().cycle();
        let meters = seconds(bursts.take(80));
        assert_eq!(received(&meters, Window::Raw), 12_000_000.0);
        assert_eq!(received(&meters, Window::Seconds(2)), 6_000_026.0);
        assert_eq!(received(&meters, Window::Seconds(40)), 3_000_039.0);
    }

    #[test]
    fn a_mean_is_over_what_there_is() {
        let meters = seconds([10, 20]);
        assert_eq!(received(&meters, Window::Seconds(10)), 15.0);
        assert_eq!(received(&meters, Window::Raw), 20.0);
        assert_eq!(Meters::<u8>::default().rate(&1, Window::Raw), Some(Rate::default()));
    }

    #[test]
    fn what_is_idle_fades_and_is_forgotten() {
        let mut meters = seconds([1000]);
        for _ in 0..9 {
            meters.begin(SECOND);
        }
        assert_eq!(received(&meters, Window::Seconds(10)), 100.0);
        meters.begin(SECOND);
        assert_eq!(received(&meters, Window::Seconds(10)), 0.0);
        (0..POINTS).for_each(|_| meters.begin(SECOND));
        assert!(meters.meters.is_empty());
    }

    #[test]
    fn fast_refreshes_share_a_point() {
        let mut meters = Meters::default();
        for _ in 0..6 {
            meters.begin(Duration::from_millis(100));
            meters.add(&1, Traffic::new(5, 0));
        }
        assert_eq!(meters.times.len(), 3);
        assert_eq!(received(&meters, Window::Seconds(2)).round(), 50.0);
    }

    #[test]
    fn a_history_is_bounded_and_ends_with_the_newest() {
        let meters = seconds(0..1000);
        assert_eq!((meters.times.len(), meters.meters[&1].points.len()), (POINTS, POINTS));
        let history = meters.history(&1, 3, 1);
        assert_eq!(
            history.iter().map(|rate| rate.received).collect::<Vec<_>>(),
            [997.0, 998.0, 999.0]
        );
        assert_eq!(meters.history(&1, 1000, 2).len(), 151);
        assert_eq!(seconds([7]).history(&1, 10, 1).len(), 1);
        assert_eq!(meters.history(&2, 2, 1), [Rate::default(); 2]);
    }

    #[test]
    fn names_are_bounded() {
        let mut meters = Meters::default();
        meters.begin(SECOND);
        (0..METERS + 5).for_each(|key| meters.add(&key, Traffic::new(1, 1)));
        assert_eq!(meters.meters.len(), METERS);
        assert_eq!(meters.rate(&METERS, Window::Raw), None);
        for _ in 0..50 {
            meters.begin(SECOND);
        }
        assert!(meters.meters.is_empty());
    }
}
