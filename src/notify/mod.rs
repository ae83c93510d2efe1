//! Notifications: lines, and commands that are started without a shell.

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

/// A command: its words, which may contain the placeholders `{rule}`, `{app}`, `{direction}`, `{threshold}`,
/// `{value}`, `{state}` and `{time}`, as in [`Facts`].
///
/// Placeholders are replaced after the splitting, so a value is never split. An application's name that does not
/// come from the configuration is reduced to characters without a meaning to any program: letters, digits,
/// `.:-` and underscores, with an underscore in front. A value from the configuration gets a space in front if
/// the word would start with its `-`, `+` or `@`. A placeholder in a word that a known shell or interpreter
/// would read as program text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    words: Vec<String>,
}

impl Command {
    /// Splits a command line into words as a shell does: at white space, with `'...'`, `"..."` and
    /// backslashes. Other characters have no special meaning (`#`, `$`, `*`).
    ///
    /// # Errors
    /// An unfinished quotation or escape, a NUL byte, no program at all, a placeholder in the
    /// program's name or in what a shell would read: one sentence.
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

    /// Whether an application's name is inserted into one of its words.
    pub fn has_application(&self) -> bool {
        self.words.iter().any(|word| placeholders::has_application(word))
    }

    /// Its words, with the placeholders. The first one is the program.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

/// The commands of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// The command when the alert fires (`notification_command`).
    pub firing: Option<Command>,
    /// The command when the alert resolves (`resolved_command`).
    pub resolved: Option<Command>,
    /// How long each may run before it is killed (`command_timeout`).
    pub timeout: Duration,
}

/// The facts of a notification.
///
/// A command gets each as an environment variable: `BWMON_RULE`, `BWMON_APP`, `BWMON_DIRECTION`,
/// `BWMON_THRESHOLD_KIBPS`, `BWMON_VALUE_KIBPS`, `BWMON_STATE`, `BWMON_TIME`.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The name of the rule's section. Raw bytes; commands get it made visible, at most 1000
    /// characters.
    pub rule: Name,
    /// The name of the application. Commands get it made visible, at most 1000 characters.
    pub application: Name,
    /// Whether that name comes from the configuration ([`Groups::have_named`](crate::group::Groups::have_named)).
    /// Other names are reduced inside a word.
    pub configured: bool,
    /// The direction of the traffic: `in` or `out`.
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
    /// The facts of a notification of `rule` at `time`; `configured` says whether the application's
    /// name comes from the configuration.
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

/// A time in the form of notifications: `YYYY-MM-DD HH:MM:SS`.
pub fn time(now: &jiff::Zoned) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
