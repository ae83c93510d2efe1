//! An aggregator with made-up bytes of several sources.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::attribution::Share;
use crate::filter::{Filter, compile};
use crate::group::Application;
use crate::ledger::{Ledger, Options};
use crate::model::Row;
use crate::model::traffic::Traffic;
use crate::netns::NetnsChoice;
use crate::processes::{Described, ProcessId};
use crate::selection::Selector;
use crate::watch::Watch;

/// A monitor that has accounted these bytes, each of a process of its own; it is never read.
fn monitor(source: SourceKind, bytes: &[(&str, u64, bool)]) -> Monitor {
    let watch = Watch::open(source, NetnsChoice::Own, true, false, Path::new("/proc")).unwrap();
    let mut monitor = Monitor::new(watch, Ledger::new(Options::default()));
    for (pid, (command_line, received, local)) in (1..).zip(bytes) {
        let traffic = Traffic::new(*received, 0);
        let to = ProcessId { start_time: 1, pid }.into();
        let (recent, local) = (traffic, *local);
        let share = Share { to, traffic, recent, from: None, local, remote: None };
        let command_line = command_line.as_bytes().into();
        monitor.ledger().credit(&share, || Described::of(command_line));
    }
    monitor
}

fn selector(include: &str, ignore_local: bool, here: bool) -> Selector {
    let filter = Filter::new(&[include.to_owned()], &[]).unwrap();
    Selector { filter, ignore_local, here }
}

fn groups(name: &str, rule: &str) -> Groups {
    let rules = vec![compile(rule).unwrap()];
    Groups::new(vec![Application { name: name.as_bytes().into(), rules }])
}

/// Lines with bytes since the last refresh, by use: name, bytes per second received, and bytes received so far.
/// Checks that every byte is in the snapshot.
fn shown(snapshot: &Snapshot) -> Vec<(String, u64, u64)> {
    assert_eq!(snapshot.sum(), snapshot.counted, "{snapshot:?}");
    let name = |row: &Row| String::from_utf8(row.name.to_vec()).unwrap();
    let rows = snapshot.rows.iter().filter(|row| !row.account.recent.is_zero());
    let rate = |row: &Row| snapshot.rate(&row.account).received as u64;
    let mut shown: Vec<_> =
        rows.map(|row| (name(row), rate(row), row.account.total.received)).collect();
    shown.sort_by_key(|(name, rate, _)| (*rate, name.clone()));
    shown
}

fn at(instant: Instant) -> Moment {
    Moment { at: Timestamp::UNIX_EPOCH, instant }
}

/// Takes two refreshes two seconds apart. Bytes from before the first have a rate, because the
/// monitors' ledgers have started before.
fn snapshot(aggregator: &mut Aggregator) -> Snapshot {
    let start = Instant::now();
    for monitor in aggregator.monitors_mut() {
        monitor.ledger().end(start);
    }
    let instant = start + Duration::from_secs(2);
    aggregator.snapshot(at(instant), instant)
}

#[test]
fn processes_of_an_application_are_one_line_in_the_order_of_use() {
    let bytes = [("wget a", 4000, false), ("curl b", 2000, true), ("ssh", 8000, false)];
    let mut aggregator = Aggregator::new(vec![monitor(SourceKind::Sockets, &bytes)]);
    aggregator.configure(|_| Selection::default(), groups("Loads", "wget|curl"), Vec::new());
    let snapshot = snapshot(&mut aggregator);
    let line = |name: &str, rate, total| (name.to_owned(), rate, total);
    assert_eq!(shown(&snapshot), [line("Loads", 3000, 6000), line("ssh", 4000, 8000)]);
    // Who carried nothing since has no line.
    let later = Instant::now() + Duration::from_secs(9);
    let snapshot = aggregator.snapshot(at(later), later);
    assert_eq!(shown(&snapshot), []);
    assert_eq!(snapshot.counted.total.received, 14_000);
}

#[test]
fn the_bytes_of_a_refresh_and_its_time_are_handed_over() {
    let bytes = [("wget", 4001, false), ("ssh", 3, true)];
    let mut aggregator = Aggregator::new(vec![monitor(SourceKind::Sockets, &bytes)]);
    aggregator.configure(|_| Selection::default(), Groups::default(), Vec::new());
    let snapshot = snapshot(&mut aggregator);
    assert_eq!((snapshot.seq, snapshot.elapsed), (1, Duration::from_secs(2)));
    let mut recent: Vec<Traffic> = snapshot.rows.iter().map(|row| row.account.recent).collect();
    recent.sort_unstable();
    assert_eq!(recent, [Traffic::new(3, 0), Traffic::new(4001, 0)]);
}

/// Their time is unknown.
#[test]
fn bytes_of_a_source_that_has_just_been_opened_are_not_recent() {
    let mut aggregator = Aggregator::new(vec![
        monitor(SourceKind::Conntrack, &[("ssh", 1000, false)]),
        monitor(SourceKind::Sockets, &[("ssh", 30, false), ("wget", 100, false)]),
    ]);
    aggregator.configure(|_| Selection::default(), Groups::default(), Vec::new());
    let start = Instant::now();
    first(&mut aggregator).ledger().end(start);
    let instant = start + Duration::from_secs(2);
    let snapshot = aggregator.snapshot(at(instant), instant);
    assert_eq!(snapshot.elapsed, Duration::from_secs(2));
    assert_eq!(shown(&snapshot), [("ssh".to_owned(), 500, 1030)]);
    let row = snapshot.rows.iter().find(|row| *row.name == *b"ssh").unwrap();
    assert_eq!(row.account.recent, Traffic::new(1000, 0));
}

/// Bytes of one process that both sources have counted are not added up.
#[test]
fn what_two_sources_see_is_counted_once() {
    let bytes = [("ssh", 1000, false), ("ssh", 10, true), ("wget", 500, false)];
    let sockets = [("ssh", 900, false), ("ssh", 9, true), ("wget", 400, false)];
    let mut aggregator = Aggregator::new(vec![
        monitor(SourceKind::Conntrack, &bytes),
        monitor(SourceKind::Sockets, &sockets),
    ]);
    let selection = |here: [bool; 2]| {
        let first = selector("ssh", true, here[0]);
        Selection::new(vec![first, selector("", false, here[1])])
    };
    let of = |source| selection([source == SourceKind::Conntrack, source == SourceKind::Sockets]);
    aggregator.configure(of, Groups::default(), Vec::new());
    let snapshot = snapshot(&mut aggregator);
    // By conntrack what ssh had with others, by its sockets what it had with this host.
    let ssh = ("ssh".to_owned(), 504, 1009);
    assert_eq!(shown(&snapshot), [("wget".to_owned(), 200, 400), ssh]);
}

/// An application that is silent at one source keeps its bytes of that source.
#[test]
fn totals_are_of_all_sources() {
    let mut aggregator = Aggregator::new(vec![
        monitor(SourceKind::Conntrack, &[("ssh", 1000, false), ("mutt", 10, false)]),
        monitor(SourceKind::Sockets, &[("wget", 100, false)]),
    ]);
    aggregator.configure(|_| Selection::default(), groups("All", "ssh|wget"), Vec::new());
    first(&mut aggregator).ledger().begin();
    let snapshot = snapshot(&mut aggregator);
    assert_eq!(shown(&snapshot), [("All".to_owned(), 50, 1100)]);
}

#[test]
fn another_configuration_keeps_totals_and_what_came_since_the_refresh() {
    let bytes = [("wget", 4000, false), ("ssh", 3000, true)];
    let mut aggregator = Aggregator::new(vec![monitor(SourceKind::Sockets, &bytes)]);
    aggregator.configure(|_| Selection::default(), groups("A", "wget"), Vec::new());
    let remote_only = |_| Selection::new(vec![selector("", true, true)]);
    aggregator.configure(remote_only, groups("B", "wget|ssh"), Vec::new());
    aggregator.configure(|_| Selection::default(), groups("C", "wget|ssh"), Vec::new());
    let snapshot = snapshot(&mut aggregator);
    assert_eq!(shown(&snapshot), [("C".to_owned(), 3500, 7000)]);
}

#[test]
fn a_process_is_no_pipe_and_no_reason_whatever_it_calls_itself() {
    let bytes = [("pipe-8080:host:80", 4000, false), ("(kernel)", 2000, false)];
    let mut aggregator = Aggregator::new(vec![monitor(SourceKind::Sockets, &bytes)]);
    let rule = Rule {
        name: (*b"r").into(),
        filter: compile("^pipe-8080:").unwrap(),
        in_threshold: Some(0.5),
        out_threshold: None,
        window: Duration::from_secs(1),
        hold: Duration::ZERO,
        repeat_interval: Duration::ZERO,
        resolve_threshold: 1.0,
    };
    aggregator.configure(|_| Selection::default(), groups("Web", "nginx"), vec![rule]);
    // Time begins.
    aggregator.alerts.observe(Instant::now(), []);
    let snapshot = snapshot(&mut aggregator);
    let names: Vec<String> = shown(&snapshot).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [r"\(kernel)", r"\pipe-8080:host:80"]);
    // The filters of rules find what it calls itself, and people are told of the other name.
    let [notification] = snapshot.alerts.as_slice() else { panic!("{snapshot:?}") };
    assert_eq!(notification.application[..], *br"\pipe-8080:host:80");
}

#[test]
fn a_monitor_without_a_selection_shows_nothing_and_counts_everything() {
    let bytes = [("wget", 4000, false)];
    let mut aggregator = Aggregator::new(vec![monitor(SourceKind::Sockets, &bytes)]);
    aggregator.configure(|_| Selection::new(Vec::new()), Groups::default(), Vec::new());
    let snapshot = snapshot(&mut aggregator);
    assert_eq!((shown(&snapshot).len(), snapshot.left_out), (0, snapshot.counted));
    assert_eq!(snapshot.counted.total.received, 4000);
}

/// The bytes of a source stay when no monitor names it any more, and when one names it again.
#[test]
fn what_was_counted_stays_when_a_source_is_closed() {
    let mut aggregator = Aggregator::new(vec![
        monitor(SourceKind::Conntrack, &[("wget", 1000, false), ("ssh", 7, true)]),
        monitor(SourceKind::Sockets, &[("curl", 10, false)]),
    ]);
    let configure = |aggregator: &mut Aggregator| {
        aggregator.configure(|_| Selection::default(), Groups::default(), Vec::new());
    };
    configure(&mut aggregator);
    let total = |aggregator: &mut Aggregator| {
        let snapshot = snapshot(aggregator);
        assert_eq!(snapshot.sum(), snapshot.counted);
        (snapshot.rows.len(), snapshot.counted.total.received, snapshot.health.len())
    };
    assert_eq!(total(&mut aggregator), (3, 1017, 2));
    aggregator.exchange(Vec::new(), |source| source == SourceKind::Sockets);
    configure(&mut aggregator);
    assert_eq!(total(&mut aggregator), (3, 1017, 1));
    assert_eq!(aggregator.closed().collect::<Vec<_>>(), [SourceKind::Conntrack]);
    let again = monitor(SourceKind::Conntrack, &[("wget", 500, false)]);
    aggregator.exchange(vec![again], |_| true);
    configure(&mut aggregator);
    assert_eq!(total(&mut aggregator), (3, 1517, 2));
    // Another one of a source that is open is not needed.
    aggregator.exchange(vec![monitor(SourceKind::Sockets, &[("curl", 10, false)])], |_| true);
    assert_eq!(total(&mut aggregator), (3, 1517, 2));
}

/// Bytes that one source has counted are not looked back at through another one that replaces it.
#[test]
fn the_past_is_accounted_once_whatever_source_follows() {
    let plan = |sources: &[SourceChoice]| Plan {
        monitors: sources
            .iter()
            .map(|source| Selected {
                source: *source,
                filter: Filter::default(),
                ignore_local: false,
            })
            .collect(),
        ..Plan::default()
    };
    let mut aggregator = Aggregator::default();
    let both = plan(&[SourceChoice::Conntrack, SourceChoice::Sockets]);
    assert!(aggregator.is_first_for(&both));
    aggregator.exchange(vec![monitor(SourceKind::Conntrack, &[])], |_| true);
    // Another one beside it has what its monitors select.
    assert!(aggregator.is_first_for(&both));
    assert!(!aggregator.is_first_for(&plan(&[SourceChoice::Sockets])));
    aggregator.exchange(Vec::new(), |_| false);
    assert!(!aggregator.is_first_for(&both));
}

fn first(aggregator: &mut Aggregator) -> &mut Monitor {
    aggregator.monitors_mut().next().unwrap()
}
