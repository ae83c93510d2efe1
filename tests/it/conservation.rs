//! Every byte of the table stands on exactly one line.

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4, PEER6, WATCHED4};
use testbed::running::Running;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// The bytes of all entries, as `conntrack` prints them; of those between two addresses of the
/// watched host twice, since each end has its view.
fn table(net: &Net) -> u64 {
    let here = |address: &str| {
        address.starts_with("127.")
            || ["::1", "10.77.0.1", "fd77::1", "10.77.1.1"].contains(&address)
    };
    let mut sum = 0;
    for family in ["ipv4", "ipv6"] {
        for entry in net.watched.run(&format!("conntrack -L -f {family}")).lines() {
            let values = |key: &str| -> Vec<&str> {
                entry.split(' ').filter_map(|word| word.strip_prefix(key)).collect()
            };
            let bytes: u64 =
                values("bytes=").iter().map(|bytes| bytes.parse::<u64>().unwrap()).sum();
            let local = here(values("src=")[0]) && here(values("src=")[1]);
            sum += bytes * if local { 2 } else { 1 };
        }
    }
    sum
}

/// Flows of every kind and owner; the sum stays when processes and sockets end.
#[test]
fn all_lines_together_are_the_whole_table() {
    let Some(net) = Net::new() else { return };
    let start = |namespace, name: &str, role: &str| Endpoint::start(&net, namespace, name, role);
    let truth = Truth::start(
        &net.watched,
        &[Count::matching("all", "meta l4proto != 58", "meta l4proto != 58")],
    );
    let mut running = RUNMONITOR.watch(&net, "conntrack", &["--unattributed"]);

    let _servers = [
        start(&net.peer, "far-tcp", "tcp-server mode=threaded host=:: dual port=9000"),
        start(&net.peer, "far-udp", "udp-server host=:: dual port=9001 reply=300"),
        start(&net.watched, "near-parent", "tcp-server mode=forking host=:: dual port=9002"),
        start(&net.watched, "near-udp", "udp-server port=9003 reply=300 reuseport"),
        start(&net.watched, "near-too", "udp-server port=9003 reply=300 reuseport"),
    ];
    let tcp = "up=70000 down=30000 seconds=0.5";
    let udp = "count=20 size=700 reply=300 seconds=0.5";
    let mut clients = [
        start(&net.watched, "c0", &format!("tcp-client host={PEER4} port=9000 {tcp}")),
        start(&net.watched, "c1", &format!("tcp-client host={PEER6} port=9000 {tcp}")),
        start(&net.watched, "c2", &format!("tcp-client host=127.0.0.1 port=9002 {tcp}")),
        start(&net.watched, "c3", &format!("tcp-client host={WATCHED4} port=9002 {tcp}")),
        start(&net.watched, "c4", &format!("udp-client host={PEER6} port=9001 {udp} connected")),
        start(&net.watched, "c5", &format!("udp-client host={PEER4} port=9001 {udp}")),
        start(&net.peer, "c6", &format!("tcp-client host={WATCHED4} port=9002 {tcp}")),
        start(&net.peer, "c7", &format!("udp-client host={WATCHED4} port=9003 {udp} sockets=4")),
        start(&net.peer, "c8", &format!("ping host={WATCHED4} size=500 count=10")),
    ];
    clients.iter_mut().for_each(Endpoint::begin);
    clients.iter_mut().for_each(|client| {
        client.done();
    });
    let mut compare = |what: &str, at_least: u64| {
        truth.settled();
        let refresh = running.settled();
        let table = table(&net);
        running.expect(what, refresh.total(), table);
        assert!(table > at_least, "{what}: the table holds {table}");
    };
    compare("all open", 600_000);

    let mut clients = Vec::from(clients);
    clients[0].close();
    clients[2].reset();
    drop(clients.drain(5..7));
    compare("some ended", 600_000);

    // A second run knows nothing of the processes that have ended.
    let args = ["--source", "conntrack", "--unattributed", "--count", "1"];
    let late = Running::start(RUNMONITOR.inside(&net.watched, &args)).finish();
    late.expect("started late", late.single_refresh().total(), table(&net));
    running.stop();
}

/// Connections that come and go faster than the table can be read: whoever they are said to belong
/// to, no byte is lost and none stands twice.
#[test]
fn a_table_that_changes_while_it_is_read_is_still_whole() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("all", "tcp", 9000)]);
    let mut running =
        RUNMONITOR.watch(&net, "conntrack", &["--unattributed", "--interval", "0.05"]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-churn host={PEER4} port=9000 count=300 up=2000 down=1000");
    let mut clients = [(); 3].map(|()| Endpoint::start(&net, &net.watched, "churn", &role));
    clients.iter_mut().for_each(Endpoint::begin);
    clients.iter_mut().for_each(|client| {
        client.done();
    });
    let truth = truth.settled()["all"].total();
    let refresh = running.settled();
    running.expect("beside the table", refresh.total(), table(&net));
    running.expect("beside nft", refresh.total(), truth);
    running.stop();
}

/// All of one tuple, all alike, many between two looks: only their announced ends tell them apart.
#[test]
fn connections_that_take_each_others_place_are_all_counted() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("all", "tcp", 9000)]);
    let mut running = RUNMONITOR.watch(&net, "conntrack", &["--unattributed", "--interval", "0.5"]);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role =
        format!("tcp-churn host={PEER4} port=9000 local=40000 reset count=400 up=200 down=100");
    let mut client = Endpoint::start(&net, &net.watched, "churn", &role);
    client.go();
    client.quit();
    let truth = truth.settled()["all"].total();
    let refresh = running.settled();
    running.expect("beside nft", refresh.total(), truth);
    running.stop();
}

#[test]
fn a_ping_is_answered_by_the_kernel() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(
        &net.watched,
        &[Count::matching("ping", "icmp type echo-request", "icmp type echo-reply")],
    );
    // No socket receives it: eBPF's source has that from connection tracking.
    let before = RUNMONITOR.watch(&net, "ebpf", &["--unattributed"]);
    let role = format!("ping host={WATCHED4} size=500 count=10");
    let mut ping = Endpoint::start(&net, &net.peer, "ping", &role);
    ping.go();
    let truth = truth.settled()["ping"];
    let after =
        ["conntrack", "ebpf"].map(|source| RUNMONITOR.watch(&net, source, &["--unattributed"]));
    for mut running in after.into_iter().chain([before]) {
        let refresh = running.settled();
        running.expect("(kernel)", refresh.reason("(kernel)"), truth);
        running.expect("lines", refresh.lines.len(), 1);
        running.stop();
    }
}

/// The kernel answers pings in all namespaces through the same sockets.
#[test]
fn what_the_kernel_answers_in_another_namespace_is_not_ours() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(
        &net.watched,
        &[Count::matching("ping", "icmp type echo-request", "icmp type echo-reply")],
    );
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--unattributed"]);
    for (namespace, to) in [(&net.peer, WATCHED4), (&net.watched, PEER4), (&net.peer, WATCHED4)] {
        let mut ping =
            Endpoint::start(&net, namespace, "ping", &format!("ping host={to} size=500 count=40"));
        ping.go();
    }
    let truth = truth.settled()["ping"];
    running.wait_until("answers", |refresh| refresh.reason("(kernel)") == truth);
    let refresh = running.settled();
    running.expect("(kernel)", refresh.reason("(kernel)"), truth);
    running.stop();
}

#[test]
fn a_ping_from_here_is_its_senders() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(
        &net.watched,
        &[Count::matching("ping", "icmp type echo-reply", "icmp type echo-request")],
    );
    let role = format!("ping host={PEER4} size=500 count=10");
    let mut ping = Endpoint::start(&net, &net.watched, "ping", &role);
    ping.go();
    let truth = truth.settled()["ping"];
    let refresh = RUNMONITOR.once(&net.watched, &["--source", "conntrack", "--unattributed"]);
    assert_eq!(refresh.workload("ping"), truth, "{refresh:#?}");
    assert_eq!(refresh.lines.len(), 1, "{refresh:#?}");
}
