//! The state of one rule for one direction of one application.

use std::time::Instant;

use super::{Direction, Rule, State};

/// The state of a rule for one direction of an application.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// The index of the rule.
    pub(super) rule: usize,
    pub(super) direction: Direction,
    phase: Phase,
    /// Time of the last notification that it fires. It is kept after the alert has resolved,
    /// because the next notification may be too early.
    told: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Inactive,
    /// The mean is above the threshold since then, but not for long enough.
    Pending(Instant),
    /// It fires; `told`: a notification has reported it.
    Firing {
        told: bool,
    },
}

impl Condition {
    /// A rule that does not fire.
    pub(super) fn new(rule: usize, direction: Direction) -> Condition {
        Condition { rule, direction, phase: Phase::Inactive, told: None }
    }

    /// The notification at `at`, when the mean is `value`: the state, and whether this firing was
    /// notified before. `rule` is the rule and `threshold` that of the direction.
    pub(super) fn step(
        &mut self,
        at: Instant,
        value: f64,
        threshold: f64,
        rule: &Rule,
    ) -> Option<(State, bool)> {
        let above = value > threshold;
        self.phase = match self.phase {
            Phase::Inactive | Phase::Pending(_) if !above => Phase::Inactive,
            Phase::Inactive if rule.hold.is_zero() => Phase::Firing { told: false },
            Phase::Inactive => Phase::Pending(at),
            Phase::Pending(since) if at.saturating_duration_since(since) >= rule.hold => {
                Phase::Firing { told: false }
            }
            Phase::Pending(since) => Phase::Pending(since),
            // Above 1 it would resolve as soon as it fires.
            Phase::Firing { told } if value <= threshold * rule.resolve_threshold.min(1.0) => {
                self.phase = Phase::Inactive;
                return told.then_some((State::Resolved, false));
            }
            firing @ Phase::Firing { .. } => firing,
        };
        match self.phase {
            Phase::Firing { told } if above && !self.is_early(at, rule) => {
                self.phase = Phase::Firing { told: true };
                self.told = Some(at);
                Some((State::Firing, told))
            }
            _ => None,
        }
    }

    /// Whether the last notification is so recent that another one would be too early.
    fn is_early(&self, at: Instant, rule: &Rule) -> bool {
        self.told.is_some_and(|told| at.saturating_duration_since(told) < rule.repeat_interval)
    }

    /// Whether it neither fires nor is pending.
    pub(super) fn is_inactive(&self) -> bool {
        self.phase == Phase::Inactive
    }

    /// Whether it needs no memory.
    pub(super) fn is_quiet(&self, at: Instant, rule: &Rule) -> bool {
        self.is_inactive() && !self.is_early(at, rule)
    }

    /// The same state under the new index of its rule.
    pub(super) fn moved_to(&self, rule: usize) -> Condition {
        Condition { rule, ..self.clone() }
    }
}
