//! The lines on standard error about too much traffic.

use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
use regex::Regex;
use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4, WATCHED4};
use testbed::programs;
use testbed::streams::{finish, listens};
use testbed::truth::{Count, Truth};
use testbed::wait::eventually;

use super::{Aggregator, FILES, Piped, inside, pipe, write_files};

/// A line of an alert.
#[derive(Clone, Debug, PartialEq)]
struct Alert {
    time: DateTime,
    application: String,
    is_over: bool,
    direction: String,
    threshold: f64,
    mean: f64,
}

/// The lines of alerts; all others have to be messages of the program.
fn alerts(stderr: &str) -> Vec<Alert> {
    let form = Regex::new(concat!(
        r"\A(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d): (.*?) (exceeding|no longer exceeding) '(in|out)' ",
        r"bandwidth limit ( *\d+\.\d\d): ( *\d+\.\d\d) kB/s \((\d+\.\d\d) %\)\z"
    ))
    .unwrap();
    let parse = |line: &str| {
        let found = form.captures(line).unwrap_or_else(|| panic!("not of the form: {line:?}"));
        let padded = |group| {
            let text: &str = &found[group];
            let number: f64 = text.trim().parse().unwrap();
            assert_eq!(format!("{number:10.2}"), text, "{line:?}");
            number
        };
        let (threshold, mean) = (padded(5), padded(6));
        let percent: f64 = found[7].parse().unwrap();
        // All of them are rounded.
        let rounded = 0.02 + 1.0 / threshold;
        assert!((percent - mean / threshold * 100.0).abs() < rounded, "{line:?}");
        Alert {
            time: found[1].parse().unwrap(),
            application: found[2].to_owned(),
            is_over: &found[3] != "exceeding",
            direction: found[4].to_owned(),
            threshold,
            mean,
        }
    };
    // The last one may be on its way.
    let complete = stderr.rfind('\n').map_or("", |end| &stderr[..end]);
    let is_other = |line: &&str| line.starts_with("runaggregator: ") || *line == "Please wait...";
    complete.lines().filter(|line| !is_other(line)).map(parse).collect()
}

/// Waits until the alerts so far are so; them.
fn alerts_until(program: &mut Aggregator, what: &str, is: impl Fn(&[Alert]) -> bool) -> Vec<Alert> {
    program.wait(what, |_| true);
    let mut found = Vec::new();
    eventually(what, || {
        found = alerts(&program.running.stderr());
        is(&found)
    });
    found
}

#[test]
fn an_alert_repeats_while_a_shaped_pipe_is_busy_and_is_over_once() {
    let Some(net) = Net::new() else { return };
    write_files(
        &net.dir,
        &format!("{}shape_threshold=200\n", pipe(8001, PEER4, 9000)),
        "[Upload]\na=^pipe-8001:\n",
        "[Too much]\nprocess_filter=^Upload$\nin_threshold=100\nout_threshold=100\ninterval=2\n",
    );
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    // An hour that hardly any machine has.
    let zone = TimeZone::fixed(Offset::constant(14));
    let mut command = inside(&net, &FILES);
    command.env("TZ", "XXX-14");
    let mut program = Aggregator::start(command);
    eventually("the program listens", || listens(program.running.pid(), 8001));
    let role = format!("tcp-client host={WATCHED4} port=8001 up=1200000");
    let mut client = Endpoint::start(&net, &net.peer, "client", &role);
    let begin = Timestamp::now();
    client.go();
    client.close();
    let is_over = |alerts: &[Alert]| alerts.iter().any(|alert| alert.is_over);
    let found = alerts_until(&mut program, "the end of the alert", is_over);
    let end = Timestamp::now();

    let (firing, over) = found.split_at(found.len() - 1);
    assert!(firing.len() >= 2, "it repeats: {found:#?}");
    assert!(firing.iter().all(|alert| !alert.is_over && alert.mean > 100.0), "{found:#?}");
    // Shaped to 200, but for what was saved up at the start.
    let last = firing.last().unwrap();
    assert!(last.mean < 300.0, "{found:#?}");
    assert!(over[0].is_over && over[0].mean <= 100.0, "{found:#?}");
    for alert in &found {
        assert_eq!((alert.application.as_str(), alert.direction.as_str()), ("Upload", "in"));
        assert_eq!(alert.threshold, 100.0);
        let time = alert.time.to_zoned(zone.clone()).unwrap().timestamp();
        assert!(time >= begin - 1.second() && time <= end, "{time} in {begin} to {end}");
    }
    // Its silence is no news.
    program.settle();
    let finished = program.running.stop();
    assert_eq!(alerts(&finished.stderr), found);
}

#[test]
fn both_directions_of_a_process_have_their_own_thresholds() {
    let Some(net) = Net::new() else { return };
    // `notification_threshold` stands for the direction that isn't given: 0 turns one off.
    let rules = "[Both]\nprocess_filter=busy\nnotification_threshold=50\n\
                 repeat_interval=3600\n\
                 [Out]\nprocess_filter=workload\nnotification_threshold=100000\nout_threshold=60\n\
                 repeat_interval=3600\n\
                 [Off]\nprocess_filter=.\nin_threshold=0\n\
                 [Nobody's]\nprocess_filter=^busy\nin_threshold=1\n";
    write_files(&net.dir, "[All]\ntype=monitor\n", "", rules);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=800000 down=400000 seconds=3");
    let mut client = Endpoint::start(&net, &net.watched, "busy", &role);
    let mut program = Aggregator::watching(&net, &FILES);
    client.go();
    let is_over = |alerts: &[Alert]| alerts.iter().filter(|alert| alert.is_over).count() >= 3;
    alerts_until(&mut program, "the end of all", is_over);
    program.settle();
    let finished = program.running.stop();
    let mut found: Vec<(u32, String, bool)> = alerts(&finished.stderr)
        .into_iter()
        .map(|alert| (alert.threshold as u32, alert.direction, alert.is_over))
        .collect();
    found.sort();
    let expected = [(50, "in"), (50, "out"), (60, "out")]
        .into_iter()
        .flat_map(|(at, way)| [false, true].map(|is_over| (at, way.to_owned(), is_over)));
    assert_eq!(found, expected.collect::<Vec<_>>(), "{}", finished.stderr);
}

#[test]
fn a_process_that_always_has_another_title_is_told_of_once() {
    let Some(net) = Net::new() else { return };
    let rules = "[Lasting]\nprocess_filter=^title\nout_threshold=10\ninterval=3\nfor=2\nrepeat_interval=3600\n";
    write_files(&net.dir, "[All]\ntype=monitor\n", "", rules);
    programs::NAMES.put(&net.dir);
    let mut program = Aggregator::watching(&net, &[&FILES[..], &["--interval", "0.2"]].concat());
    let mut command = net.watched.command("/usr/bin/python3");
    let mut renaming =
        command.args(["names.py", "renaming", "60"]).current_dir(&net.dir).spawn().unwrap();
    let is_over = |alerts: &[Alert]| alerts.iter().any(|alert| alert.is_over);
    let found = alerts_until(&mut program, "the end", is_over);
    assert!(renaming.wait().unwrap().success());
    assert_eq!(found.len(), 2, "{found:#?}");
    program.running.stop();
}

#[test]
fn what_must_last_is_told_only_when_it_has() {
    let Some(net) = Net::new() else { return };
    let rules = "[At once]\nprocess_filter=.\nout_threshold=30\nrepeat_interval=3600\n\
                 [Lasting]\nprocess_filter=.\nout_threshold=31\nfor=2\nrepeat_interval=3600\n\
                 [Never]\nprocess_filter=.\nout_threshold=32\nfor=3600\n";
    write_files(&net.dir, "[All]\ntype=monitor\n", "", rules);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    // Steps of a quarter of a second, and more than one of them between two refreshes.
    let role = format!("tcp-client host={PEER4} port=9000 up=1500000 seconds=5");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let mut program = Aggregator::watching(&net, &[&FILES[..], &["--interval", "1"]].concat());
    let begin = Instant::now();
    client.go();
    truth.settled();
    let is_over = |alerts: &[Alert]| alerts.iter().filter(|alert| alert.is_over).count() >= 2;
    let found = alerts_until(&mut program, "the end of both", is_over);
    let firing: Vec<_> = found.iter().filter(|alert| !alert.is_over).map(|a| a.threshold).collect();
    assert_eq!(firing, [30.0, 31.0], "{found:#?}");
    let stderr = program.running.stderr();
    let until = stderr.find("limit      31.00").unwrap();
    let lasted = program.running.stderr_arrival(until) - begin;
    assert!(lasted >= Duration::from_secs(2), "told after {lasted:?}");
    program.running.stop();
}

#[test]
fn a_hostile_application_forges_no_alert() {
    let rule = "[Rule]\nprocess_filter=.\nin_threshold=1\nrepeat_interval=3600\n";
    let application = "[Fake\x1b[2K\u{202e}]\na=pipe\n";
    let mut piped = Piped::with("", application, rule, &["--interval", "0.2"]);
    let (client, remote) = piped.connect();
    std::io::Write::write_all(&mut &client, &[0; 20_000]).unwrap();
    std::io::Read::read_exact(&mut &remote, &mut [0; 20_000]).unwrap();
    let found = alerts_until(&mut piped.aggregator, "an alert", |alerts| !alerts.is_empty());
    assert_eq!(found[0].application, r"Fake\x1b[2K\u{202e}");
    finish(client, remote);
    piped.aggregator.running.stop();
}
