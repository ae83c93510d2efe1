//! Notifications reach people: lines, and commands that are started without a shell.

mod lines;
mod placeholders;
mod process;
mod queue;
mod runner;
mod shells;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use crate::alert::{Direction, Notification, Rule, State};
use crate::model::traffic::Name;
pub use lines::line;
pub use runner::{Complain, Left, Runner};

/// A command: its words, in which placeholders may stand: `{rule}`, `{app}`, `{direction}`,
/// `{threshold}`, `{value}`, `{state}`, `{time}`, as in [`Facts`].
///
/// They are replaced after the splitting, so a value is never split. Where others than the configuration have
/// chosen an application's name, it stands in a word reduced to what means nothing to any program: letters,
/// digits, `.:/-` and underscores, with an underscore in front. A value that the configuration has chosen gets a
/// space before a `-`, `+` or `@` with which a word begins. A placeholder in a word that a known shell or
/// interpreter would read as program text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    words: Vec<String>,
}

impl Command {
    /// Splits a command line into words as a shell would: at white space, with `'...'`, `"..."`
    /// and backslashes; nothing else means anything (`#`, `$`, `*`).
    ///
    /// # Errors
    /// A quotation or an escape that is never finished, a NUL byte, no program at all, a placeholder
    /// in the program's name or in what a shell would read: one sentence.
    pub fn parse(text: &str) -> Result<Command, String> {
        if text.contains('\0') {
            return Err("there is a NUL byte in it".to_owned());
        }
        let words = words::split(text)?;
        let Some(program) = words.first().filter(|program| !program.is_empty()) else {
            return Err("it names no program".to_owned());
        };
        if let Some(placeholder) = placeholders::placeholder(program) {
            return Err(format!(
                "{placeholder} in the program's name: nobody but this file may choose what is run"
            ));
        }
        shells::check(&words)?;
        Ok(Command { words })
    }

    /// Its words, placeholders as they were written. The first one is the program.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

/// What is started when a rule fires and when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// When it fires (`notification_command`).
    pub firing: Option<Command>,
    /// When it is over (`resolved_command`).
    pub resolved: Option<Command>,
    /// How long each may run before it is killed (`command_timeout`).
    pub timeout: Duration,
}

/// What there is to be told of a notification.
///
/// A command gets each as an environment variable: `BWMON_RULE`, `BWMON_APP`, `BWMON_DIRECTION`,
/// `BWMON_THRESHOLD_KIBPS`, `BWMON_VALUE_KIBPS`, `BWMON_STATE`, `BWMON_TIME`.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The name of the rule's section. Raw bytes; commands get it visible, 1000 characters at most.
    pub rule: Name,
    /// Whose traffic it is. Commands get it visible, 1000 characters at most.
    pub application: Name,
    /// Whether the configuration has chosen that name ([`Groups::have_named`](crate::group::Groups::have_named)).
    /// Any other is reduced where it stands in a word.
    pub configured: bool,
    /// Which way it goes: `in` or `out`.
    pub direction: Direction,
    /// The rule's threshold, in KiB/s. Two decimals.
    pub threshold: f64,
    /// The mean, in KiB/s. Two decimals.
    pub value: f64,
    /// `firing` or `resolved`.
    pub state: State,
    /// The local time, as [`time`] writes it.
    pub time: String,
}

impl Facts {
    /// The facts of a notification of `rule` at `time`, and whether the configuration has chosen the
    /// application's name.
    pub fn new(rule: &Rule, notification: &Notification, configured: bool, time: String) -> Facts {
        Facts {
            rule: rule.name.clone(),
            application: notification.application.clone(),
            configured,
            direction: notification.direction,
            threshold: notification.threshold,
            value: notification.value,
            state: notification.state,
            time,
        }
    }
}

/// A time as notifications have it: `YYYY-MM-DD HH:MM:SS`.
pub fn time(now: &jiff::Zoned) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
