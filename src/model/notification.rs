//! Notifications of alerts.

use std::fmt;

use serde::Serialize;

use super::name;
use super::traffic::Name;

/// The direction of bytes, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Direction {
    /// Received bytes.
    In,
    /// Sent bytes.
    Out,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Direction::In => "in",
            Direction::Out => "out",
        })
    }
}

/// State of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum State {
    /// The mean is above the threshold.
    Firing,
    /// The mean has fallen below the threshold.
    Resolved,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Firing => "firing",
            State::Resolved => "resolved",
        })
    }
}

/// An alert that fires or resolves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Notification {
    /// The index of the rule in [`Alerts::rules`](crate::alert::Alerts::rules).
    #[serde(skip)]
    pub rule: usize,
    /// The name of the rule.
    #[serde(rename = "rule", serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub rule_name: Name,
    /// The application with the traffic: the first 1,024 bytes of its name.
    #[serde(serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub application: Name,
    /// The direction of the traffic.
    pub direction: Direction,
    /// The rule's threshold, in KiB/s.
    pub threshold: f64,
    /// The mean traffic, in KiB/s.
    pub value: f64,
    /// Whether the alert fires or resolves.
    pub state: State,
    /// Whether the alert keeps firing and was notified before.
    pub repeated: bool,
}
