use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.as_bytes().into()
}

fn sample(name: &Name, received: u64, sent: u64) -> Sample<'_> {
    Sample { name, recent: Traffic::new(received, sent), total: Traffic::new(7, 8) }
}

fn seconds(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

/// Received bytes per second at every point.
fn line(history: &History, name: &Name, now: Instant) -> Vec<f64> {
    match history.applications.get(&Brief::of(name)) {
        Some(known) => history.rates(known, now).iter().map(|rate| rate.received).collect(),
        None => Vec::new(),
    }
}

#[test]
fn who_is_not_named_carried_nothing() {
    let (mut history, start) = (History::default(), Instant::now());
    let (a, b) = (name("a"), name("b"));
    let second = seconds(1.0);
    history.record(start, second, [sample(&a, 10, 1)]);
    history.record(start + second, second, [sample(&b, 5, 0)]);
    history.record(start + second * 2, second, [sample(&a, 20, 0), sample(&b, 0, 0)]);
    let now = start + seconds(2.5);
    assert_eq!(history.ages(now), [2.5, 1.5, 0.5].map(seconds));
    assert_eq!(line(&history, &a, now), [10.0, 0.0, 20.0]);
    assert_eq!(line(&history, &b, now), [0.0, 5.0, 0.0]);
    assert_eq!(history.rate(&history.applications[&Brief::of(&a)], now).received, 20.0);
    assert_eq!(history.rate(&history.applications[&Brief::of(&b)], now), Rate::default());
    assert_eq!(history.applications[&Brief::of(&a)].total, Traffic::new(7, 8));
}

#[test]
fn what_is_too_close_is_averaged_in_time() {
    let (mut history, start) = (History::default(), Instant::now());
    let a = name("a");
    history.record(start, seconds(1.0), []);
    history.record(start + seconds(0.2), seconds(0.2), [sample(&a, 20, 0)]);
    // 0.01 s at 1000 and 0.03 s at 200 are 16 bytes in 0.04 s. These belong to a point that stands
    // already: 0.2 s at 100.
    history.record(start + seconds(0.21), seconds(0.01), [sample(&a, 10, 0)]);
    history.record(start + seconds(0.24), seconds(0.03), [sample(&a, 6, 0)]);
    let now = start + seconds(0.24);
    let rates = line(&history, &a, now);
    assert_eq!(rates.len(), 2);
    assert!((rates[1] - 36.0 / 0.24).abs() < 1e-6, "{rates:?}");
}

/// The caller knows how long its bytes took; a record before doesn't show it.
#[test]
fn the_first_point_is_of_the_time_that_it_took() {
    let (mut history, start) = (History::default(), Instant::now());
    let (a, b) = (name("a"), name("b"));
    history.record(start, seconds(5.0), [sample(&a, 5000, 50)]);
    assert_eq!(
        history.rate(&history.applications[&Brief::of(&a)], start),
        Rate { received: 1e3, sent: 10.0 }
    );
    // One that carried less in all is not the busier one.
    history.record(start + seconds(1.0), seconds(1.0), [sample(&b, 4000, 0)]);
    assert_eq!(
        (history.applications[&Brief::of(&a)].sum(), history.applications[&Brief::of(&b)].sum()),
        (5050, 4000)
    );
    // Nor does the time have to be the one between two records, or between two points.
    let (mut history, late) = (History::default(), start + seconds(0.05));
    history.record(start, seconds(1.0), [sample(&a, 1000, 0)]);
    history.record(late, seconds(0.25), [sample(&a, 500, 0)]);
    assert_eq!(line(&history, &a, late), [1200.0]);
}

#[test]
fn who_is_silent_for_the_span_is_forgotten() {
    let (mut history, start) = (History::default(), Instant::now());
    let (a, b) = (name("a"), name("b"));
    history.record(start, seconds(1.0), [sample(&a, 1, 0)]);
    history.record(start + SPAN, SPAN, [sample(&a, 0, 0), sample(&b, 1, 0)]);
    assert_eq!(history.applications.len(), 2);
    let now = start + SPAN + seconds(0.1);
    assert_eq!(history.applications(now).len(), 1);
    history.record(now, seconds(0.1), [sample(&a, 0, 0)]);
    assert!(!history.applications.contains_key(&Brief::of(&a)));
    // Nobody records any more: then there is nothing to show either.
    assert!(history.applications(now + SPAN * 2).is_empty());
    assert!(history.ages(now + SPAN * 2).is_empty());
}

#[test]
fn the_busiest_find_room() {
    let (mut history, start) = (History::default(), Instant::now());
    let names: Vec<Name> = (0..APPLICATIONS + 5).map(|n| name(&n.to_string())).collect();
    let idle = names[..APPLICATIONS].iter().enumerate();
    let second = seconds(1.0);
    history.record(start, second, idle.map(|(n, name)| sample(name, 1 + n as u64, 0)));
    assert_eq!((history.applications.len(), history.left_out()), (APPLICATIONS, 0));
    let late = names[APPLICATIONS..].iter();
    history.record(start + second, second, late.map(|name| sample(name, 1_000_000, 0)));
    assert_eq!((history.applications.len(), history.left_out()), (APPLICATIONS, 5));
    for gone in &names[..5] {
        assert!(!history.applications.contains_key(&Brief::of(gone)));
    }
    // One that carries less than all of them stays outside.
    let small = name("small");
    history.record(start + second * 2, second, [sample(&small, 1, 0)]);
    assert!(!history.applications.contains_key(&Brief::of(&small)));
    assert_eq!(history.left_out(), 1);
}

#[test]
fn odd_bytes_and_times_are_no_harm() {
    let (mut history, start) = (History::default(), Instant::now());
    let a = name("a");
    let nano = Duration::from_nanos(1);
    for elapsed in [Duration::ZERO, nano, Duration::MAX, Duration::MAX] {
        let most = || sample(&a, u64::MAX, u64::MAX);
        history.record(start + seconds(1.0), elapsed, [most(), most()]);
        history.record(start, elapsed, [most()]);
        let rates = line(&history, &a, start);
        assert!(rates.len() == 1 && rates[0].is_finite(), "{rates:?}");
    }
    // No time at all gives no rate.
    let (mut history, later) = (History::default(), start + seconds(1.0));
    history.record(start, Duration::ZERO, [sample(&a, 1, 1)]);
    history.record(later, nano, [sample(&a, u64::MAX, 0)]);
    let rates = line(&history, &a, later);
    assert!(rates[0] == 0.0 && rates[1] > 1e28 && rates[1].is_finite(), "{rates:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bounded_whatever_comes(
        steps in prop::collection::vec((0u64..400, 0usize..1500, 0usize..300), 1..60),
        scale in 1u64..100,
    ) {
        let mut history = History::default();
        let mut at = Instant::now();
        let names: Vec<Name> = (0..1800).map(|n| name(&n.to_string())).collect();
        for (step, from, count) in steps {
            at += Duration::from_millis(step * scale / 10);
            let named = names[from..from + count].iter();
            let elapsed = Duration::from_millis(step);
            history.record(at, elapsed, named.map(|name| sample(name, from as u64, count as u64)));
            prop_assert!(history.points.len() <= POINTS);
            prop_assert!(history.applications.len() <= APPLICATIONS);
            let oldest = history.points.front().map(|point| at - point.at);
            prop_assert!(oldest.is_some_and(|age| age <= SPAN));
            for application in history.applications.values() {
                prop_assert!(!application.carried.is_empty());
                prop_assert!(application.carried.len() <= history.points.len());
            }
        }
    }

    #[test]
    fn no_byte_is_lost_by_merging(
        steps in prop::collection::vec((1u64..300, 0usize..5, 0u64..1_000_000_000), 1..150),
    ) {
        let mut history = History::default();
        let mut at = Instant::now();
        let names: Vec<Name> = (0..5).map(|n| name(&n.to_string())).collect();
        let mut truth = BTreeMap::<usize, u64>::new();
        for (millis, who, bytes) in steps {
            let elapsed = Duration::from_millis(millis);
            at += elapsed;
            history.record(at, elapsed, [sample(&names[who], bytes, 0)]);
            *truth.entry(who).or_default() += bytes;
        }
        for (who, bytes) in truth.into_iter().filter(|(_, bytes)| *bytes > 0) {
            prop_assert_eq!(history.applications[&Brief::of(&names[who])].sum(), bytes);
        }
    }
}

#[test]
fn a_long_name_is_kept_in_brief() {
    let (mut history, start) = (History::default(), Instant::now());
    let long = |end: &str| name(&["x".repeat(60_000).as_str(), end].concat());
    let (one, other) = (long("one"), long("other"));
    history.record(start, seconds(1.0), [sample(&one, 1, 0), sample(&other, 2, 0)]);
    let applications = history.applications(start);
    assert_eq!(applications.len(), 2);
    assert!(applications.iter().all(|(name, _)| name.len() <= 1024));
}
