//! Made-up bytes, told together.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::filter::{Filter, compile};
use crate::group::Application;
use crate::ledger::Options;
use crate::monitor::Share;
use crate::netns::NetnsChoice;
use crate::processes::{Described, ProcessId};
use crate::selection::Selector;

/// A meter that has accounted these bytes, each of a process of its own; it is never read.
fn meter(source: Source, bytes: &[(&str, u64, bool)]) -> Meter {
    let watch = Watch::open(source, NetnsChoice::Own, true, Path::new("/proc")).unwrap();
    let mut meter = Meter::new(watch, Ledger::new(Options::default()));
    for (pid, (command_line, received, local)) in (1..).zip(bytes) {
        let traffic = Traffic::new(*received, 0);
        let to = Ok(ProcessId { start_time: 1, pid });
        let share = Share { to, traffic, recent: traffic, from: None, local: *local };
        let command_line = command_line.as_bytes().into();
        meter.ledger.credit(&share, || Described { command_line, label: None });
    }
    meter
}

fn selector(include: &str, ignore_local: bool, here: bool) -> Selector {
    let filter = Filter::new(&[include.to_owned()], &[]).unwrap();
    Selector { filter, ignore_local, here }
}

fn groups(name: &str, rule: &str) -> Groups {
    let rules = vec![compile(rule).unwrap()];
    Groups::new(vec![Application { name: name.as_bytes().into(), rules }])
}

/// Name, bytes per second received, and received so far.
fn shown(usages: &[Usage]) -> Vec<(String, u64, u64)> {
    let name = |usage: &Usage| String::from_utf8(usage.name.to_vec()).unwrap();
    let shown = |u: &Usage| (name(u), u.rate.received as u64, u.total.received);
    usages.iter().map(shown).collect()
}

/// Two refreshes two seconds apart; what had come by the first is shown with its rate because
/// the meters' ledgers have begun before.
fn tally(aggregator: &mut Aggregator) -> Tally {
    let start = Instant::now();
    for meter in aggregator.meters_mut() {
        meter.ledger.end(start);
    }
    let at = start + Duration::from_secs(2);
    aggregator.tally(at, at)
}

#[test]
fn processes_of_an_application_are_one_line_in_the_order_of_use() {
    let bytes = [("wget a", 4000, false), ("curl b", 2000, true), ("ssh", 8000, false)];
    let mut aggregator = Aggregator::new(vec![meter(Source::Sockets, &bytes)]);
    let all = Selection::default();
    aggregator.configure(vec![all], groups("Loads", "wget|curl"), Vec::new());
    let tally = tally(&mut aggregator);
    let line = |name: &str, rate, total| (name.to_owned(), rate, total);
    assert_eq!(shown(&tally.applications), [line("Loads", 3000, 6000), line("ssh", 4000, 8000)]);
    // Who carried nothing since has no line.
    let later = Instant::now() + Duration::from_secs(9);
    let tally = aggregator.tally(later, later);
    assert_eq!(tally, Tally { elapsed: tally.elapsed, ..Tally::default() });
}

#[test]
fn the_bytes_of_a_refresh_and_its_time_are_handed_over() {
    let bytes = [("wget", 4001, false), ("ssh", 3, true)];
    let mut aggregator = Aggregator::new(vec![meter(Source::Sockets, &bytes)]);
    aggregator.configure(vec![Selection::default()], Groups::default(), Vec::new());
    let Tally { elapsed, applications, .. } = tally(&mut aggregator);
    assert_eq!(elapsed, Duration::from_secs(2));
    let recent: Vec<Traffic> = applications.iter().map(|usage| usage.recent).collect();
    assert_eq!(recent, [Traffic::new(3, 0), Traffic::new(4001, 0)]);
}

/// Nobody knows how long these took.
#[test]
fn bytes_of_a_source_that_has_just_been_opened_are_not_recent() {
    let mut aggregator = Aggregator::new(vec![
        meter(Source::Conntrack, &[("ssh", 1000, false)]),
        meter(Source::Sockets, &[("ssh", 30, false), ("wget", 100, false)]),
    ]);
    let all = || Selection::default();
    aggregator.configure(vec![all(), all()], Groups::default(), Vec::new());
    let start = Instant::now();
    aggregator.meters_mut()[0].ledger.end(start);
    let at = start + Duration::from_secs(2);
    let tally = aggregator.tally(at, at);
    assert_eq!(tally.elapsed, Duration::from_secs(2));
    assert_eq!(shown(&tally.applications), [("ssh".to_owned(), 500, 1030)]);
    assert_eq!(tally.applications[0].recent, Traffic::new(1000, 0));
}

/// What both sources have counted of one process is not added up.
#[test]
fn what_two_sources_see_is_counted_once() {
    let bytes = [("ssh", 1000, false), ("ssh", 10, true), ("wget", 500, false)];
    let sockets = [("ssh", 900, false), ("ssh", 9, true), ("wget", 400, false)];
    let mut aggregator =
        Aggregator::new(vec![meter(Source::Conntrack, &bytes), meter(Source::Sockets, &sockets)]);
    let selection = |here: [bool; 2]| {
        let first = selector("ssh", true, here[0]);
        Selection::new(vec![first, selector("", false, here[1])])
    };
    let selections = vec![selection([true, false]), selection([false, true])];
    aggregator.configure(selections, Groups::default(), Vec::new());
    let tally = tally(&mut aggregator);
    // By conntrack what ssh had with others, by its sockets what it had with this host.
    let ssh = ("ssh".to_owned(), 504, 1009);
    assert_eq!(shown(&tally.applications), [("wget".to_owned(), 200, 400), ssh]);
}

/// An application that is silent at one source still has what that has counted.
#[test]
fn totals_are_of_all_sources() {
    let mut aggregator = Aggregator::new(vec![
        meter(Source::Conntrack, &[("ssh", 1000, false), ("mutt", 10, false)]),
        meter(Source::Sockets, &[("wget", 100, false)]),
    ]);
    let all = || Selection::default();
    aggregator.configure(vec![all(), all()], groups("All", "ssh|wget"), Vec::new());
    aggregator.meters_mut()[0].ledger.begin();
    let tally = tally(&mut aggregator);
    assert_eq!(shown(&tally.applications), [("All".to_owned(), 50, 1100)]);
}

#[test]
fn another_configuration_keeps_totals_and_what_came_since_the_refresh() {
    let bytes = [("wget", 4000, false), ("ssh", 3000, true)];
    let mut aggregator = Aggregator::new(vec![meter(Source::Sockets, &bytes)]);
    aggregator.configure(vec![Selection::default()], groups("A", "wget"), Vec::new());
    let remote_only = Selection::new(vec![selector("", true, true)]);
    aggregator.configure(vec![remote_only], groups("B", "wget|ssh"), Vec::new());
    aggregator.configure(vec![Selection::default()], groups("C", "wget|ssh"), Vec::new());
    let tally = tally(&mut aggregator);
    assert_eq!(shown(&tally.applications), [("C".to_owned(), 3500, 7000)]);
}

#[test]
fn a_process_is_no_pipe_and_no_reason_whatever_it_calls_itself() {
    let bytes = [("pipe-8080:host:80", 4000, false), ("(kernel)", 2000, false)];
    let mut aggregator = Aggregator::new(vec![meter(Source::Sockets, &bytes)]);
    let rule = Rule {
        name: b"r".to_vec(),
        filter: compile("^pipe-8080:").unwrap(),
        in_threshold: Some(0.5),
        out_threshold: None,
        window: Duration::from_secs(1),
        hold: Duration::ZERO,
        repeat_interval: Duration::ZERO,
        resolve_threshold: 1.0,
    };
    let all = Selection::default();
    aggregator.configure(vec![all], groups("Web", "nginx"), vec![rule]);
    // Time begins.
    aggregator.alerts.observe(Instant::now(), []);
    let tally = tally(&mut aggregator);
    let names: Vec<String> =
        shown(&tally.applications).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [r"\(kernel)", r"\pipe-8080:host:80"]);
    // The filters of rules find what it calls itself, and people are told of the other name.
    let [notification] = tally.notifications.as_slice() else { panic!("{tally:?}") };
    assert_eq!(notification.application[..], *br"\pipe-8080:host:80");
}

#[test]
fn a_meter_without_a_selection_shows_nothing() {
    let bytes = [("wget", 4000, false)];
    let mut aggregator = Aggregator::new(vec![meter(Source::Sockets, &bytes)]);
    aggregator.configure(Vec::new(), Groups::default(), Vec::new());
    assert_eq!(tally(&mut aggregator).applications, []);
}
