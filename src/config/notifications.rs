//! The notification file: rules of alerts, and their commands.

use std::path::Path;
use std::time::Duration;

use regex::bytes::Regex;

use super::error::{ConfigError, Problem};
use super::ini;
use super::keys::{Fallback, Key, Kind, NOTIFICATIONS};
use super::section::Reading;
use super::values::{self, Threshold};
use crate::alert::Rule;
use crate::filter;
use crate::notify::{Command, Commands};

/// A notification: a rule and its commands.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The rule of the alert.
    pub rule: Rule,
    /// The commands.
    pub commands: Commands,
}

impl Notification {
    /// The settings of a section without keys.
    pub(super) fn new(name: &[u8]) -> Notification {
        Notification {
            rule: Rule {
                name: name.into(),
                filter: filter::anything(),
                in_threshold: None,
                out_threshold: None,
                window: Duration::ZERO,
                hold: Duration::ZERO,
                repeat_interval: Duration::ZERO,
                resolve_threshold: 0.0,
            },
            commands: Commands { firing: None, resolved: None, timeout: Duration::ZERO },
        }
    }

    /// The key of its first command that gets an application's name in a word.
    fn key_with_application(&self) -> Option<&'static str> {
        let Commands { firing, resolved, .. } = &self.commands;
        [(firing, NOTIFICATION_COMMAND.name), (resolved, RESOLVED_COMMAND.name)]
            .into_iter()
            .find(|(command, _)| command.as_ref().is_some_and(Command::has_application))
            .map(|(_, key)| key)
    }

    /// Whether it has no threshold, and so can't fire.
    pub fn never_fires(&self) -> bool {
        self.rule.in_threshold.is_none() && self.rule.out_threshold.is_none()
    }
}

/// Reads the bytes of a notification file. `file` is the path for messages.
///
/// # Errors
/// All errors in the file.
pub fn parse_notifications(
    file: &Path,
    bytes: &[u8],
) -> Result<Vec<Notification>, Vec<ConfigError>> {
    parse_in(file, bytes, || Ok(()))
}

/// [`parse_notifications`], with the judgement of `folder` on the working directory of commands that get an
/// application's name in a word. The first of them reports the problem.
pub(super) fn parse_in(
    file: &Path,
    bytes: &[u8],
    folder: fn() -> Result<(), Problem>,
) -> Result<Vec<Notification>, Vec<ConfigError>> {
    let (document, errors) = ini::parse(file, bytes);
    let mut reading = Reading::new(&document, errors, &NOTIFICATIONS);
    let mut notifications = Vec::new();
    let mut is_judged = false;
    for section in document.sections() {
        let Some(notification) = reading.read(section, &NOTIFICATION, Notification::new) else {
            continue;
        };
        if let Some(key) = notification.key_with_application().filter(|_| !is_judged) {
            is_judged = true;
            if let Err(problem) = folder() {
                reading.wrong(section, key, problem);
            }
        }
        notifications.push(notification);
    }
    reading.finish(notifications)
}

type NotificationKey<T> = Key<Notification, T>;

/// The keys of a notification.
pub(super) static NOTIFICATION: Kind<Notification> = Kind {
    name: "notification",
    keys: &[
        &PROCESS_FILTER,
        &NOTIFICATION_THRESHOLD,
        &IN_THRESHOLD,
        &OUT_THRESHOLD,
        &INTERVAL,
        &FOR,
        &REPEAT_INTERVAL,
        &RESOLVE_THRESHOLD,
        &NOTIFICATION_COMMAND,
        &RESOLVED_COMMAND,
        &COMMAND_TIMEOUT,
    ],
};

static PROCESS_FILTER: NotificationKey<Regex> = Key {
    name: "process_filter",
    help: "Apply the rule to applications whose name this regular expression matches, anywhere in \
           it. The name is the section of --app-config, else the command line of the process, or \
           the name of the pipe",
    default: Fallback::Required,
    value: &values::PATTERN,
    set: |notification, pattern| notification.rule.filter = pattern,
    get: |notification| Some(notification.rule.filter.clone()),
};

static NOTIFICATION_THRESHOLD: NotificationKey<Threshold> = Key {
    name: "notification_threshold",
    help: "Notify when the mean rate in either direction is above this many KiB/s (1024 bytes per \
           second); 0 means no threshold",
    default: Fallback::Value("0"),
    value: &values::THRESHOLD,
    set: |Notification { rule, .. }, limit| {
        (rule.in_threshold, rule.out_threshold) = (limit, limit);
    },
    get: |Notification { rule, .. }| {
        Some(rule.in_threshold.filter(|_| rule.in_threshold == rule.out_threshold))
    },
};

/// Read after [`NOTIFICATION_THRESHOLD`], which it overrides.
static IN_THRESHOLD: NotificationKey<Threshold> = Key {
    name: "in_threshold",
    help: "Notify when the mean rate of received bytes is above this many KiB/s; 0 means no threshold",
    default: Fallback::Nothing("the value of notification_threshold"),
    value: &values::THRESHOLD,
    set: |notification, limit| notification.rule.in_threshold = limit,
    get: |notification| Some(notification.rule.in_threshold),
};

/// Read after [`NOTIFICATION_THRESHOLD`], which it overrides.
static OUT_THRESHOLD: NotificationKey<Threshold> = Key {
    name: "out_threshold",
    help: "Notify when the mean rate of sent bytes is above this many KiB/s; 0 means no threshold",
    default: Fallback::Nothing("the value of notification_threshold"),
    value: &values::THRESHOLD,
    set: |notification, limit| notification.rule.out_threshold = limit,
    get: |notification| Some(notification.rule.out_threshold),
};

static INTERVAL: NotificationKey<Duration> = Key {
    name: "interval",
    help: "Length of the window over which the mean is taken",
    default: Fallback::Value("1"),
    value: &values::WINDOW,
    set: |notification, window| notification.rule.window = window,
    get: |notification| Some(notification.rule.window),
};

static FOR: NotificationKey<Duration> = Key {
    name: "for",
    help: "How long the mean must stay above the threshold before the rule notifies",
    default: Fallback::Value("0"),
    value: &values::DELAY,
    set: |notification, hold| notification.rule.hold = hold,
    get: |notification| Some(notification.rule.hold),
};

static REPEAT_INTERVAL: NotificationKey<Duration> = Key {
    name: "repeat_interval",
    help: "Minimum time between two notifications about the same application and direction",
    default: Fallback::Value("1"),
    value: &values::DELAY,
    set: |notification, interval| notification.rule.repeat_interval = interval,
    get: |notification| Some(notification.rule.repeat_interval),
};

static RESOLVE_THRESHOLD: NotificationKey<f64> = Key {
    name: "resolve_threshold",
    help: "The alert resolves when the mean falls to this fraction of the threshold, or below. Less \
           than 1 keeps a rate near the threshold from notifying again and again",
    default: Fallback::Value("1"),
    value: &values::SHARE,
    set: |notification, share| notification.rule.resolve_threshold = share,
    get: |notification| Some(notification.rule.resolve_threshold),
};

static NOTIFICATION_COMMAND: NotificationKey<Command> = Key {
    name: "notification_command",
    help: "Command to start with each notification",
    default: Fallback::Nothing("none"),
    value: &values::COMMAND,
    set: |notification, command| notification.commands.firing = Some(command),
    get: |notification| notification.commands.firing.clone(),
};

static RESOLVED_COMMAND: NotificationKey<Command> = Key {
    name: "resolved_command",
    help: "Command to start when the alert resolves",
    default: Fallback::Nothing("none"),
    value: &values::COMMAND,
    set: |notification, command| notification.commands.resolved = Some(command),
    get: |notification| notification.commands.resolved.clone(),
};

static COMMAND_TIMEOUT: NotificationKey<Duration> = Key {
    name: "command_timeout",
    help: "How long a command may run before it is killed",
    default: Fallback::Value("60"),
    value: &values::TIMEOUT,
    set: |notification, timeout| notification.commands.timeout = timeout,
    get: |notification| Some(notification.commands.timeout),
};
