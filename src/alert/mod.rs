//! Alerts: averaged rates against thresholds. Nothing here prints, spawns, or reads a clock.

mod alerts;
mod application;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::time::Duration;

use regex::bytes::Regex;
use serde::{Serialize, Serializer};

use crate::model::Text;
use crate::traffic::Name;
pub use alerts::{APPLICATIONS, Alerts};

/// A rule of the notification configuration.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name of its section. Raw bytes.
    pub name: Name,
    /// For which applications it holds: it is searched in their names.
    pub filter: Regex,
    /// In KiB/s: above which mean rate of received bytes it fires; `None` for never.
    pub in_threshold: Option<f64>,
    /// The same for sent bytes.
    pub out_threshold: Option<f64>,
    /// Over how long the mean is taken (`interval`). Over no time at all the mean is 0.
    pub window: Duration,
    /// How long the mean must stay above the threshold before the rule fires (`for`).
    pub hold: Duration,
    /// The least time between two notifications (`repeat_interval`).
    pub repeat_interval: Duration,
    /// At or below which share of the threshold it is over (`resolve_threshold`). Above 1 it
    /// counts as 1.
    pub resolve_threshold: f64,
}

impl Rule {
    /// The threshold of a direction, in KiB/s.
    pub fn threshold(&self, direction: Direction) -> Option<f64> {
        match direction {
            Direction::In => self.in_threshold,
            Direction::Out => self.out_threshold,
        }
    }
}

/// The way that bytes go, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
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
pub struct Notification {
    /// The index of the rule in [`Alerts::rules`].
    #[serde(skip)]
    pub rule: usize,
    /// The name of the rule.
    #[serde(rename = "rule", serialize_with = "text")]
    pub rule_name: Name,
    /// Whose traffic it is: of a name of more than 1,024 bytes the beginning.
    #[serde(serialize_with = "text")]
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

fn text<S: Serializer>(name: &Name, serializer: S) -> Result<S::Ok, S::Error> {
    Text(name).serialize(serializer)
}
