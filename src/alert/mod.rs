//! Alerts compare mean rates with thresholds. This module doesn't print, start processes, or read a
//! clock.

mod alerts;
mod application;
mod renamed;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use regex::bytes::Regex;

use crate::model::traffic::Name;
pub use crate::model::{Direction, Notification, State};
pub use alerts::{APPLICATIONS, Alerts};

/// A rule of the notification file.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The name of its section. Raw bytes.
    pub name: Name,
    /// The rule applies to applications whose name this matches, anywhere in it.
    pub filter: Regex,
    /// The threshold of received bytes, in KiB/s; `None` for no threshold.
    pub in_threshold: Option<f64>,
    /// The threshold of sent bytes, in KiB/s; `None` for no threshold.
    pub out_threshold: Option<f64>,
    /// The length of the window over which the mean is taken (`interval`). With length 0 the mean
    /// is 0.
    pub window: Duration,
    /// How long the mean must stay above the threshold before the rule fires (`for`).
    pub hold: Duration,
    /// Minimum time between two notifications (`repeat_interval`).
    pub repeat_interval: Duration,
    /// The alert resolves when the mean is at most this fraction of the threshold
    /// (`resolve_threshold`). Values above 1 are treated as 1.
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
