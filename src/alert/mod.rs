//! Alerts: averaged rates against thresholds. Nothing here prints, spawns, or reads a clock.

mod alerts;
mod application;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use regex::bytes::Regex;

use crate::model::traffic::Name;
pub use crate::model::{Direction, Notification, State};
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
