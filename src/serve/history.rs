//! What every application carried in the last minute: [`History`].
//!
//! Bytes are kept, not rates: a point in time that stands for several records is then their
//! average in time, and no byte is lost or counted twice by the merging. Of an application only
//! those points are kept at which it carried anything, so that a quiet host costs little.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::traffic::{Name, Rate, Traffic};

/// How far back the history goes.
pub const SPAN: Duration = Duration::from_secs(60);

/// At most so many points in time are kept.
pub const POINTS: usize = 600;

/// At most so many applications are remembered.
pub const APPLICATIONS: usize = 1000;

/// Records closer to each other than this are one point: the span divided by the points.
const CELL: Duration = Duration::from_millis(100);

/// Bytes per second that nothing exceeds. More is taken for this much, so that sums stay finite.
const FASTEST: f64 = 1e15;

/// What one application carried up to a point in time.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What it is called.
    pub name: &'a Name,
    /// Bytes per second since the record before.
    pub rate: Rate,
    /// Bytes since the start.
    pub total: Traffic,
}

/// The last 60 s of every application.
///
/// An application is remembered as long as it carried something within the span. Time is an
/// argument everywhere; one that goes backwards is taken for the newest that was seen.
#[derive(Debug, Default)]
pub struct History {
    /// The time that cells are counted from.
    start: Option<Instant>,
    points: VecDeque<Point>,
    applications: HashMap<Name, Application, RandomState>,
    /// Applications that were ever remembered.
    born: u64,
    left_out: usize,
    version: u64,
}

#[derive(Debug)]
struct Point {
    cell: u64,
    at: Instant,
    /// Seconds that the bytes of this point took; more than none.
    seconds: f64,
}

/// Something remembered.
#[derive(Debug)]
pub(super) struct Application {
    /// Which one it was to be remembered, from 0. It stays the same from page to page.
    pub(super) born: u64,
    /// Bytes since the start.
    pub(super) total: Traffic,
    /// Where it carried anything, oldest first; never empty.
    carried: VecDeque<Carried>,
}

#[derive(Debug)]
struct Carried {
    cell: u64,
    received: f64,
    sent: f64,
}

impl History {
    /// Remembers what `applications` carried since the record before, up to `at`. Those that are
    /// not named carried nothing.
    ///
    /// A name that comes twice is added up; the later total holds. Where there are more than
    /// [`APPLICATIONS`], those that carried least in the last minute are left out.
    pub fn record<'a>(&mut self, at: Instant, applications: impl IntoIterator<Item = Sample<'a>>) {
        let (cell, seconds) = self.advance(at);
        let mut newcomers = BTreeMap::new();
        for Sample { name, rate, total } in applications {
            let received = bytes(rate.received, seconds);
            let sent = bytes(rate.sent, seconds);
            let carries = received > 0.0 || sent > 0.0;
            if let Some(known) = self.applications.get_mut(name) {
                known.total = total;
                if carries {
                    known.add(Carried { cell, received, sent });
                }
            } else if carries {
                let empty = (Carried { cell, received: 0.0, sent: 0.0 }, total);
                let (carried, latest) = newcomers.entry(name).or_insert(empty);
                carried.received += received;
                carried.sent += sent;
                *latest = total;
            }
        }
        self.forget();
        self.admit(newcomers);
        self.version = self.version.wrapping_add(1);
    }

    /// Makes the newest point one that includes `at`: its cell, and the seconds since the record
    /// before.
    fn advance(&mut self, at: Instant) -> (u64, f64) {
        let start = *self.start.get_or_insert(at);
        let newest = self.points.back();
        let at = newest.map_or(at, |point| point.at.max(at));
        // Nobody knows how long the first record took. That of a feeder which slept can't have
        // carried more in this minute than a minute's worth.
        let elapsed = newest.map_or(CELL, |point| at.saturating_duration_since(point.at));
        let seconds = elapsed.clamp(Duration::from_micros(1), SPAN).as_secs_f64();
        let cell = at.saturating_duration_since(start).as_millis() / CELL.as_millis();
        let cell = u64::try_from(cell).unwrap_or(u64::MAX);
        match self.points.back_mut() {
            Some(point) if point.cell == cell => {
                point.at = at;
                point.seconds += seconds;
            }
            _ => self.points.push_back(Point { cell, at, seconds }),
        }
        (cell, seconds)
    }

    /// Drops what is older than the span, and who carried nothing since.
    fn forget(&mut self) {
        let Some(newest) = self.points.back().map(|point| point.at) else { return };
        while self.points.len() > POINTS
            || self.points.front().is_some_and(|p| newest.saturating_duration_since(p.at) > SPAN)
        {
            self.points.pop_front();
        }
        let first = self.points.front().map_or(0, |point| point.cell);
        self.applications.retain(|_, application| {
            while application.carried.front().is_some_and(|carried| carried.cell < first) {
                application.carried.pop_front();
            }
            !application.carried.is_empty()
        });
    }

    /// Remembers `newcomers`, in the place of those that carried less if there is no room.
    fn admit(&mut self, newcomers: BTreeMap<&Name, (Carried, Traffic)>) {
        let mut newcomers: Vec<_> = newcomers.into_iter().collect();
        let excess = (self.applications.len() + newcomers.len()).saturating_sub(APPLICATIONS);
        self.left_out = excess;
        if excess > 0 {
            let known = self.applications.iter().map(|(name, a)| (a.sum(), name.clone(), false));
            let new = newcomers
                .iter()
                .map(|(name, (c, _))| (c.received + c.sent, Name::clone(name), true));
            let mut all: Vec<(f64, Name, bool)> = known.chain(new).collect();
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
            let mut refused: HashSet<Name, RandomState> = HashSet::default();
            for (_, name, is_new) in all.into_iter().take(excess) {
                if is_new {
                    refused.insert(name);
                } else {
                    self.applications.remove(&name);
                }
            }
            newcomers.retain(|(name, _)| !refused.contains(*name));
        }
        for (name, (carried, total)) in newcomers {
            let application = Application { born: self.born, total, carried: [carried].into() };
            self.born = self.born.wrapping_add(1);
            self.applications.insert(name.clone(), application);
        }
    }

    /// Applications that there was no room for at the newest record: those that were refused or
    /// forgotten in favour of others.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Another number after each record.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The points that are at most [`SPAN`] old, oldest first: how old each is.
    pub(super) fn ages(&self, now: Instant) -> Vec<Duration> {
        self.window(now).map(|point| now.saturating_duration_since(point.at)).collect()
    }

    /// Those that carried something within the span, in no order.
    pub(super) fn applications(&self, now: Instant) -> Vec<(&Name, &Application)> {
        let Some(first) = self.window(now).next().map(|point| point.cell) else {
            return Vec::new();
        };
        let carries = |application: &Application| {
            application.carried.back().is_some_and(|carried| carried.cell >= first)
        };
        self.applications.iter().filter(|(_, application)| carries(application)).collect()
    }

    /// Bytes per second of `application` at each of the points that [`History::ages`] gives.
    pub(super) fn rates(&self, application: &Application, now: Instant) -> Vec<Rate> {
        let mut carried = application.carried.iter().peekable();
        self.window(now)
            .map(|point| {
                while carried.next_if(|carried| carried.cell < point.cell).is_some() {}
                match carried.peek() {
                    Some(carried) if carried.cell == point.cell => Rate {
                        received: carried.received / point.seconds,
                        sent: carried.sent / point.seconds,
                    },
                    _ => Rate::default(),
                }
            })
            .collect()
    }

    /// Bytes per second of `application` at the newest point; none if that is older than the
    /// span.
    pub(super) fn rate(&self, application: &Application, now: Instant) -> Rate {
        match (self.window(now).next_back(), application.carried.back()) {
            (Some(point), Some(carried)) if point.cell == carried.cell => Rate {
                received: carried.received / point.seconds,
                sent: carried.sent / point.seconds,
            },
            _ => Rate::default(),
        }
    }

    fn window(&self, now: Instant) -> impl DoubleEndedIterator<Item = &Point> {
        self.points.iter().filter(move |point| now.saturating_duration_since(point.at) <= SPAN)
    }
}

impl Application {
    /// The bytes of both directions together that are remembered: who is busy.
    pub(super) fn sum(&self) -> f64 {
        self.carried.iter().map(|carried| carried.received + carried.sent).sum()
    }

    fn add(&mut self, new: Carried) {
        match self.carried.back_mut() {
            Some(carried) if carried.cell == new.cell => {
                carried.received += new.received;
                carried.sent += new.sent;
            }
            _ => self.carried.push_back(new),
        }
    }
}

/// The bytes of `rate` in `seconds`, whatever was given: never less than none, never infinite.
fn bytes(rate: f64, seconds: f64) -> f64 {
    if rate > 0.0 { rate.min(FASTEST) * seconds } else { 0.0 }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
