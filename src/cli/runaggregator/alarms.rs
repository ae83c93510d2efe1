//! Shows notifications and starts their commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alert::{Direction, Notification, Rule, State};
use crate::cli::messages::Messages;
use crate::group::Groups;
use crate::model::traffic::Name;
use crate::notify::{Commands, Complain, Facts, Left, Runner, line, time};

/// How long the line of a resolved alert stays on a screen.
const OVER: Duration = Duration::from_secs(10);

/// Maximum lines of alerts on a screen, which leave room for the list.
const SHOWN: usize = 10;

/// A line that stays on the screen.
#[derive(Debug)]
struct Shown {
    rule: Name,
    application: Name,
    direction: Direction,
    line: String,
    /// When the alert resolved.
    over: Option<Instant>,
}

/// Writes lines and starts commands.
pub(super) struct Alarms {
    runner: Runner,
    messages: Messages,
    /// The commands of each rule.
    commands: Vec<Commands>,
    shown: Vec<Shown>,
}

impl Alarms {
    /// Errors of commands are written as messages.
    pub(super) fn new(messages: &Messages) -> Alarms {
        let said = messages.clone();
        let report: Complain = Arc::new(move |message| said.say(&message));
        let (runner, messages) = (Runner::new(report), messages.clone());
        Alarms { runner, messages, commands: Vec::new(), shown: Vec::new() }
    }

    /// Sets the rules, with their commands in the same order. Lines of rules that no longer exist
    /// leave the screen.
    pub(super) fn configure(&mut self, rules: &[Rule], commands: Vec<Commands>) {
        self.shown.retain(|shown| rules.iter().any(|rule| rule.name == shown.rule));
        self.commands = commands;
    }

    /// Handles these notifications, whose applications are lines of `groups`.
    pub(super) fn tell(
        &mut self,
        notifications: &[Notification],
        rules: &[Rule],
        groups: &Groups,
        now: Instant,
    ) {
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
            let configured = groups.have_named(&notification.application);
            let facts = Facts::new(rule, notification, configured, time.clone());
            let line = line(&facts);
            if self.messages.are_wiped() {
                keep(&mut self.shown, &facts, line.clone(), now);
            }
            self.messages.pass(line);
            self.runner.notify(&rule.name, commands, facts, notification.repeated);
        }
    }

    /// The lines on the screen: alerts that fire, or have just resolved.
    pub(super) fn on_screen(&self) -> impl Iterator<Item = String> {
        self.shown.iter().map(|shown| shown.line.clone())
    }

    /// See [`Runner::finish`].
    pub(super) fn finish(self, deadline: Option<Instant>) -> Left {
        self.runner.finish(deadline)
    }
}

/// Replaces the line of the same rule, application and direction.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.as_bytes().into(),
            filter: crate::filter::compile(".").unwrap_or_else(|error| panic!("{error}")),
            in_threshold: Some(1.0),
            out_threshold: None,
            window: Duration::from_secs(1),
            hold: Duration::ZERO,
            repeat_interval: Duration::ZERO,
            resolve_threshold: 1.0,
        }
    }

    fn commands() -> Commands {
        Commands { firing: None, resolved: None, timeout: Duration::from_secs(1) }
    }

    #[test]
    fn the_line_of_a_rule_that_is_removed_leaves_the_screen() {
        let messages = Messages::start_on(std::io::sink(), "test", false, true).unwrap();
        let mut alarms = Alarms::new(&messages);
        let rules = [rule("stays"), rule("goes")];
        alarms.configure(&rules, vec![commands(), commands()]);
        let firing = |rule, application: &str| Notification {
            rule,
            rule_name: b"".as_slice().into(),
            application: application.as_bytes().into(),
            direction: Direction::In,
            threshold: 1.0,
            value: 2.0,
            state: State::Firing,
            repeated: false,
        };
        let now = Instant::now();
        let both = [firing(0, "one"), firing(1, "two")];
        alarms.tell(&both, &rules, &Groups::default(), now);
        assert_eq!(alarms.on_screen().count(), 2);
        alarms.configure(&rules[..1], vec![commands()]);
        let left: Vec<String> = alarms.on_screen().collect();
        assert!(left.len() == 1 && left[0].contains("one exceeding"), "{left:?}");
    }
}
