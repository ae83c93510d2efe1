//! Monitors and pipes in one loop: what every application used since the refresh before, and which
//! alerts that sets off.
//!
//! The kernel is read once a refresh for each source, whatever the number of monitors. What the
//! monitors select together, on which line it stands, and the bytes of the program's own pipes are
//! the ledgers' matter ([`crate::ledger::Naming`]); here they are put together.

mod pipes;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::alert::{Alerts, Notification, Rule};
use crate::group::{Grouping, Groups};
use crate::ledger::{Account, Ledger};
use crate::monitor::Reason;
use crate::selection::Selection;
use crate::traffic::{Name, Rate, Traffic};
use crate::watch::{Looked, Source, Watch, WatchError};

pub use pipes::{Change, ChangeError, Pipes};

/// What an application used.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The application, the command line, or the pipe.
    pub name: Name,
    /// Bytes since the refresh before; none where nobody knows how long they took, such as those of
    /// a source that has just been opened.
    pub recent: Traffic,
    /// Those bytes over [`Tally::elapsed`].
    pub rate: Rate,
    /// Bytes so far, as far back as the source reaches.
    pub total: Traffic,
}

impl Usage {
    /// The order of the lines: by received, by sent, then by the bytes of the name.
    pub fn order(&self, other: &Usage) -> Ordering {
        let received = self.rate.received.total_cmp(&other.rate.received);
        let sent = self.rate.sent.total_cmp(&other.rate.sent);
        received.then(sent).then_with(|| self.name.cmp(&other.name))
    }
}

/// What a refresh came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// How much time has passed since the refresh before; none at the first.
    pub elapsed: Duration,
    /// The applications that carried anything, ascending by received, sent, name.
    pub applications: Vec<Usage>,
    /// The reasons why bytes have no process, such as `(forwarded)`, those that did.
    pub unattributed: Vec<Usage>,
    /// The alerts that people are to be told of.
    pub notifications: Vec<Notification>,
    /// Whether there are more applications than alerts can watch.
    pub crowded: bool,
}

/// A source that is read, and what was accounted from it.
#[derive(Debug)]
pub struct Meter {
    watch: Watch,
    ledger: Ledger,
}

impl Meter {
    /// Goes on accounting what `watch` sees to `ledger`. Who stands on which line is as the ledger
    /// was told until the aggregator is configured.
    pub fn new(watch: Watch, ledger: Ledger) -> Meter {
        Meter { watch, ledger }
    }

    /// What is read.
    pub fn source(&self) -> Source {
        self.watch.source()
    }

    /// Descriptors that become readable when there is something for [`Meter::drain`].
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watch.events()
    }

    /// Takes what the kernel has announced; see [`Watch::drain`].
    pub fn drain(&mut self) -> bool {
        self.watch.drain()
    }

    /// Whether that is to be done although nothing is announced; see [`Watch::needs_glances`].
    pub fn needs_glances(&self) -> bool {
        self.watch.needs_glances()
    }

    /// Reads the kernel once.
    ///
    /// # Errors
    /// If the source can't be read (any more).
    pub fn look(&mut self) -> Result<Looked, WatchError> {
        self.watch.look(&mut self.ledger)
    }

    /// The same, waiting no longer than until then for what takes long; see [`Watch::look_until`].
    ///
    /// # Errors
    /// As above.
    pub fn look_until(&mut self, until: Instant) -> Result<Looked, WatchError> {
        self.watch.look_until(&mut self.ledger, Some(until))
    }

    /// Whether not everything was read for the first time.
    pub fn is_reading(&self) -> bool {
        self.watch.is_reading()
    }
}

/// Monitors and pipes together.
#[derive(Debug)]
pub struct Aggregator {
    meters: Vec<Meter>,
    alerts: Alerts,
    pipes: Pipes,
    groups: Groups,
}

impl Aggregator {
    /// With these sources and no pipes yet, for monitors that select everything.
    pub fn new(meters: Vec<Meter>) -> Aggregator {
        let (alerts, pipes) = (Alerts::new(Vec::new()), Pipes::default());
        Aggregator { meters, alerts, pipes, groups: Groups::default() }
    }

    /// The sources.
    pub fn meters(&self) -> &[Meter] {
        &self.meters
    }

    /// The sources, to read or exchange them. [`Aggregator::configure`] has to follow an exchange.
    pub fn meters_mut(&mut self) -> &mut Vec<Meter> {
        &mut self.meters
    }

    /// The pipes.
    pub fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    /// The pipes, to change them. [`Aggregator::configure`] has to follow a change.
    pub fn pipes_mut(&mut self) -> &mut Pipes {
        &mut self.pipes
    }

    /// From now on each source is what its `selections` say (in the order of the sources), grouped
    /// and watched over as told. Totals, windows and states of alerts go on.
    pub fn configure(&mut self, selections: Vec<Selection>, groups: Groups, rules: Vec<Rule>) {
        let none = Selection::new(Vec::new());
        let mut selections = selections.into_iter();
        for meter in &mut self.meters {
            let selection = selections.next().unwrap_or_else(|| none.clone());
            meter.ledger.set_naming(Box::new(Grouping::new(groups.clone(), selection)));
            meter.watch.leave_to_pipes(self.pipes.ports());
        }
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

    /// Ends a refresh that was taken `at` this time: what was used since the one before. `beat` is
    /// when it was due, by which alerts go: a program that comes a moment late doesn't put them off
    /// to the next refresh.
    pub fn tally(&mut self, at: Instant, beat: Instant) -> Tally {
        let mut sums = Sums::default();
        let mut unattributed = Sums::default();
        let (mut elapsed, pipes) = self.pipes.accounts(at);
        // A book that has no refresh before has no time: what stands in it came before time began.
        // For all others the same time has passed.
        let timed = |account: Account, time: Duration| match time {
            Duration::ZERO => Account { recent: Traffic::ZERO, ..account },
            _ => account,
        };
        for (name, account) in &pipes {
            sums.add(name, timed(*account, elapsed));
        }
        // One name may stand in several books, and be silent in some of them.
        let several = self.meters.len() + usize::from(!pipes.is_empty()) > 1;
        for Meter { ledger, .. } in &mut self.meters {
            ledger.end(at);
            let time = ledger.elapsed();
            elapsed = elapsed.max(time);
            for (name, account) in ledger.lines() {
                if several || !account.recent.is_zero() {
                    sums.add(name, timed(account, time));
                }
            }
            for (reason, account) in ledger.unattributed_lines() {
                // What the pipes carry stands on the pipes' lines.
                if reason != Reason::OwnPipe {
                    let name = format!("({reason})").into_bytes().into();
                    unattributed.add(&name, timed(account, time));
                }
            }
            ledger.begin();
        }
        let applications = sums.carried(elapsed);
        let unattributed = unattributed.carried(elapsed);
        let rates = applications.iter().map(|usage| (&usage.name, usage.rate));
        let notifications = self.alerts.observe(beat, rates);
        let crowded = self.alerts.take_crowded();
        Tally { elapsed, applications, unattributed, notifications, crowded }
    }
}

/// What has one name is put together, wherever it was counted.
#[derive(Debug, Default)]
struct Sums {
    places: HashMap<Name, usize, RandomState>,
    accounts: Vec<(Name, Account)>,
}

impl Sums {
    /// Adds what stands under a name in one book.
    fn add(&mut self, name: &Name, account: Account) {
        let place = *self.places.entry(name.clone()).or_insert(self.accounts.len());
        match self.accounts.get_mut(place) {
            Some((_, sum)) => *sum += account,
            None => self.accounts.push((name.clone(), account)),
        }
    }

    /// Those that carried anything in the time that has passed, in the order of the lines.
    fn carried(self, elapsed: Duration) -> Vec<Usage> {
        let carried = self.accounts.into_iter().filter(|(_, account)| !account.recent.is_zero());
        let usage = |(name, Account { total, recent })| {
            let rate = recent.rate_over(elapsed);
            Usage { name, recent, rate, total }
        };
        let mut usages: Vec<Usage> = carried.map(usage).collect();
        usages.sort_unstable_by(Usage::order);
        usages
    }
}

#[cfg(test)]
mod tests;
