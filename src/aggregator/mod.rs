//! Monitors and pipes in one loop: the bytes of every application since the refresh before, and the
//! alerts that they cause.
//!
//! Each source is read once a refresh, whatever the number of monitors. The ledgers select, name
//! the lines and recognise the bytes of the program's own pipes. This module adds up their results.

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

/// Monitors and pipes. A new one has none: see [`Aggregator::apply`].
#[derive(Debug, Default)]
pub struct Aggregator {
    /// Monitors. The closed ones keep the bytes that they accounted.
    monitors: Vec<Monitor>,
    alerts: Alerts,
    pipes: Pipes,
    groups: Groups,
    /// The source that each choice has resolved to.
    resolved: Vec<(SourceChoice, SourceKind)>,
    snapshots: u64,
}

impl Aggregator {
    /// An aggregator of these monitors, each with a source of its own, and without pipes. Until it is configured, each
    /// monitor names its lines by its own options.
    pub fn new(monitors: Vec<Monitor>) -> Aggregator {
        let mut aggregator = Aggregator::default();
        aggregator.exchange(monitors, |_| true);
        aggregator
    }

    /// The open monitors.
    pub fn monitors(&self) -> impl Iterator<Item = &Monitor> {
        self.monitors.iter().filter(|monitor| !monitor.is_closed())
    }

    /// The open monitors, to read them.
    #[cfg(test)]
    fn monitors_mut(&mut self) -> impl Iterator<Item = &mut Monitor> {
        self.monitors.iter_mut().filter(|monitor| !monitor.is_closed())
    }

    /// Sources of closed monitors.
    #[cfg(test)]
    fn closed(&self) -> impl Iterator<Item = SourceKind> {
        self.monitors.iter().filter(|monitor| monitor.is_closed()).map(Monitor::source)
    }

    /// Closes the monitors of sources that are not to be `kept`, and adds those that were `opened`.
    /// Call [`Aggregator::configure`] next.
    fn exchange(&mut self, opened: Vec<Monitor>, kept: impl Fn(SourceKind) -> bool) {
        for mut monitor in opened {
            let same = |known: &Monitor| known.source() == monitor.source();
            match self.monitors.iter().position(same) {
                // Two choices may have resolved to the same source.
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

    /// Descriptors that become readable when [`Aggregator::drain`] has something to take.
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.monitors.iter().flat_map(Monitor::events)
    }

    /// See [`Monitor::drain`].
    pub fn drain(&mut self) -> bool {
        // All monitors are drained, whatever the first one returns.
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

    /// Sets what is selected of each source, how lines are grouped, and the rules of the alerts. Totals,
    /// windows and states of alerts continue.
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

    /// The groups of the lines.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The rules of the alerts.
    pub fn rules(&self) -> &[Rule] {
        self.alerts.rules()
    }

    /// Starts the time of rates: bytes used before have none.
    pub fn begin(&mut self, moment: Moment) {
        self.snapshot(moment, moment.instant);
        self.snapshots = 0;
    }

    /// Ends a refresh that was taken at this moment. `due` is the time at which it should have been taken; alerts
    /// use it, so that a refresh a moment too late does not delay them by a whole interval.
    pub fn snapshot(&mut self, moment: Moment, due: Instant) -> Snapshot {
        let mut draft = Draft::default();
        for monitor in &mut self.monitors {
            monitor.add_to(&mut draft, moment);
        }
        self.pipes.add_to(&mut draft, moment.instant);
        self.snapshots += 1;
        let mut snapshot = draft.finish(self.snapshots, moment);
        self.alerts.follow_renamed(&snapshot.rows);
        let rows = snapshot.rows.iter().filter(|row| !row.account.recent.is_zero());
        let rates = rows.map(|row| (&row.name, snapshot.rate(&row.account)));
        let alerts = self.alerts.observe(due, rates);
        self.alerts.remember_processes(&snapshot.rows);
        snapshot.alerts = alerts;
        snapshot.alerts_are_crowded = self.alerts.take_crowded();
        snapshot
    }
}

#[cfg(test)]
mod tests;
