//! The order of commands, and waiting ones.

use super::*;

#[test]
fn of_one_rule_never_two_at_once_and_in_order() {
    let bench = Bench::new();
    let commands = bench.gated();
    let mut expected = String::new();
    for number in 0..20 {
        let name = number.to_string();
        bench.notify(&commands, firing(name.as_bytes()), false);
        expected += &format!("firing {name} 200.00\n");
    }
    bench.notify(&commands, resolved(b"0"), false);
    expected += "resolved 0 0.00\n";
    assert_eq!(bench.runner.running(), 1);
    bench.open();
    bench.until_idle();
    assert_eq!((bench.read("runs"), bench.exists("twice")), (expected, false));
    assert_eq!(bench.reports(), [""; 0]);
}

#[test]
fn different_rules_run_at_the_same_time() {
    let bench = Bench::new();
    let other = Facts { rule: (*b"other").into(), ..firing(b"x") };
    let script = "touch $BWMON_RULE; while [ -e $BWMON_RULE ] && ! { [ -e SSH ] && [ -e other ]; }; \
                  do sleep 0.01; done";
    let commands = only(bench.shell(script, ""));
    bench.notify(&commands, firing(b"x"), false);
    bench.notify(&commands, other, false);
    bench.until_idle();
    assert_eq!(bench.reports(), [""; 0]);
}

#[test]
fn while_its_last_run_lives() {
    let bench = Bench::new();
    let commands = bench.gated();
    bench.notify(&commands, firing(b"running"), false);
    // Not started again; the next repetition will come.
    bench.notify(&commands, firing(b"running"), true);
    // Nobody will have been told of this one.
    bench.notify(&commands, firing(b"short"), false);
    bench.notify(&commands, resolved(b"short"), false);
    bench.notify(&commands, firing(b"waiting"), false);
    bench.notify(&commands, Facts { value: 300.0, ..firing(b"waiting") }, true);
    bench.notify(&commands, resolved(b"running"), false);
    bench.open();
    bench.until_idle();
    assert_eq!(
        bench.read("runs"),
        "firing running 200.00\nfiring waiting 300.00\nresolved running 0.00\n"
    );
    // A repeated one runs again now.
    bench.notify(&commands, firing(b"waiting"), true);
    bench.until_idle();
    assert!(bench.read("runs").ends_with("\nfiring waiting 200.00\n"));
}

#[test]
fn without_a_command_nothing_runs() {
    let bench = Bench::new();
    bench.notify(&only(None), firing(b"x"), false);
    bench.notify(&only(bench.shell("touch ran", "")), resolved(b"x"), false);
    assert_eq!(bench.runner.running(), 0);
    assert!(!bench.exists("ran"));
}

#[test]
fn a_flood_is_reported_once() {
    let bench = Bench::new();
    let commands = bench.gated();
    for number in 0..1100 {
        bench.notify(&commands, firing(number.to_string().as_bytes()), false);
    }
    assert_eq!(bench.reports(), ["[SSH] too many of its commands wait: some were dropped"]);
}

#[test]
fn the_end_waits_for_what_runs_and_drops_what_waits() {
    for deadline in [None, Some(Instant::now() + MINUTE)] {
        let mut bench = Bench::new();
        let commands = bench.gated();
        bench.notify(&commands, firing(b"running"), false);
        bench.notify(&commands, firing(b"waiting"), false);
        until("it runs", || bench.exists("started").then_some(()));
        let runner = std::mem::replace(&mut bench.runner, Runner::new(Arc::new(|_| {})));
        let waiting = thread::spawn(move || runner.finish(deadline));
        bench.open();
        let left = waiting.join().unwrap();
        // Either the end came first, or what waited was done by then.
        assert!(left.running == 0 && left.dropped <= 1, "{left:?}");
        let runs = bench.read("runs").lines().count();
        assert_eq!(runs + left.dropped, 2);
    }
}

#[test]
fn the_end_does_not_wait_beyond_its_deadline() {
    let mut bench = Bench::new();
    let commands = bench.gated();
    bench.notify(&commands, firing(b"running"), false);
    bench.notify(&commands, firing(b"waiting"), false);
    let runner = std::mem::replace(&mut bench.runner, Runner::new(Arc::new(|_| {})));
    assert_eq!(runner.finish(Some(Instant::now())), Left { dropped: 1, running: 1 });
    // What runs goes on by itself.
    bench.open();
    until("it has run", || (bench.exists("runs") && !bench.exists("lock")).then_some(()));
    assert_eq!(bench.read("runs"), "firing running 200.00\n");
}
