//! Changes of rules, and applications that come and go.

use super::*;
use crate::brief::Brief;

#[test]
fn other_rules_keep_the_states_of_the_same_name() {
    let held = Rule { repeat_interval: 10 * SECOND, ..rule("held", "app") };
    let mut t = Timeline::new(vec![rule("gone", "app"), held.clone()]);
    assert_eq!(t.second(200.0).len(), 2);
    t.alerts.replace(vec![held, rule("new", "app")]);
    // The one that is held back stays so; the new one begins.
    assert_eq!(t.second(200.0), ["new: app in firing 200.00"]);
    assert_eq!(t.second(0.0), ["held: app in resolved 0.00", "new: app in resolved 0.00"]);
}

#[test]
fn other_rules_keep_the_windows() {
    let long = Rule { window: 4 * SECOND, in_threshold: Some(1000.0), ..rule("r", "app") };
    let mut t = Timeline::new(vec![long.clone()]);
    t.second(40.0);
    t.second(400.0);
    t.alerts.replace(vec![Rule { in_threshold: Some(10.0), ..long.clone() }]);
    assert_eq!(t.second(0.0)[0], format!("r: app in firing {:.2}", 440.0 / 3.0));
    // What was dropped under a shorter window is unknown, not silence: only 2 s are known then.
    t.alerts.replace(vec![rule("r", "app")]);
    assert_eq!(t.second(200.0), ["r: app in firing 200.00 again"]);
    t.alerts.replace(vec![long, rule("r2", "app")]);
    assert_eq!(t.alerts.rules().len(), 2);
    t.alerts.replace(vec![Rule { in_threshold: Some(10.0), window: 4 * SECOND, ..rule("r", "a") }]);
    assert_eq!(t.second(100.0)[0].split(" again").next(), Some("r: app in firing 150.00"));
}

#[test]
fn other_rules_may_match_others() {
    let mut t = Timeline::new(vec![rule("r", "app")]);
    assert!(t.after(SECOND, &[("other", 200.0, 0.0)]).is_empty());
    assert_eq!(t.second(200.0).len(), 1);
    t.alerts.replace(vec![rule("r", "other")]);
    let said = t.after(SECOND, &[("other", 200.0, 0.0), ("app", 200.0, 0.0)]);
    assert_eq!(said, ["r: other in firing 200.00"]);
    t.alerts.replace(Vec::new());
    assert!(t.after(SECOND, &[("other", 200.0, 0.0), ("app", 200.0, 0.0)]).is_empty());
    assert!(t.alerts.awake.is_empty() && t.alerts.applications.is_empty());
}

#[test]
fn who_is_silent_costs_nothing_but_was_seen() {
    let mut t = Timeline::new(vec![Rule { window: 4 * SECOND, ..rule("r", "app") }]);
    t.second(80.0);
    for _ in 0..3 {
        t.second(0.0);
        assert_eq!(t.alerts.awake.len(), 1);
    }
    t.second(0.0);
    assert!(t.alerts.awake.is_empty());
    // 4 s of which 3 were silent, not the first second of one that was never seen.
    assert!(t.second(400.0).is_empty());
    assert_eq!(t.second(400.0), ["r: app in firing 200.00"]);
}

#[test]
fn who_fired_is_remembered_until_it_may_fire_again() {
    let mut t = Timeline::new(vec![Rule { repeat_interval: 5 * SECOND, ..rule("r", "app") }]);
    assert_eq!(t.second(200.0), ["r: app in firing 200.00"]);
    assert_eq!(t.second(0.0), ["r: app in resolved 0.00"]);
    assert!(t.after(3 * SECOND, &[]).is_empty());
    assert_eq!(t.alerts.awake.len(), 1);
    assert!(t.after(SECOND, &[]).is_empty());
    assert!(t.alerts.awake.is_empty());
}

#[test]
fn those_silent_for_longest_are_forgotten_first() {
    let hour = Duration::from_secs(3600);
    let mut t = Timeline::new(vec![Rule { repeat_interval: hour, ..rule("r", "app") }]);
    t.alerts.limit = 10;
    // It is silent for longest, and has fired.
    assert_eq!(t.after(SECOND, &[("app fired", 200.0, 0.0)]).len(), 1);
    for number in 0..12 {
        t.after(SECOND, &[(&format!("app {number}"), 1.0, 0.0)]);
        t.after(SECOND, &[(&format!("strange {number}"), 1.0, 0.0)]);
    }
    let knows = |t: &Timeline, name: &str| t.alerts.names.contains_key(&brief(name));
    assert_eq!(t.alerts.applications.len(), 10);
    assert!(knows(&t, "app fired") && knows(&t, "app 11") && knows(&t, "app 3"));
    assert!(!knows(&t, "app 0") && !knows(&t, "app 2"));
    assert!(t.alerts.names.len() <= 20);
    assert!(!t.alerts.take_crowded());
    // Where all others are as busy a new one is not watched: no window is begun anew.
    let names: Vec<String> = (0..30).map(|number| format!("app {number}")).collect();
    let rates: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0, 0.0)).collect();
    t.after(SECOND, &rates);
    assert_eq!(t.alerts.applications.len(), 10);
    assert!((3..12).all(|number| knows(&t, &format!("app {number}"))));
    assert!(t.alerts.take_crowded() && !t.alerts.take_crowded());
}

/// A user who starts many processes can't suppress notifications about others.
#[test]
fn no_number_of_applications_that_have_fired_keeps_another_one_from_it() {
    let hour = Duration::from_secs(3600);
    let mut t = Timeline::new(vec![Rule { repeat_interval: hour, ..rule("r", "app") }]);
    t.alerts.limit = 10;
    for number in 0..30 {
        let name = format!("app {number}");
        let said = t.after(SECOND, &[(&name, 200.0, 0.0)]);
        assert!(said.contains(&format!("r: {name} in firing 200.00")), "{said:?}");
        assert_eq!(t.alerts.take_crowded(), number >= 10, "{number}");
    }
    // Of those that are kept it is not said again too early: the last ones.
    assert_eq!(t.after(SECOND, &[("app 29", 200.0, 0.0), ("app 21", 200.0, 0.0)]).len(), 0);
    let said = t.after(SECOND, &[("app 0", 200.0, 0.0), ("app 29", 200.0, 0.0)]);
    assert_eq!(said, ["r: app 0 in firing 200.00"]);
    assert_eq!(t.alerts.applications.len(), 10);
    assert_eq!(t.alerts.names.len(), 10);
}

#[test]
fn where_all_are_busy_who_carries_more_is_watched_in_the_place_of_who_carries_least() {
    let mut t = Timeline::new(vec![Rule { repeat_interval: SECOND * 60, ..rule("r", "app") }]);
    t.alerts.limit = 10;
    let names: Vec<String> = (0..10).map(|number| format!("app {number}")).collect();
    let rates: Vec<_> =
        (0_u32..).zip(&names).map(|(n, name)| (name.as_str(), 150.0 + f64::from(n), 0.0)).collect();
    assert_eq!(t.after(SECOND, &rates).len(), 10);
    let newcomers = [("app small", 120.0, 0.0), ("app big", 500.0, 0.0), ("app some", 151.5, 0.0)];
    let said = t.after(SECOND, &[rates.as_slice(), &newcomers].concat());
    assert_eq!(said, ["r: app big in firing 500.00", "r: app some in firing 151.50"]);
    assert!(t.alerts.take_crowded());
    // The two that carried least are not known any more, and nobody is told that they are over.
    let said = t.after(SECOND, &[]);
    assert_eq!(said.len(), 10);
    assert!(!said.iter().any(|said| said.contains("app 0") || said.contains("app 1 ")));
    assert!(!t.alerts.take_crowded());
}

/// Ten thousand names of 64 KiB would be 640 MB.
#[test]
fn long_names_are_told_apart_and_kept_in_brief() {
    let long = |end: &str| format!("app {} {end}", "x".repeat(60_000));
    let (one, other) = (long("one"), long("other"));
    let mut t = Timeline::new(vec![rule("r", "one$"), rule("s", "^app")]);
    let both = [(one.as_str(), 200.0, 0.0), (other.as_str(), 150.0, 0.0)];
    let said = t.after(SECOND, &both);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("r: app x") && said[0].ends_with("x... in firing 200.00"));
    assert_eq!(t.alerts.applications.len(), 2);
    let kept = t.alerts.names.keys().map(|brief| brief.name().len());
    assert!(kept.max() <= Some(1024));
    // Other rules are searched in the whole name as well; states go on.
    t.alerts.replace(vec![rule("s", "^app"), rule("t", "other$"), rule("u", "x$")]);
    let said = t.after(SECOND, &both);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].ends_with("200.00 again") && said[1].ends_with("150.00 again"), "{said:?}");
    assert!(said[2].starts_with("t: app x") && said[2].ends_with("in firing 150.00"), "{said:?}");
}

fn brief(name: &str) -> Brief {
    Brief::of(&name.as_bytes().into())
}

#[test]
fn without_rules_nothing_is_remembered() {
    let mut t = Timeline::new(Vec::new());
    assert!(t.after(SECOND, &[("app", 200.0, 0.0)]).is_empty());
    assert!(t.alerts.names.is_empty());
    t.alerts.replace(vec![rule("r", "app")]);
    assert_eq!(t.second(200.0).len(), 1);
}
