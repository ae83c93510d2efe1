//! The notification file: when somebody is told.

use std::path::Path;

use super::error::ConfigError;
use super::ini::{self, Section};
use super::schema::{NOTIFICATION, NOTIFICATIONS};
use super::section::{Reading, Values};
use super::values::{delay, share, threshold, timeout, window};
use crate::alert::Rule;
use crate::notify::{Command, Commands};

/// A notification: when, and what is started then.
#[derive(Clone, Debug)]
pub struct Notification {
    /// When it fires.
    pub rule: Rule,
    /// What is started.
    pub commands: Commands,
}

impl Notification {
    /// Whether it has no threshold, and so can't fire.
    pub fn never_fires(&self) -> bool {
        self.rule.in_threshold.is_none() && self.rule.out_threshold.is_none()
    }
}

/// Reads the bytes of a notification file. `file` is only for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_notifications(
    file: &Path,
    bytes: &[u8],
) -> Result<Vec<Notification>, Vec<ConfigError>> {
    let (document, errors) = ini::parse(file, bytes);
    let mut reading = Reading::new(&document, errors, &NOTIFICATIONS);
    let mut notifications = Vec::new();
    for section in document.sections() {
        let mut values = reading.values(section, &NOTIFICATION);
        notifications.extend(notification(section, &mut values));
    }
    reading.finish(notifications)
}

/// A notification. `None` if what it can't be without is missing or wrong, which was said.
fn notification(section: &Section, values: &mut Values) -> Option<Notification> {
    // All of them are looked at, so that everything wrong is said.
    let filter = values.pattern("process_filter");
    let both = values.get("notification_threshold", threshold).flatten();
    let in_threshold = values.get("in_threshold", threshold).unwrap_or(both);
    let out_threshold = values.get("out_threshold", threshold).unwrap_or(both);
    let window = values.get("interval", window);
    let hold = values.get("for", delay);
    let repeat_interval = values.get("repeat_interval", delay);
    let resolve_threshold = values.get("resolve_threshold", share);
    let firing = values.get("notification_command", command);
    let resolved = values.get("resolved_command", command);
    let timeout = values.get("command_timeout", timeout);
    Some(Notification {
        rule: Rule {
            name: section.name.clone(),
            filter: filter?,
            in_threshold,
            out_threshold,
            window: window?,
            hold: hold?,
            repeat_interval: repeat_interval?,
            resolve_threshold: resolve_threshold?,
        },
        commands: Commands { firing, resolved, timeout: timeout? },
    })
}

fn command(value: &str) -> Result<Command, String> {
    Command::parse(value).map_err(|error| crate::escape::visible(error.as_bytes()))
}
