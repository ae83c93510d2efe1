//! The alerts of all applications.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use slab::Slab;

use super::application::{Watched, matching};
use super::renamed::Processes;
use super::window::points_of;
use super::{Notification, Rule};
use crate::brief::Brief;
use crate::model::traffic::{Name, Rate};

/// Maximum number of remembered applications, and of remembered ones that match no rule.
///
/// Without grouping each command line is an application, and a host has many of them in a year. Far
/// fewer use the network at the same time.
pub const APPLICATIONS: usize = 10_000;

/// Bytes in a KiB.
const KIB: f64 = 1024.0;

/// Watches the rates of applications.
#[derive(Debug)]
pub struct Alerts {
    pub(super) rules: Vec<Rule>,
    /// The longest window of any rule.
    longest: Duration,
    /// The time of the last call.
    last: Option<Instant>,
    /// The index of each application; `None` for one that matches no rule.
    pub(super) names: HashMap<Brief, Option<usize>, RandomState>,
    pub(super) applications: Slab<Watched>,
    /// Applications with traffic in their window or with a state. The others cost nothing.
    pub(super) awake: Vec<usize>,
    /// Maximum number of remembered applications.
    pub(super) limit: usize,
    /// See module [`renamed`](super::renamed).
    pub(super) processes: Processes,
    /// See [`Alerts::take_crowded`].
    crowded: bool,
}

/// A new application that matches rules.
#[derive(Debug)]
struct Newcomer {
    brief: Brief,
    rules: Box<[usize]>,
    rate: Rate,
}

/// Without rules.
impl Default for Alerts {
    fn default() -> Alerts {
        Alerts::new(Vec::new())
    }
}

impl Alerts {
    /// Alerts of these rules, none of which fires yet.
    pub fn new(rules: Vec<Rule>) -> Alerts {
        Alerts {
            longest: longest(&rules),
            rules,
            last: None,
            names: HashMap::default(),
            applications: Slab::new(),
            awake: Vec::new(),
            limit: APPLICATIONS,
            processes: Processes::default(),
            crowded: false,
        }
    }

    /// The rules; a [`Notification`] has the index of one.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Replaces the rules.
    ///
    /// The windows of applications that match any of the new rules stay, and so do the states of
    /// rules with the same name. An alert that fires for a removed rule is never resolved.
    pub fn replace(&mut self, rules: Vec<Rule>) {
        let mut by_name: HashMap<&[u8], VecDeque<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_name.entry(&rule.name).or_default().push_back(index);
        }
        let moved: Vec<Option<usize>> =
            self.rules.iter().map(|rule| by_name.get_mut(&*rule.name)?.pop_front()).collect();
        let longer = longest(&rules);
        // Bytes that a shorter window has dropped must not pass for silence.
        let known = self
            .last
            .filter(|_| longer > self.longest)
            .and_then(|last| last.checked_sub(self.longest));
        self.longest = longer;
        self.rules = rules;
        let (names, rules) = (&mut self.names, &self.rules);
        names.retain(|_, key| key.is_some());
        self.applications.retain(|_, application| {
            if application.brief.is_cut() {
                // The stored start of the name doesn't tell which rules match: the next traffic has
                // the whole name.
                let still = application.rules.iter().filter_map(|rule| *moved.get(*rule)?);
                application.rules = still.collect();
                application.rules.sort_unstable();
                application.is_doubtful = true;
            } else {
                application.rules = matching(rules, application.brief.name());
            }
            if application.rules.is_empty() {
                names.remove(&application.brief);
                return false;
            }
            if let Some(known) = known {
                application.window.begin_not_before(known);
            }
            application.follow(rules, &moved);
            true
        });
        let applications = &self.applications;
        self.awake.retain(|key| applications.contains(*key));
    }

    /// The notifications at `at`, in the order of rule, application and direction.
    ///
    /// `rates` are the bytes/s of each application that had traffic since the call before; all
    /// others were silent. The first call only starts the time: its rates are ignored. A call that
    /// is not later than the one before is ignored too.
    pub fn observe<'a>(
        &mut self,
        at: Instant,
        rates: impl IntoIterator<Item = (&'a Name, Rate)>,
    ) -> Vec<Notification> {
        let Some(from) = self.last else {
            self.last = Some(at);
            return Vec::new();
        };
        if at <= from {
            return Vec::new();
        }
        self.last = Some(at);
        if self.rules.is_empty() {
            // There is nothing to remember of any application.
            return self.check(at);
        }
        let mut unknown = Vec::new();
        for (name, rate) in rates {
            if !(rate.received > 0.0 || rate.sent > 0.0) {
                continue;
            }
            let brief = Brief::of(name);
            match self.names.get(&brief).copied() {
                Some(Some(key)) => {
                    self.settle(key, name);
                    self.carried(key, from, at, rate);
                }
                Some(None) => {}
                None => {
                    let rules = matching(&self.rules, name);
                    match rules.is_empty() {
                        true => self.ignore(brief),
                        false => unknown.push(Newcomer { brief, rules, rate }),
                    }
                }
            }
        }
        // After all others: only then are the silent ones known.
        unknown.sort_by(|a, b| weight(b.rate).total_cmp(&weight(a.rate)));
        let room = self.make_room(&unknown, at);
        unknown.truncate(room);
        for Newcomer { brief, rules, rate } in unknown {
            let key = match self.names.get(&brief).copied().flatten() {
                Some(key) => key, // it came twice
                None => self.admit(brief, rules, from),
            };
            self.carried(key, from, at, rate);
        }
        self.check(at)
    }

    /// Whether there were more applications than can be watched since the last call: one was forgotten whose next
    /// notification may now come too early, or that had the least traffic, or one was not watched at all.
    pub fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.crowded)
    }

    /// Finds the matching rules by the whole name, if only its start was known.
    fn settle(&mut self, key: usize, name: &Name) {
        let Some(application) = self.applications.get_mut(key) else { return };
        if application.is_doubtful {
            application.match_whole(matching(&self.rules, name), &self.rules);
        }
    }

    fn carried(&mut self, key: usize, from: Instant, at: Instant, rate: Rate) {
        let Some(application) = self.applications.get_mut(key) else { return };
        application.window.push(from, at, rate, points_of(self.awake.len()));
        if application.wake(&self.rules) {
            self.awake.push(key);
        }
    }

    /// Remembers an application that matches no rule.
    fn ignore(&mut self, brief: Brief) {
        if self.names.len() - self.applications.len() >= self.limit {
            self.names.retain(|_, key| key.is_some());
        }
        self.names.insert(brief, None);
    }

    /// Remembers an application.
    fn admit(&mut self, brief: Brief, rules: Box<[usize]>, from: Instant) -> usize {
        let key = self.applications.insert(Watched::new(brief.clone(), rules, from));
        self.names.insert(brief, Some(key));
        key
    }

    /// Makes room for `newcomers`, which are sorted by traffic, the busiest first; returns for how many.
    ///
    /// First, silent applications without a state are forgotten, those silent for longest first. Then those that
    /// fired, and are kept only because their next notification may be too early: one notification too many is
    /// better than none for another application. Then those with less traffic than a newcomer, even if they fire:
    /// no notification says that they resolve, because they don't.
    fn make_room(&mut self, newcomers: &[Newcomer], at: Instant) -> usize {
        let free = self.limit.saturating_sub(self.applications.len());
        let missing = newcomers.len().saturating_sub(free);
        if missing == 0 {
            return newcomers.len();
        }
        let (rules, longest) = (&self.rules, self.longest);
        let mut idle: Vec<(bool, Instant, usize)> = self
            .applications
            .iter()
            .filter(|(_, one)| one.window.carried() < at && one.is_inactive())
            .map(|(key, one)| (!one.is_quiet(at, rules), one.window.carried(), key))
            .collect();
        idle.sort_unstable();
        let quiet = idle.iter().filter(|(is_early, ..)| !is_early).count();
        // A tenth at once, so that a flood of applications does not cause a search for each.
        idle.truncate(missing.max(quiet.min(self.limit.div_ceil(10))));
        self.crowded |= idle.last().is_some_and(|(is_early, ..)| *is_early);
        self.forget(idle.into_iter().map(|(.., key)| key));
        let free = self.limit.saturating_sub(self.applications.len());
        let Some(others) = newcomers.get(free..).filter(|others| !others.is_empty()) else {
            return newcomers.len();
        };
        let mean = |one: &Watched| one.window.mean(at, longest).iter().sum::<f64>() * KIB;
        let mut busy: Vec<(f64, usize)> =
            self.applications.iter().map(|(key, one)| (mean(one), key)).collect();
        busy.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let gives_way = |((mean, _), new): &(&(f64, usize), &Newcomer)| weight(new.rate) > *mean;
        let count = busy.iter().zip(others).take_while(gives_way).count();
        self.crowded = true;
        self.forget(busy.into_iter().take(count).map(|(_, key)| key));
        free + count
    }

    fn forget(&mut self, keys: impl Iterator<Item = usize>) {
        for key in keys {
            self.names.remove(&self.applications.remove(key).brief);
        }
        let applications = &self.applications;
        self.awake.retain(|key| applications.contains(*key));
    }

    fn check(&mut self, at: Instant) -> Vec<Notification> {
        let mut notifications = Vec::new();
        let (applications, rules) = (&mut self.applications, &self.rules);
        self.awake.retain(|key| {
            let Some(application) = applications.get_mut(*key) else { return false };
            application.check(at, rules, &mut notifications);
            application.window.trim(at, self.longest);
            let is_awake =
                !application.window.is_silent(at, self.longest) || !application.is_quiet(at, rules);
            if !is_awake {
                application.sleep();
            }
            is_awake
        });
        notifications.sort_by(|a, b| {
            (a.rule, &a.application, a.direction).cmp(&(b.rule, &b.application, b.direction))
        });
        notifications
    }
}

/// Bytes per second of both directions together.
fn weight(rate: Rate) -> f64 {
    rate.received.max(0.0) + rate.sent.max(0.0)
}

fn longest(rules: &[Rule]) -> Duration {
    rules.iter().map(|rule| rule.window).max().unwrap_or_default()
}
