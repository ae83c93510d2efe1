//! What people are told of alerts.

use std::fmt;

use serde::Serialize;

use super::name;
use super::traffic::Name;

/// The way that bytes go, as the application sees it.
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

/// What a notification says of its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum State {
    /// The mean is above the threshold.
    Firing,
    /// It is so no longer.
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

/// Something that people want to be told.
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
    /// Whose traffic it is: of a name of more than 1,024 bytes the beginning.
    #[serde(serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub application: Name,
    /// Which way it goes.
    pub direction: Direction,
    /// The rule's threshold, in KiB/s.
    pub threshold: f64,
    /// The mean, in KiB/s.
    pub value: f64,
    /// Whether it fires.
    pub state: State,
    /// A firing that was notified before and lasts.
    pub repeated: bool,
}
