//! The traffic of every application in the last minute: [`History`].
//!
//! Bytes are stored with the time that they took, not as rates. A point in time that merges several records
//! is then their average, and no byte is lost or counted twice. Of each application only points with traffic
//! are stored, so that a quiet host costs little.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::brief::Brief;
use crate::model::traffic::{Name, Rate, Traffic};

/// The length of the history.
pub(crate) const SPAN: Duration = Duration::from_secs(60);

/// Maximum number of points in time.
pub(crate) const POINTS: usize = 600;

/// Maximum number of applications.
pub(crate) const APPLICATIONS: usize = 1000;

/// Records closer to each other than this are one point: the span divided by the points.
const CELL: Duration = Duration::from_millis(100);

/// The bytes of one application up to a point in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Bytes since the record before.
    pub recent: Traffic,
    /// Bytes since the start.
    pub total: Traffic,
}

/// The last 60 s of every application.
///
/// An application is remembered as long as it had traffic within the span. Time is always an
/// argument; one that goes backwards is treated as the newest so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The time from which cells are numbered.
    start: Option<Instant>,
    points: VecDeque<Point>,
    applications: HashMap<Brief, Series, RandomState>,
    /// Number of applications that were ever added.
    born: u64,
    left_out: usize,
    version: u64,
}

#[derive(Debug)]
struct Point {
    cell: u64,
    at: Instant,
    /// The time that the bytes of this point took.
    elapsed: Duration,
}

/// A remembered application.
#[derive(Debug)]
pub(super) struct Series {
    /// Its number in the order of adding, from 0, which stays the same from page to page.
    pub(super) born: u64,
    /// Bytes since the start.
    pub(super) total: Traffic,
    /// The points with traffic, the oldest first; never empty.
    carried: VecDeque<Carried>,
}

#[derive(Debug)]
struct Carried {
    cell: u64,
    bytes: Traffic,
}

impl History {
    /// Adds the bytes of `applications` in the time that has `elapsed` since the record before, up
    /// to `at`. All others had none.
    ///
    /// If a name comes twice, its bytes are added up, and the later total applies. If there are more
    /// than [`APPLICATIONS`], those with the least traffic in the last minute are left out.
    pub(crate) fn record<'a>(
        &mut self,
        at: Instant,
        elapsed: Duration,
        applications: impl IntoIterator<Item = Sample<'a>>,
    ) {
        let cell = self.advance(at, elapsed);
        let mut newcomers = BTreeMap::new();
        for Sample { name, recent, total } in applications {
            let carries = !recent.is_zero();
            let brief = Brief::of(name);
            if let Some(known) = self.applications.get_mut(&brief) {
                known.total = total;
                if carries {
                    known.add(Carried { cell, bytes: recent });
                }
            } else if carries {
                let empty = (Carried { cell, bytes: Traffic::ZERO }, total);
                let (carried, latest) = newcomers.entry(brief).or_insert(empty);
                carried.bytes += recent;
                *latest = total;
            }
        }
        self.forget();
        self.admit(newcomers);
        self.version = self.version.wrapping_add(1);
    }

    /// Makes the cell of `at` the newest point.
    fn advance(&mut self, at: Instant, elapsed: Duration) -> u64 {
        let start = *self.start.get_or_insert(at);
        let at = self.points.back().map_or(at, |point| point.at.max(at));
        let cell = at.saturating_duration_since(start).as_millis() / CELL.as_millis();
        let cell = u64::try_from(cell).unwrap_or(u64::MAX);
        match self.points.back_mut() {
            Some(point) if point.cell == cell => {
                point.at = at;
                point.elapsed = point.elapsed.saturating_add(elapsed);
            }
            _ => self.points.push_back(Point { cell, at, elapsed }),
        }
        cell
    }

    /// Drops points older than the span, and applications without any.
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

    /// Adds `newcomers`; if there is no room, they replace applications with less traffic.
    fn admit(&mut self, newcomers: BTreeMap<Brief, (Carried, Traffic)>) {
        let mut newcomers: Vec<_> = newcomers.into_iter().collect();
        let excess = (self.applications.len() + newcomers.len()).saturating_sub(APPLICATIONS);
        self.left_out = excess;
        if excess > 0 {
            let known = self.applications.iter().map(|(name, a)| (a.sum(), name.clone(), false));
            let new = newcomers
                .iter()
                .map(|(name, (carried, _))| (carried.bytes.total(), name.clone(), true));
            let mut all: Vec<(u64, Brief, bool)> = known.chain(new).collect();
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
            let mut refused: HashSet<Brief, RandomState> = HashSet::default();
            for (_, name, is_new) in all.into_iter().take(excess) {
                if is_new {
                    refused.insert(name);
                } else {
                    self.applications.remove(&name);
                }
            }
            newcomers.retain(|(name, _)| !refused.contains(name));
        }
        for (name, (carried, total)) in newcomers {
            let application = Series { born: self.born, total, carried: [carried].into() };
            self.born = self.born.wrapping_add(1);
            self.applications.insert(name, application);
        }
    }

    /// Number of applications without room at the newest record: they were refused, or replaced by
    /// others.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// A number that changes with each record.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The ages of the points within [`SPAN`], the oldest first.
    pub(super) fn ages(&self, now: Instant) -> Vec<Duration> {
        self.window(now).map(|point| now.saturating_duration_since(point.at)).collect()
    }

    /// The applications with traffic within the span, in no order.
    pub(super) fn applications(&self, now: Instant) -> Vec<(&Name, &Series)> {
        let Some(first) = self.window(now).next().map(|point| point.cell) else {
            return Vec::new();
        };
        let carries = |application: &Series| {
            application.carried.back().is_some_and(|carried| carried.cell >= first)
        };
        let carrying = self.applications.iter().filter(|(_, application)| carries(application));
        carrying.map(|(brief, application)| (brief.name(), application)).collect()
    }

    /// Bytes per second of `application` at each point of [`History::ages`].
    pub(super) fn rates(&self, application: &Series, now: Instant) -> Vec<Rate> {
        let mut carried = application.carried.iter().peekable();
        self.window(now)
            .map(|point| {
                while carried.next_if(|carried| carried.cell < point.cell).is_some() {}
                match carried.peek() {
                    Some(carried) if carried.cell == point.cell => {
                        carried.bytes.rate_over(point.elapsed)
                    }
                    _ => Rate::default(),
                }
            })
            .collect()
    }

    /// Bytes per second of `application` at the newest point; zero if that is older than the span.
    pub(super) fn rate(&self, application: &Series, now: Instant) -> Rate {
        match (self.window(now).next_back(), application.carried.back()) {
            (Some(point), Some(carried)) if point.cell == carried.cell => {
                carried.bytes.rate_over(point.elapsed)
            }
            _ => Rate::default(),
        }
    }

    fn window(&self, now: Instant) -> impl DoubleEndedIterator<Item = &Point> {
        self.points.iter().filter(move |point| now.saturating_duration_since(point.at) <= SPAN)
    }
}

impl Series {
    /// All remembered bytes of both directions, by which applications are ranked.
    pub(super) fn sum(&self) -> u64 {
        self.carried.iter().map(|carried| carried.bytes).sum::<Traffic>().total()
    }

    fn add(&mut self, new: Carried) {
        match self.carried.back_mut() {
            Some(carried) if carried.cell == new.cell => carried.bytes += new.bytes,
            _ => self.carried.push_back(new),
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
