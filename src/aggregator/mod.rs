//! Monitors and pipes in one loop: what every application used since the refresh before, and which
//! alerts that sets off.
//!
//! The kernel is read once a refresh for each source, whatever the number of monitors. What the
//! monitors select together, on which line it stands, and the bytes of the program's own pipes are
//! the ledgers' matter; here they are put together.

mod pipes;
mod plan;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::alert::{Alerts, Rule};
use crate::group::{Grouping, Groups};
use crate::model::{Snapshot, SourceChoice, SourceKind};
use crate::monitor::WatchError;
use crate::monitor::{Draft, Moment, Monitor};
use crate::selection::Selection;

pub use pipes::{ChangeError, Pipes};
pub use plan::{Plan, PlanError, Selected};

/// Monitors and pipes together. At first there are none: see [`Aggregator::apply`].
#[derive(Debug, Default)]
pub struct Aggregator {
    /// Those that are closed keep what they have accounted.
    monitors: Vec<Monitor>,
    alerts: Alerts,
    pipes: Pipes,
    groups: Groups,
    /// What each choice of a source has come to.
    resolved: Vec<(SourceChoice, SourceKind)>,
    snapshots: u64,
}

impl Aggregator {
    /// With these monitors, of which each has a source of its own, and no pipes. Who stands on which line is as the monitors were told until the
    /// aggregator is configured.
    pub fn new(monitors: Vec<Monitor>) -> Aggregator {
        let mut aggregator = Aggregator::default();
        aggregator.exchange(monitors, |_| true);
        aggregator
    }

    /// The monitors that are open.
    pub fn monitors(&self) -> impl Iterator<Item = &Monitor> {
        self.monitors.iter().filter(|monitor| !monitor.is_closed())
    }

    /// The same, to read them.
    #[cfg(test)]
    fn monitors_mut(&mut self) -> impl Iterator<Item = &mut Monitor> {
        self.monitors.iter_mut().filter(|monitor| !monitor.is_closed())
    }

    /// Sources that were read once and are not any more.
    #[cfg(test)]
    fn closed(&self) -> impl Iterator<Item = SourceKind> {
        self.monitors.iter().filter(|monitor| monitor.is_closed()).map(Monitor::source)
    }

    /// Closes the monitors of sources that are not to be `kept`, and takes those that were `opened`.
    /// [`Aggregator::configure`] has to follow.
    fn exchange(&mut self, opened: Vec<Monitor>, kept: impl Fn(SourceKind) -> bool) {
        for mut monitor in opened {
            let same = |known: &Monitor| known.source() == monitor.source();
            match self.monitors.iter().position(same) {
                // Two choices may have come to the same.
                Some(place) if !self.monitors[place].is_closed() => {}
                Some(place) => {
                    monitor.inherit(self.monitors.remove(place));
                    self.monitors.push(monitor);
                }
                None => self.monitors.push(monitor),
            }
        }
        for monitor in &mut self.monitors {
            if !monitor.is_closed() && !kept(monitor.source()) {
                monitor.close();
            }
        }
    }

    /// Descriptors that become readable when there is something for [`Aggregator::drain`].
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.monitors.iter().flat_map(Monitor::events)
    }

    /// See [`Monitor::drain`].
    pub fn drain(&mut self) -> bool {
        // All of them, whatever the first one says.
        self.monitors.iter_mut().fold(false, |called, monitor| monitor.drain() | called)
    }

    /// See [`Monitor::needs_peeks`].
    pub fn needs_peeks(&self) -> bool {
        self.monitors.iter().any(Monitor::needs_peeks)
    }

    /// See [`Monitor::is_reading`].
    pub fn is_reading(&self) -> bool {
        self.monitors.iter().any(Monitor::is_reading)
    }

    /// See [`Monitor::look_until`].
    ///
    /// # Errors
    /// If a source can't be read (any more).
    pub fn look_until(&mut self, until: Instant) -> Result<(), WatchError> {
        self.monitors.iter_mut().try_for_each(|monitor| monitor.look_until(Some(until)))
    }

    /// The pipes.
    pub fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    /// From now on what `selection` says of its source is selected of each, grouped and watched over as told.
    /// Totals, windows and states of alerts go on.
    pub fn configure(
        &mut self,
        selection: impl Fn(SourceKind) -> Selection,
        groups: Groups,
        rules: Vec<Rule>,
    ) {
        for monitor in &mut self.monitors {
            let selection = selection(monitor.source());
            let naming = Box::new(Grouping::new(groups.clone(), selection));
            monitor.configure(naming, self.pipes.ports());
        }
        self.resolved.clear();
        self.pipes.group(&groups);
        self.groups = groups;
        self.alerts.replace(rules);
    }

    /// By what the lines are grouped.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The rules of the alerts.
    pub fn rules(&self) -> &[Rule] {
        self.alerts.rules()
    }

    /// Here time begins: what was used before has no rate.
    pub fn begin(&mut self, moment: Moment) {
        self.snapshot(moment, moment.instant);
        self.snapshots = 0;
    }

    /// Ends a refresh that was taken at this moment: what was used since the one before. `due` is when it should
    /// have been, by which alerts go: a program that comes a moment late doesn't put them off to the next refresh.
    pub fn snapshot(&mut self, moment: Moment, due: Instant) -> Snapshot {
        let mut draft = Draft::default();
        for monitor in &mut self.monitors {
            monitor.add_to(&mut draft, moment);
        }
        self.pipes.add_to(&mut draft, moment.instant);
        self.snapshots += 1;
        let mut snapshot = draft.finish(self.snapshots, moment);
        let rows = snapshot.rows.iter().filter(|row| !row.account.recent.is_zero());
        let rates = rows.map(|row| (&row.name, snapshot.rate(&row.account)));
        let alerts = self.alerts.observe(due, rates);
        snapshot.alerts = alerts;
        snapshot.alerts_are_crowded = self.alerts.take_crowded();
        snapshot
    }
}

#[cfg(test)]
mod tests;
