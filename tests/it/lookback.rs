//! What counts from before the start, what stays of what has ended, and rates.

use std::time::{Duration, Instant};

use testbed::bytes::Bytes;
use testbed::endpoint::{Endpoint, LIVE};
use testbed::netns::{Net, PEER4};
use testbed::running::Running;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

const EXCHANGE: &str = "up=300000 down=200000";

fn server(net: &Net) -> Endpoint {
    Endpoint::start(net, &net.peer, "server", "tcp-server mode=threaded port=9000")
}

fn client(net: &Net, exchange: &str) -> Endpoint {
    let role = format!("tcp-client host={PEER4} port=9000 {exchange}");
    Endpoint::start(net, &net.watched, "client", &role)
}

fn count(net: &Net) -> Truth<'_> {
    Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)])
}

#[test]
fn the_first_refresh_holds_what_was_before_the_start() {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, EXCHANGE);
    let payload = client.go();
    let truth = truth.settled()["client"];
    let refresh = RUNMONITOR.once(&net.watched, &["--source", "conntrack"]);
    assert_eq!(refresh.workload("client"), truth);
    let refresh = RUNMONITOR.once(&net.watched, &["--source", "sockets"]);
    assert_eq!(refresh.workload("client"), payload);
}

#[test]
fn no_lookback_leaves_out_what_was_before_the_start() {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, EXCHANGE);
    let payload_before = client.go();
    let before = truth.settled()["client"];
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &["--no-lookback"]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &["--no-lookback"]);
    for running in [&mut conntrack, &mut sockets] {
        let refresh = running.settled();
        running.expect("before new traffic", refresh.total(), 0);
    }
    let payload = client.go();
    let after = truth.settled()["client"];
    conntrack.expect_share("client", difference(after, before));
    sockets.expect_payload("client", difference(payload, payload_before));
    conntrack.stop();
    sockets.stop();
}

fn difference(after: Bytes, before: Bytes) -> Bytes {
    Bytes::new(after.received - before.received, after.sent - before.sent)
}

#[test]
fn the_first_refresh_comes_at_once_only_where_it_can_say_something() {
    let Some(net) = Net::new() else { return };
    let time = |interval: &str, extra: &[&str]| {
        let mut args = vec!["--source", "sockets", "--count", "1", "--interval", interval];
        args.extend(extra);
        let start = Instant::now();
        Running::start(RUNMONITOR.inside(&net.watched, &args)).finish().single_refresh();
        start.elapsed()
    };
    // It would not come before the test fails.
    time("3600", &[]);
    let interval = Duration::from_secs(1);
    assert!(time("1", &["--no-lookback"]) >= interval, "--no-lookback did not wait");
    assert!(time("1", &["--bandwidth"]) >= interval, "--bandwidth did not wait");
}

/// Ends a flow in this way while it is watched; its bytes stay.
fn ended(end: impl Fn(&Net, &mut Endpoint)) {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, EXCHANGE);
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    client.go();
    running.wait_until("the client's line", |refresh| refresh.workload("client").sent > 300_000);
    // Without a pause: these bytes and the end fall between two refreshes.
    client.go();
    end(&net, &mut client);
    running.expect_share("client", truth.settled()["client"]);
    running.stop();
}

#[test]
fn bytes_of_a_flow_that_was_closed_are_kept() {
    ended(|_, client| client.close());
}

#[test]
fn bytes_of_a_flow_that_was_reset_are_kept() {
    ended(|_, client| client.reset());
}

#[test]
fn bytes_of_a_flow_that_conntrack_has_forgotten_are_kept() {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, EXCHANGE);
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    client.go();
    running.wait_until("the client's line", |refresh| refresh.workload("client").sent > 0);
    client.close();
    let truth = truth.settled()["client"];
    running.expect_share("client", truth);
    net.watched.run("conntrack -D -p tcp --dport 9000");
    running.expect_share("client", truth);
    running.stop();
}

/// The kernel forgets a reset connection after ten seconds (seven here). Who refreshes the screen
/// less often has to look all the same.
#[test]
fn a_flow_that_comes_and_goes_within_one_refresh_is_counted() {
    let Some(net) = Net::new() else { return };
    net.watched.set_sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", 7);
    let truth = count(&net);
    let _server = server(&net);
    let args = ["--source", "conntrack", "--unattributed", "--interval", "15", "--count", "2"];
    let mut running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    running.begun();
    let mut client = client(&net, EXCHANGE);
    client.go();
    client.reset();
    let truth = truth.settled()["client"];
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(net.watched.run("conntrack -L -p tcp --dport 9000"), "", "it is still there");
    let finished = running.finish();
    finished.expect_status(0);
    let last = finished.refreshes().pop().unwrap();
    finished.expect("all lines", last.total(), truth.total());
}

#[test]
fn a_process_that_ended_keeps_its_line() {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, EXCHANGE);
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &["--unattributed"]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let payload = client.go();
    sockets.expect_payload("client", payload);
    conntrack.expect_share("client", truth.settled()["client"]);
    client.quit();
    let truth = truth.settled()["client"];
    conntrack.expect_share("client", truth);
    let exited = conntrack.settled().reason("(exited)");
    conntrack.expect("(exited)", exited, Bytes::default());
    // The kernel announces the last counters of a socket when it is closed.
    sockets.expect_payload("client", payload);
    conntrack.stop();
    sockets.stop();
}

#[test]
fn what_ended_before_the_start_has_exited() {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, EXCHANGE);
    client.go();
    client.quit();
    let truth = truth.settled()["client"];
    let refresh = RUNMONITOR.once(&net.watched, &["--source", "conntrack", "--unattributed"]);
    assert_eq!(refresh.reason("(exited)"), truth, "{refresh:#?}");
    assert_eq!(refresh.lines.len(), 1, "{refresh:#?}");
}

/// Each connection is smaller than the one before, so that the entry's counters go backwards:
/// conntrack may give the new entry even the old one's id.
#[test]
fn a_tuple_used_again_is_another_flow() {
    let Some(net) = Net::new() else { return };
    let truth = count(&net);
    let _server = server(&net);
    let mut conntrack = RUNMONITOR.watch(&net, "conntrack", &[]);
    let mut sockets = RUNMONITOR.watch(&net, "sockets", &[]);
    let mut known = Vec::new();
    let mut before = Bytes::default();
    for (name, up) in [("first", 300_000), ("second", 200_000), ("third", 100_000)] {
        let role = format!("tcp-client host={PEER4} port=9000 local=40000 up={up} down={up}");
        let mut client = Endpoint::start(&net, &net.watched, name, &role);
        let payload = client.go();
        sockets.expect_payload(name, payload);
        conntrack.wait_until(name, |refresh| refresh.workload(name) != Bytes::default());
        // A reset frees the port at once; conntrack replaces the entry at the next SYN.
        client.reset();
        let after = truth.settled()["client"];
        conntrack.expect_share(name, difference(after, before));
        client.quit();
        known.push((name, difference(after, before), payload));
        before = after;
    }
    for (name, truth, payload) in known {
        conntrack.expect_share(name, truth);
        sockets.expect_payload(name, payload);
    }
    conntrack.stop();
    sockets.stop();
}

/// How often rates may be tried: the time between two refreshes is seen here only as they arrive.
const ATTEMPTS: usize = 5;

/// One refresh after the other, the rates of a known exchange add up to it.
fn rates(source: &str) {
    let failures = (0..ATTEMPTS).map_while(|_| wrong_rates(source)).collect::<Vec<_>>();
    assert!(failures.len() < ATTEMPTS, "the sum of rates over time, within a tenth: {failures:#?}");
}

/// What they add up to, if not to the exchange.
fn wrong_rates(source: &str) -> Option<String> {
    let net = Net::new()?;
    let truth = count(&net);
    let _server = server(&net);
    let mut client = client(&net, LIVE);
    let before = truth.settled()["client"];
    let mut running = RUNMONITOR.watch(&net, source, &["--bandwidth"]);
    let mut seen = running.refreshes(0).len();
    let mut last = Instant::now();
    client.begin();
    // Each rate times the time since the refresh before, as it arrives here.
    let (mut received, mut sent, mut busy, mut quiet) = (0.0, 0.0, 0, 0);
    loop {
        seen += 1;
        let rate = running.refreshes(seen)[seen - 1].workload("client");
        let seconds = last.elapsed().as_secs_f64();
        last = Instant::now();
        received += rate.received as f64 * seconds;
        sent += rate.sent as f64 * seconds;
        // On a busy machine even the exchange may pause for an interval: its end is several.
        if rate != Bytes::default() {
            (busy, quiet) = (busy + 1, 0);
        } else if busy > 0 {
            quiet += 1;
        }
        if quiet == 4 {
            break;
        }
    }
    let payload = client.done();
    let expected = match source {
        "sockets" => payload,
        _ => difference(truth.settled()["client"], before),
    };
    let near = |rates: f64, bytes: u64| (rates / bytes as f64 - 1.0).abs() < 0.1;
    running.stop();
    let got = Bytes::new(received as u64, sent as u64);
    let fits = near(received, expected.received) && near(sent, expected.sent);
    // They are spread over refreshes.
    (!fits || busy < 5).then(|| format!("{got} in {busy} refreshes, of {expected}"))
}

#[test]
fn rates_add_up_to_the_traffic_with_conntrack() {
    rates("conntrack");
}

#[test]
fn rates_add_up_to_the_traffic_with_sockets() {
    rates("sockets");
}
