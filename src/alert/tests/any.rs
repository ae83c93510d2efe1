//! Properties of any timeline.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn any_rule() -> impl Strategy<Value = Rule> {
    let ms = Duration::from_millis;
    (1_u64..8000, 0_u64..4000, 0_u64..20_000, 0.0..1.2_f64, any::<bool>(), any::<bool>()).prop_map(
        move |(window, hold, repeat_interval, resolve_threshold, holds, repeats)| Rule {
            out_threshold: Some(50.0),
            window: ms(window),
            hold: ms(if holds { hold } else { 0 }),
            repeat_interval: ms(if repeats { repeat_interval } else { 0 }),
            resolve_threshold,
            ..rule("r", "app")
        },
    )
}

proptest! {
    #[test]
    fn on_any_timeline(
        rules in proptest::collection::vec(any_rule(), 1..4),
        samples in proptest::collection::vec(
            (1_u64..6000, 0_usize..3, prop_oneof![Just(0.0), 0.0..300.0_f64], 0.0..100.0_f64), 1..120
        ),
    ) {
        let mut alerts = Alerts::new(rules.clone());
        let mut now = Instant::now();
        alerts.observe(now, []);
        let names: [Name; 3] = [b"app1"[..].into(), b"app2"[..].into(), b"app3"[..].into()];
        let mut told: HashMap<(usize, Name, Direction), Instant> = HashMap::new();
        let mut open: HashMap<(usize, Name, Direction), bool> = HashMap::new();
        for (ms, index, received, sent) in samples {
            now += Duration::from_millis(ms);
            let rate = Rate { received: received * KIB, sent: sent * KIB };
            for said in alerts.observe(now, [(&names[index], rate)]) {
                let rule = &rules[said.rule];
                let key = (said.rule, said.application.clone(), said.direction);
                let highest = if said.direction == Direction::In { 300.0 } else { 100.0 };
                prop_assert!((0.0..=highest).contains(&said.value));
                if said.state == State::Resolved {
                    // Once, and only after a firing.
                    prop_assert_eq!(open.insert(key, false), Some(true));
                    prop_assert!(said.value <= said.threshold && !said.repeated);
                    continue;
                }
                prop_assert!(said.value > said.threshold);
                if let Some(before) = told.insert(key.clone(), now) {
                    prop_assert!(now - before >= rule.repeat_interval);
                }
                // It is repeated exactly where no resolved one came between.
                prop_assert_eq!(open.insert(key, true) == Some(true), said.repeated);
            }
        }
    }
}
