//! All applications under watch.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use slab::Slab;

use super::application::{Application, matching};
use super::{Notification, Rule};
use crate::traffic::{Name, Rate};

/// Applications that are remembered, and as many that match no rule.
///
/// Without grouping each command line is an application, and a host goes through many of them in
/// a year. Far fewer use the network at the same time.
const APPLICATIONS: usize = 10_000;

/// Watches the rates of applications.
#[derive(Debug)]
pub struct Alerts {
    rules: Vec<Rule>,
    /// The longest window of any rule.
    longest: Duration,
    /// The time of the last call.
    last: Option<Instant>,
    /// Where an application is; `None` for one that matches no rule.
    pub(super) names: HashMap<Name, Option<usize>, RandomState>,
    pub(super) applications: Slab<Application>,
    /// Those with something in their window or a state. The others cost nothing.
    pub(super) awake: Vec<usize>,
    /// How many applications are remembered.
    pub(super) limit: usize,
}

impl Alerts {
    /// Nothing fires at first.
    pub fn new(rules: Vec<Rule>) -> Alerts {
        Alerts {
            longest: longest(&rules),
            rules,
            last: None,
            names: HashMap::default(),
            applications: Slab::new(),
            awake: Vec::new(),
            limit: APPLICATIONS,
        }
    }

    /// The rules; a [`Notification`] has an index of them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// From here on other rules hold.
    ///
    /// The windows of the applications that match any of them stay, and the states of rules that
    /// have the same name. What fired for a rule that is gone is never resolved.
    pub fn replace(&mut self, rules: Vec<Rule>) {
        let mut by_name: HashMap<&[u8], VecDeque<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_name.entry(&rule.name).or_default().push_back(index);
        }
        let moved: Vec<Option<usize>> = self
            .rules
            .iter()
            .map(|rule| by_name.get_mut(rule.name.as_slice())?.pop_front())
            .collect();
        let longer = longest(&rules);
        // What a shorter window has dropped must not pass for silence.
        let known = self
            .last
            .filter(|_| longer > self.longest)
            .and_then(|last| last.checked_sub(self.longest));
        self.longest = longer;
        self.rules = rules;
        let (names, rules) = (&mut self.names, &self.rules);
        names.retain(|_, key| key.is_some());
        self.applications.retain(|_, application| {
            application.rules = matching(rules, &application.name);
            if application.rules.is_empty() {
                names.remove(&application.name);
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

    /// What there is to be said at `at`, in order of rule, application and direction.
    ///
    /// `rates` are the bytes/s of each application that carried anything since the call before; one
    /// that is not among them was silent. The first call is the beginning of time: its rates are
    /// those of no time and say nothing. Neither does a call that is no later than the one before.
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
        let mut unknown = Vec::new();
        for (name, rate) in rates {
            if !(rate.received > 0.0 || rate.sent > 0.0) {
                continue;
            }
            match self.names.get(name) {
                Some(Some(key)) => self.carried(*key, from, at, rate),
                Some(None) => {}
                // After all others: only then it is known who is silent.
                None => unknown.push((name, rate)),
            }
        }
        let mut full = false;
        for (name, rate) in unknown {
            let key = match self.names.get(name) {
                Some(key) => *key,
                None => self.admit(name, from, at, &mut full),
            };
            if let Some(key) = key {
                self.carried(key, from, at, rate);
            }
        }
        self.check(at)
    }

    fn carried(&mut self, key: usize, from: Instant, at: Instant, rate: Rate) {
        let Some(application) = self.applications.get_mut(key) else { return };
        application.window.push(from, at, rate);
        if application.wake(&self.rules) {
            self.awake.push(key);
        }
    }

    /// Remembers an application; `None` where it matches no rule, or where all others are more
    /// important. The latter makes `full` true, and isn't tried again.
    fn admit(&mut self, name: &Name, from: Instant, at: Instant, full: &mut bool) -> Option<usize> {
        let rules = matching(&self.rules, name);
        if rules.is_empty() {
            if self.names.len() - self.applications.len() >= self.limit {
                self.names.retain(|_, key| key.is_some());
            }
            self.names.insert(name.clone(), None);
            return None;
        }
        if self.applications.len() >= self.limit {
            *full = *full || !self.make_room(at);
            if *full {
                return None;
            }
        }
        let key = self.applications.insert(Application::new(name.clone(), rules, from));
        self.names.insert(name.clone(), Some(key));
        Some(key)
    }

    /// Forgets those that are silent for longest; false where there are none.
    ///
    /// Not those with a state: the resolved notification would never come, or the next firing one
    /// too early. A tenth at once, so that not each application of a flood is searched for.
    fn make_room(&mut self, at: Instant) -> bool {
        let rules = &self.rules;
        let mut silent: Vec<(Instant, usize)> = self
            .applications
            .iter()
            .filter(|(_, one)| one.window.carried() < at && one.is_quiet(at, rules))
            .map(|(key, one)| (one.window.carried(), key))
            .collect();
        silent.sort_unstable();
        silent.truncate(self.limit.div_ceil(10));
        for (_, key) in &silent {
            self.names.remove(&self.applications.remove(*key).name);
        }
        let applications = &self.applications;
        self.awake.retain(|key| applications.contains(*key));
        !silent.is_empty()
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

fn longest(rules: &[Rule]) -> Duration {
    rules.iter().map(|rule| rule.window).max().unwrap_or_default()
}
