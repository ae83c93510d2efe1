//! Processes that change their name.

use super::*;
use crate::model::traffic::Traffic;
use crate::model::{Account, Kind, Process, Row};

const HOLD: Duration = Duration::from_secs(3);

/// The row of these processes, which has received so many KiB in a second.
fn row(name: &str, kind: Kind, kib: u64, pids: &[u32]) -> Row {
    let recent = Traffic::new(kib * 1024, 0);
    Row {
        account: Account { total: recent, recent },
        processes: pids.iter().map(|pid| Process::of(*pid)).collect(),
        ..Row::of(name.as_bytes().into(), kind)
    }
}

fn process(name: &str, kib: u64, pids: &[u32]) -> Row {
    row(name, Kind::Process, kib, pids)
}

impl Timeline {
    /// A rule for what lasts three seconds, told once a minute.
    fn lasting(filter: &str) -> Timeline {
        let repeat_interval = Duration::from_secs(60);
        Timeline::new(vec![Rule { hold: HOLD, repeat_interval, ..rule("r", filter) }])
    }

    /// A second of which this is the snapshot.
    fn snapshot(&mut self, rows: &[Row]) -> Vec<String> {
        self.alerts.follow_renamed(rows);
        let rates: Vec<(String, f64)> = rows
            .iter()
            .map(|row| {
                let name = String::from_utf8(row.name.to_vec()).unwrap();
                (name, row.account.recent.received as f64 / KIB)
            })
            .collect();
        let rates: Vec<_> = rates.iter().map(|(name, kib)| (name.as_str(), *kib, 0.0)).collect();
        let said = self.after(SECOND, &rates);
        self.alerts.remember_processes(rows);
        said
    }

    /// The seconds of these snapshots in which something was said, and what.
    fn seconds(&mut self, snapshots: impl IntoIterator<Item = Vec<Row>>) -> Vec<(usize, String)> {
        let said = |(second, rows): (usize, Vec<Row>)| {
            self.snapshot(&rows).into_iter().map(move |line| (second, line)).collect::<Vec<_>>()
        };
        snapshots.into_iter().enumerate().flat_map(said).collect()
    }
}

#[test]
fn a_new_name_each_second_hides_nothing() {
    let always = |_| "wget".to_owned();
    let changing = |second: usize| format!("wget {second}");
    for name in [&always as &dyn Fn(usize) -> String, &changing] {
        let mut timeline = Timeline::lasting("wget");
        let said = timeline.seconds((0..9).map(|second| vec![process(&name(second), 200, &[7])]));
        assert_eq!(said, [(3, format!("r: {} in firing 200.00", name(3)))]);
        assert_eq!(timeline.alerts.names.len(), 1);
        let end = timeline.snapshot(&[]);
        assert_eq!(end, [format!("r: {} in resolved 0.00", name(8))]);
    }
}

#[test]
fn a_line_that_others_stay_on_keeps_its_state() {
    let mut timeline = Timeline::lasting("");
    let before = (0..3).map(|_| vec![process("work", 200, &[7, 8])]);
    let after = (0..2).map(|_| vec![process("work", 200, &[7]), process("old", 150, &[8])]);
    let said = timeline.seconds(before.chain(after));
    assert_eq!(said, [(3, "r: work in firing 200.00".to_owned())]);
}

#[test]
fn a_process_that_takes_the_place_of_another_has_a_state_of_its_own() {
    // The pid is the same, the start is not.
    let mut timeline = Timeline::lasting("");
    let mut other = process("b", 200, &[7]);
    other.processes[0].start += 1;
    let said = timeline.seconds((0..5).map(|second| match second {
        0..2 => vec![process("a", 200, &[7])],
        _ => vec![other.clone()],
    }));
    assert_eq!(said, []);
}

#[test]
fn the_state_goes_with_the_most_bytes() {
    let mut timeline = Timeline::lasting("");
    let before = (0..2).map(|_| vec![process("a", 300, &[7, 8])]);
    let after = (0..3).map(|_| vec![process("b", 110, &[7]), process("c", 190, &[8])]);
    let said = timeline.seconds(before.chain(after));
    assert_eq!(said, [(3, "r: c in firing 190.00".to_owned())]);
}

#[test]
fn a_name_that_is_known_keeps_its_own_state() {
    let mut timeline = Timeline::lasting("");
    let before = (0..2).map(|_| vec![process("a", 200, &[7]), process("b", 50, &[8])]);
    let after = (0..3).map(|_| vec![process("b", 250, &[7, 8])]);
    assert_eq!(timeline.seconds(before.chain(after)), []);
}

#[test]
fn lines_of_applications_and_names_without_a_rule_are_left() {
    for (filter, kind) in [("", Kind::Application), ("", Kind::Group), ("^a", Kind::Process)] {
        let mut timeline = Timeline::lasting(filter);
        let before = (0..4).map(|_| vec![row("a", kind, 200, &[7])]);
        let after = (0..2).map(|_| vec![process("b", 200, &[7])]);
        let said = timeline.seconds(before.chain(after));
        let expected = [(3, "firing 200.00"), (4, "resolved 0.00")];
        assert_eq!(said, expected.map(|(second, what)| (second, format!("r: a in {what}"))));
    }
}

#[test]
fn exec_and_a_long_title_go_on_too() {
    let mut timeline = Timeline::lasting("x");
    let long = format!("x{}", "y".repeat(5000));
    let names = ["sh -x", "curl x", &long, &long];
    let said = timeline.seconds(names.map(|name| vec![process(name, 200, &[7])]));
    assert_eq!((said.len(), said[0].0), (1, 3));
}
