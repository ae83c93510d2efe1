//! Notifications on their way to people.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::alert::{Direction, Notification, Rule, State};
use crate::notify::{Commands, Facts, Left, Report, Runner, line, time};
use crate::traffic::Name;

/// How long a line of something that is over stays on a screen.
const OVER: Duration = Duration::from_secs(10);

/// The most lines on a screen: the list is what it is for.
const SHOWN: usize = 10;

/// A line that stays on the screen.
#[derive(Debug)]
struct Shown {
    rule: Vec<u8>,
    application: Name,
    direction: Direction,
    line: String,
    /// When it was over.
    over: Option<Instant>,
}

/// Writes lines to standard error and starts commands.
pub(super) struct Alarms {
    runner: Runner,
    /// What is to be started for each rule.
    commands: Vec<Commands>,
    /// Whether lines would be wiped away by the next refresh.
    wiped: bool,
    shown: Vec<Shown>,
}

impl Alarms {
    /// What commands leave to say goes to `report`.
    pub(super) fn new(report: Report, wiped: bool) -> Alarms {
        Alarms { runner: Runner::new(report), commands: Vec::new(), wiped, shown: Vec::new() }
    }

    /// From now on these are the commands of the rules, in their order.
    pub(super) fn configure(&mut self, commands: Vec<Commands>) {
        self.commands = commands;
    }

    /// Tells of all of these.
    pub(super) fn tell(&mut self, notifications: Vec<Notification>, rules: &[Rule], now: Instant) {
        let over = |shown: &Shown| {
            shown.over.is_some_and(|over| now.saturating_duration_since(over) >= OVER)
        };
        self.shown.retain(|shown| !over(shown));
        if notifications.is_empty() {
            return;
        }
        let time = time(&jiff::Zoned::now());
        for notification in notifications {
            let index = notification.rule;
            let (Some(rule), Some(commands)) = (rules.get(index), self.commands.get(index)) else {
                continue;
            };
            let facts = Facts::new(rule, &notification, time.clone());
            let line = line(&facts);
            // A standard error that is closed is nobody's problem.
            let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
            if self.wiped {
                keep(&mut self.shown, &facts, line, now);
            }
            self.runner.notify(&rule.name, commands, facts, notification.repeated);
        }
    }

    /// The lines that stay on the screen: of what lasts, and of what is over since a moment ago.
    pub(super) fn on_screen(&self) -> impl Iterator<Item = String> {
        self.shown.iter().map(|shown| shown.line.clone())
    }

    /// See [`Runner::finish`].
    pub(super) fn finish(self, deadline: Option<Instant>) -> Left {
        self.runner.finish(deadline)
    }
}

/// The last line of each rule, application and direction stays.
fn keep(shown: &mut Vec<Shown>, facts: &Facts, line: String, now: Instant) {
    shown.retain(|shown| {
        (&shown.rule, &shown.application, shown.direction)
            != (&facts.rule, &facts.application, facts.direction)
    });
    let over = (facts.state == State::Resolved).then_some(now);
    let (rule, application) = (facts.rule.clone(), facts.application.clone());
    shown.push(Shown { rule, application, direction: facts.direction, line, over });
    if shown.len() > SHOWN {
        shown.remove(0);
    }
}
