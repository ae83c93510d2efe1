//! The state of one application: its window, and the states of its rules.

use std::time::Instant;

use super::state::Condition;
use super::window::Window;
use super::{Direction, Notification, Rule};
use crate::brief::Brief;
use crate::lookalike::original;
use crate::model::traffic::Name;

/// An application that matches a rule.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) brief: Brief,
    /// The indexes of the matching rules, ascending.
    pub(super) rules: Box<[usize]>,
    /// Whether the rules were replaced, and only the whole name shows which of them match.
    pub(super) is_doubtful: bool,
    pub(super) window: Window,
    /// In the order of rule and direction. Empty while the application sleeps.
    conditions: Vec<Condition>,
    awake: bool,
}

impl Watched {
    /// An application without traffic before `begin`.
    pub(super) fn new(brief: Brief, rules: Box<[usize]>, begin: Instant) -> Watched {
        let window = Window::new(begin);
        let conditions = Vec::new();
        Watched { brief, rules, is_doubtful: false, window, conditions, awake: false }
    }

    /// Wakes it; returns false if it was awake.
    pub(super) fn wake(&mut self, rules: &[Rule]) -> bool {
        if self.awake {
            return false;
        }
        self.awake = true;
        self.conditions = self.fresh(rules);
        true
    }

    /// Whether it has traffic in its window, or a state.
    pub(super) fn is_awake(&self) -> bool {
        self.awake
    }

    /// Keeps only the time of its last traffic. Its window is silent then, and its states are
    /// quiet.
    pub(super) fn sleep(&mut self) {
        self.awake = false;
        self.window.forget_points();
        self.conditions = Vec::new();
    }

    /// Converts the states to those of new `rules`; `moved` has the new index of each old rule that
    /// still exists. The list of its rules is new already.
    pub(super) fn follow(&mut self, rules: &[Rule], moved: &[Option<usize>]) {
        if !self.awake {
            return;
        }
        let fresh = self.fresh(rules);
        let old = std::mem::replace(&mut self.conditions, fresh);
        for condition in &mut self.conditions {
            let same = |old: &&Condition| {
                old.direction == condition.direction
                    && moved.get(old.rule).copied().flatten() == Some(condition.rule)
            };
            if let Some(old) = old.iter().find(same) {
                *condition = old.moved_to(condition.rule);
            }
        }
    }

    /// Takes the indexes of the `rules` that its whole name matches. The states of those that matched before stay.
    pub(super) fn match_whole(&mut self, matched: Box<[usize]>, rules: &[Rule]) {
        self.rules = matched;
        self.is_doubtful = false;
        let same: Vec<Option<usize>> = (0..rules.len()).map(Some).collect();
        self.follow(rules, &same);
    }

    /// The states of its rules, none of which fires.
    fn fresh(&self, rules: &[Rule]) -> Vec<Condition> {
        let ways =
            |&index: &usize| [Direction::In, Direction::Out].map(|direction| (index, direction));
        self.rules
            .iter()
            .flat_map(ways)
            .filter(|(index, direction)| rules[*index].threshold(*direction).is_some())
            .map(|(index, direction)| Condition::new(index, direction))
            .collect()
    }

    /// Adds the notifications of its rules at `at`.
    pub(super) fn check(
        &mut self,
        at: Instant,
        rules: &[Rule],
        notifications: &mut Vec<Notification>,
    ) {
        let mut mean = (usize::MAX, [0.0; 2]);
        for condition in &mut self.conditions {
            let rule = &rules[condition.rule];
            let Some(threshold) = rule.threshold(condition.direction) else { continue };
            if mean.0 != condition.rule {
                mean = (condition.rule, self.window.mean(at, rule.window));
            }
            let value = match condition.direction {
                Direction::In => mean.1[0],
                Direction::Out => mean.1[1],
            };
            let Some((state, repeated)) = condition.step(at, value, threshold, rule) else {
                continue;
            };
            notifications.push(Notification {
                rule: condition.rule,
                rule_name: rule.name.clone(),
                application: self.brief.name().clone(),
                direction: condition.direction,
                threshold,
                value,
                state,
                repeated,
            });
        }
    }

    /// Whether no rule fires, or is about to.
    pub(super) fn is_inactive(&self) -> bool {
        self.conditions.iter().all(Condition::is_inactive)
    }

    /// Whether no rule fires, or has fired so recently that it matters.
    pub(super) fn is_quiet(&self, at: Instant, rules: &[Rule]) -> bool {
        self.conditions.iter().all(|condition| condition.is_quiet(at, &rules[condition.rule]))
    }
}

/// The indexes of the rules that match an application.
pub(super) fn matching(rules: &[Rule], name: &Name) -> Box<[usize]> {
    let holds = |(_, rule): &(usize, &Rule)| rule.filter.is_match(original(name));
    rules.iter().enumerate().filter(holds).map(|(index, _)| index).collect()
}
