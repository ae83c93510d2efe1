//! Timelines written by hand.

use std::time::{Duration, Instant};

use regex::bytes::Regex;

use super::*;
use crate::model::traffic::Rate;

mod any;
mod memory;
mod renamed;

const KIB: f64 = 1024.0;
const SECOND: Duration = Duration::from_secs(1);

/// A rule as in the original: the mean of a second, and a notification each second.
fn rule(name: &str, filter: &str) -> Rule {
    Rule {
        name: name.as_bytes().into(),
        filter: Regex::new(filter).unwrap(),
        in_threshold: Some(100.0),
        out_threshold: None,
        window: SECOND,
        hold: Duration::ZERO,
        repeat_interval: Duration::ZERO,
        resolve_threshold: 1.0,
    }
}

struct Timeline {
    alerts: Alerts,
    now: Instant,
}

impl Timeline {
    fn new(rules: Vec<Rule>) -> Timeline {
        let mut timeline = Timeline { alerts: Alerts::new(rules), now: Instant::now() };
        assert_eq!(timeline.alerts.observe(timeline.now, []), []);
        timeline
    }

    /// Lets time pass, with these KiB/s received and sent.
    fn after(&mut self, time: Duration, rates: &[(&str, f64, f64)]) -> Vec<String> {
        self.now += time;
        let rates: Vec<(Name, Rate)> = rates
            .iter()
            .map(|(name, received, sent)| {
                let rate = Rate { received: received * KIB, sent: sent * KIB };
                (name.as_bytes().into(), rate)
            })
            .collect();
        let said = self.alerts.observe(self.now, rates.iter().map(|(name, rate)| (name, *rate)));
        said.iter()
            .map(|n| {
                let rule = String::from_utf8_lossy(&self.alerts.rules()[n.rule].name);
                let application = String::from_utf8_lossy(&n.application);
                let again = if n.repeated { " again" } else { "" };
                format!("{rule}: {application} {} {} {:.2}{again}", n.direction, n.state, n.value)
            })
            .collect()
    }

    /// A second in which `app` receives at `kib` KiB/s.
    fn second(&mut self, kib: f64) -> Vec<String> {
        self.after(SECOND, &[("app", kib, 0.0)])
    }
}

#[test]
fn the_first_call_is_the_beginning_of_time() {
    let mut alerts = Alerts::new(vec![rule("r", "")]);
    let name: Name = b"app".as_slice().into();
    let rate = Rate { received: 1e9, sent: 0.0 };
    let start = Instant::now();
    assert_eq!(alerts.observe(start, [(&name, rate)]), []);
    // No time has passed, or less than none.
    assert_eq!(alerts.observe(start, [(&name, rate)]), []);
    assert_eq!(alerts.observe(start - SECOND, [(&name, rate)]), []);
    assert_eq!(alerts.observe(start + SECOND, [(&name, rate)]).len(), 1);
}

#[test]
fn as_the_original_with_its_defaults() {
    let mut t = Timeline::new(vec![rule("r", "app")]);
    // At the threshold is not above it.
    assert!(t.second(100.0).is_empty());
    assert_eq!(t.second(100.5), ["r: app in firing 100.50"]);
    assert_eq!(t.second(200.0), ["r: app in firing 200.00 again"]);
    assert_eq!(t.second(100.0), ["r: app in resolved 100.00"]);
    assert!(t.second(99.0).is_empty());
}

#[test]
fn silence_is_0() {
    let mut t = Timeline::new(vec![Rule { window: 4 * SECOND, ..rule("r", "app") }]);
    // The mean at the first second is that second's value.
    assert_eq!(t.second(300.0), ["r: app in firing 300.00"]);
    assert_eq!(t.after(SECOND, &[]), ["r: app in firing 150.00 again"]);
    assert_eq!(t.after(SECOND, &[]), ["r: app in resolved 100.00"]);
}

#[test]
fn an_application_is_told_apart_by_its_raw_name_uncut() {
    let long = format!("{}\u{1b}end", "x".repeat(100));
    let mut t = Timeline::new(vec![rule("r", r"\x1bend$")]);
    assert_eq!(t.after(SECOND, &[(&long, 101.0, 0.0), ("end", 900.0, 0.0)]).len(), 1);
}

#[test]
fn the_interval_does_not_matter() {
    for step in [Duration::from_millis(200), SECOND, Duration::from_secs(10)] {
        let mut t = Timeline::new(vec![Rule { window: 5 * SECOND, ..rule("r", "app") }]);
        let until = |t: &mut Timeline, time: u32, kib: f64| -> Vec<String> {
            let steps = (time * SECOND).div_duration_f64(step).round() as u32;
            (0..steps).flat_map(|_| t.after(step, &[("app", kib, 0.0)])).collect()
        };
        assert!(until(&mut t, 10, 50.0).is_empty());
        // Of 5 s at 200 after 50, the mean is above 100 from 1.67 s on.
        let said = until(&mut t, 10, 200.0);
        let first = if step < SECOND {
            "104"
        } else if step == SECOND {
            "110"
        } else {
            "200"
        };
        assert!(said[0].starts_with(&format!("r: app in firing {first}.00")), "{said:?}");
        assert_eq!(said.last().unwrap().split(' ').nth(4), Some("200.00"));
        let said = until(&mut t, 10, 0.0);
        assert!(said.last().unwrap().starts_with("r: app in resolved"), "{said:?}");
    }
}

#[test]
fn a_sample_longer_than_the_window_counts_with_its_part() {
    let mut t = Timeline::new(vec![Rule { window: 5 * SECOND, ..rule("r", "app") }]);
    assert_eq!(t.after(100 * SECOND, &[("app", 101.0, 0.0)]), ["r: app in firing 101.00"]);
    // 4 s of it are still inside.
    assert_eq!(t.second(0.0), ["r: app in resolved 80.80"]);
}

#[test]
fn it_must_last_where_that_is_asked_for() {
    let mut t = Timeline::new(vec![Rule { hold: 2 * SECOND, ..rule("r", "app") }]);
    assert!(t.second(200.0).is_empty());
    assert!(t.second(200.0).is_empty());
    // It begins anew after a fall.
    assert!(t.second(100.0).is_empty());
    assert!(t.second(200.0).is_empty());
    assert!(t.second(200.0).is_empty());
    assert_eq!(t.second(300.0), ["r: app in firing 300.00"]);
    assert_eq!(t.second(300.0), ["r: app in firing 300.00 again"]);
    assert_eq!(t.second(0.0), ["r: app in resolved 0.00"]);
}

#[test]
fn it_is_repeated_no_sooner_than_asked_for() {
    let mut t = Timeline::new(vec![Rule { repeat_interval: 3 * SECOND, ..rule("r", "app") }]);
    assert_eq!(t.second(200.0), ["r: app in firing 200.00"]);
    assert!(t.second(200.0).is_empty());
    assert!(t.second(200.0).is_empty());
    assert_eq!(t.second(210.0), ["r: app in firing 210.00 again"]);
    // Resolved is said at once, a new firing is held back, and said if it lasts until then.
    assert_eq!(t.second(0.0), ["r: app in resolved 0.00"]);
    assert!(t.second(200.0).is_empty());
    assert_eq!(t.second(200.0), ["r: app in firing 200.00"]);
    assert_eq!(t.second(0.0), ["r: app in resolved 0.00"]);
    // Of what was held back and is over, nothing is said at all.
    assert!(t.second(200.0).is_empty());
    assert!(t.second(0.0).is_empty());
    assert!(t.second(0.0).is_empty());
}

#[test]
fn it_is_over_below_a_share_of_the_threshold() {
    let mut t = Timeline::new(vec![Rule { resolve_threshold: 0.8, ..rule("r", "app") }]);
    assert_eq!(t.second(101.0), ["r: app in firing 101.00"]);
    // Neither above nor over.
    assert!(t.second(90.0).is_empty());
    assert_eq!(t.second(102.0), ["r: app in firing 102.00 again"]);
    assert_eq!(t.second(80.0), ["r: app in resolved 80.00"]);
    assert!(t.second(90.0).is_empty());
    // A share of 0 is reached by silence.
    let mut t = Timeline::new(vec![Rule { resolve_threshold: 0.0, ..rule("r", "app") }]);
    assert_eq!(t.second(101.0), ["r: app in firing 101.00"]);
    assert!(t.second(0.001).is_empty());
    assert_eq!(t.second(0.0), ["r: app in resolved 0.00"]);
    // Above 1 it would be over while it is above.
    let mut t = Timeline::new(vec![Rule { resolve_threshold: 9.0, ..rule("r", "app") }]);
    assert_eq!(t.second(101.0), ["r: app in firing 101.00"]);
    assert_eq!(t.second(101.0), ["r: app in firing 101.00 again"]);
}

#[test]
fn in_order_of_rule_application_and_direction() {
    let both = |name| Rule { out_threshold: Some(10.0), ..rule(name, "^a") };
    let mut t = Timeline::new(vec![both("z"), both("y")]);
    let said = t.after(SECOND, &[("a2", 101.0, 11.0), ("a1", 101.0, 11.0), ("b", 900.0, 900.0)]);
    let expected: Vec<String> = ["z", "y"]
        .iter()
        .flat_map(|rule| ["a1", "a2"].map(|application| (rule, application)))
        .flat_map(|(rule, application)| {
            ["in firing 101.00", "out firing 11.00"].map(|s| format!("{rule}: {application} {s}"))
        })
        .collect();
    assert_eq!(said, expected);
}
