//! Which source is taken, what is said of those that are not there, and what privileges do.

use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::finished::Finished;
use testbed::netns::{Net, PEER4, Setup};
use testbed::program::NOBODY;
use testbed::running::Running;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

const ACCOUNTING: &str = "net.netfilter.nf_conntrack_acct";
/// As where the kernel or a container allows no eBPF: CAP_SYS_ADMIN stands for CAP_BPF, too.
const WITHOUT_BPF: &[&str] = &["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"];
const WITHOUT_NET_ADMIN: &[&str] = &["--bounding-set=-net_admin", "--inh-caps=-net_admin"];

fn net(tracking: bool, accounting: bool) -> Option<Net> {
    Net::with(Setup { tracking, accounting, routed: false, alone: false })
}

fn run(net: &Net, args: &[&str]) -> Finished {
    Running::start(RUNMONITOR.inside(&net.watched, args)).finish()
}

fn run_without_bpf(net: &Net, args: &[&str]) -> Finished {
    Running::start(RUNMONITOR.with_setpriv(net, WITHOUT_BPF, args)).finish()
}

/// A client that has exchanged a little, its server, and its payload.
fn exchange(net: &Net) -> (Endpoint, Endpoint, Bytes) {
    let server = Endpoint::start(net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=50000 down=20000");
    let mut client = Endpoint::start(net, &net.watched, "client", &role);
    let payload = client.go();
    (server, client, payload)
}

fn expect_payload(finished: &Finished, payload: Bytes) {
    finished.expect("client", finished.single_refresh().workload("client"), payload);
}

#[test]
fn auto_takes_ebpf_and_knows_what_conntrack_has_counted_before() {
    let Some(net) = net(true, true) else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let (_server, _client, _) = exchange(&net);
    let truth = truth.settled()["client"];
    for args in [&["--count", "1"][..], &["--count", "1", "--source", "auto"]] {
        let finished = run(&net, args);
        finished.expect("client", finished.single_refresh().workload("client"), truth);
        finished.expect_one_message("source ebpf");
        finished.expect("messages", finished.messages("").len(), 1);
    }
}

#[test]
fn auto_takes_conntrack_where_ebpf_is_refused_and_says_so_once() {
    let Some(net) = net(true, true) else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let (_server, _client, _) = exchange(&net);
    let truth = truth.settled()["client"];
    for args in [&["--count", "1"][..], &["--count", "1", "--source", "auto"]] {
        let finished = run_without_bpf(&net, args);
        finished.expect("client", finished.single_refresh().workload("client"), truth);
        finished.expect_one_message("no source ebpf");
        finished.expect_one_message("source conntrack");
        finished.expect("messages", finished.messages("").len(), 2);
    }
}

#[test]
fn auto_takes_sockets_where_accounting_is_off_and_says_so_once() {
    let Some(net) = net(true, false) else { return };
    let (_server, _client, payload) = exchange(&net);
    let finished = run_without_bpf(&net, &["--count", "3", "--interval", "0.1"]);
    finished.expect_status(0);
    finished.expect_one_message("no source ebpf");
    finished.expect_one_message("source sockets");
    finished.expect_one_message("nf_conntrack_acct");
    finished.expect("messages", finished.messages("").len(), 2);
    expect_payload(&run_without_bpf(&net, &["--count", "1"]), payload);
    assert_eq!(net.watched.sysctl(ACCOUNTING), "0", "a plain run has switched accounting on");
}

#[test]
fn auto_takes_sockets_where_no_rule_tracks_and_says_so_once() {
    let Some(net) = net(false, true) else { return };
    let rules = net.watched.run("nft list ruleset");
    let (_server, _client, payload) = exchange(&net);
    let finished = run_without_bpf(&net, &["--count", "1"]);
    expect_payload(&finished, payload);
    finished.expect_one_message("no source ebpf");
    finished.expect_one_message("source sockets");
    finished.expect("messages", finished.messages("").len(), 2);
    assert_eq!(net.watched.run("nft list ruleset"), rules, "a plain run has made a rule");
}

#[test]
fn conntrack_without_accounting_says_what_mends_it_and_counts_once_mended() {
    let Some(net) = net(true, false) else { return };
    let (_server, old, _) = exchange(&net);
    let mut running = RUNMONITOR.watch(&net, "conntrack", &[]);
    let refresh = running.settled();
    running.expect("without accounting", refresh.total(), 0);
    assert_eq!(net.watched.sysctl(ACCOUNTING), "0", "a plain run has switched accounting on");
    old.quit();
    net.watched.set_sysctl(ACCOUNTING, 1);
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let role = format!("tcp-client host={PEER4} port=9000 up=50000 down=20000");
    let mut client = Endpoint::start(&net, &net.watched, "new", &role);
    client.go();
    running.expect_share("new", truth.settled()["client"]);
    running.stop().expect_one_message("nf_conntrack_acct=1");
}

#[test]
fn conntrack_without_a_rule_says_what_mends_it() {
    let Some(net) = net(false, true) else { return };
    let (_server, _client, _) = exchange(&net);
    let finished = run(&net, &["--source", "conntrack", "--count", "1"]);
    let told = finished.messages("nft").len() + finished.messages("rule").len();
    finished.expect("whether a rule is asked for", told > 0, true);
}

#[test]
fn enable_accounting_sets_it_where_asked() {
    let Some(net) = net(true, false) else { return };
    let finished = run(&net, &["--enable-accounting", "--count", "1"]);
    finished.expect_status(0);
    assert_eq!(net.watched.sysctl(ACCOUNTING), "1");
    assert_eq!(net.peer.sysctl(ACCOUNTING), "0", "in another namespace");
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let (_server, _client, _) = exchange(&net);
    let truth = truth.settled()["client"];
    let refresh = RUNMONITOR.once(&net.watched, &["--source", "conntrack"]);
    assert_eq!(refresh.workload("client"), truth);
}

#[test]
fn enable_accounting_without_the_right_to_is_an_error() {
    let Some(net) = net(true, false) else { return };
    let args = ["--enable-accounting", "--source", "conntrack", "--count", "1"];
    let finished = Running::start(RUNMONITOR.with_setpriv(&net, NOBODY, &args)).finish();
    finished.expect_status(1);
    finished.expect("whether it is said", finished.messages("nf_conntrack_acct").is_empty(), false);
    assert_eq!(net.watched.sysctl(ACCOUNTING), "0");
}

/// The doctor only looks; the commands that it gives, followed one after the other, mend it.
#[test]
fn check_tells_what_is_missing_and_the_command_that_mends_it() {
    for (tracking, accounting) in [(true, true), (true, false), (false, true), (false, false)] {
        let Some(net) = net(tracking, accounting) else { return };
        let mut mended = Vec::new();
        loop {
            drop(exchange(&net));
            let before = (net.watched.sysctl(ACCOUNTING), net.watched.run("nft list ruleset"));
            let finished = run(&net, &["--check"]);
            finished.expect_status(0);
            let after = (net.watched.sysctl(ACCOUNTING), net.watched.run("nft list ruleset"));
            assert_eq!(before, after, "--check has changed something");
            let text = String::from_utf8_lossy(&finished.stdout).into_owned();
            finished.expect("whether sockets work", text.contains("sockets:    works"), true);
            if text.contains("conntrack:  works") {
                break;
            }
            let command = text.lines().find_map(|line| line.trim().strip_prefix("to mend it: "));
            let Some(command) = command.filter(|_| mended.len() < 2) else {
                finished.fail(&format!("no command that mends it, after {mended:#?}"));
            };
            let command = command.strip_prefix("sudo ").unwrap_or(command).to_owned();
            let status = net.watched.command("sh").args(["-c", &command]).status().unwrap();
            finished.expect(&format!("whether {command:?} works"), status.success(), true);
            mended.push(command);
        }
        let missing = usize::from(!tracking) + usize::from(!accounting);
        assert_eq!(mended.len(), missing, "{mended:#?}");
        let refresh = RUNMONITOR.once(&net.watched, &["--source", "conntrack", "--unattributed"]);
        assert!(refresh.total() > 70_000, "conntrack does not count after {mended:#?}");
    }
}

#[test]
fn check_without_privileges_tells_what_it_cannot_see() {
    let Some(net) = net(true, true) else { return };
    let finished = Running::start(RUNMONITOR.with_setpriv(&net, NOBODY, &["--check"])).finish();
    finished.expect_status(0);
    let text = String::from_utf8_lossy(&finished.stdout).to_lowercase();
    finished.expect("CAP_NET_ADMIN", text.contains("cap_net_admin"), true);
    finished.expect("CAP_SYS_PTRACE", text.contains("cap_sys_ptrace"), true);
}

#[test]
fn without_net_admin_the_table_is_read_as_text() {
    let Some(net) = net(true, true) else { return };
    if !std::path::Path::new("/proc/net/nf_conntrack").exists() {
        testbed::requirements::skip("this kernel has no /proc/net/nf_conntrack");
        return;
    }
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let (_server, _client, _) = exchange(&net);
    let truth = truth.settled()["client"];
    let args = ["--source", "conntrack", "--count", "1"];
    let finished = Running::start(RUNMONITOR.with_setpriv(&net, WITHOUT_NET_ADMIN, &args)).finish();
    finished.expect("client", finished.single_refresh().workload("client"), truth);
}

#[test]
fn nobody_sees_own_sockets_by_name_and_others_as_no_permission() {
    let Some(net) = net(true, true) else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=50000 down=20000");
    let mut own = Endpoint::start_as(&net, &net.watched, NOBODY, "own", &role);
    let mut other = Endpoint::start(&net, &net.watched, "other", &role);
    let [own, other] = [own.go(), other.go()];
    let args = ["--source", "sockets", "--unattributed", "--count", "3", "--interval", "0.1"];
    let finished = Running::start(RUNMONITOR.with_setpriv(&net, NOBODY, &args)).finish();
    finished.expect_status(0);
    finished.expect_one_message("descriptors");
    let refresh = finished.refreshes().pop().unwrap();
    finished.expect("own", refresh.workload("own"), own);
    finished.expect("(no permission)", refresh.reason("(no permission)"), other);
    finished.expect("other", refresh.workload("other"), Bytes::default());
}

/// Advice that can't help is worse than none.
#[test]
fn without_descriptors_it_does_not_advise_to_mount_proc() {
    let Some(net) = net(false, false) else { return };
    for limit in 3..14 {
        let mut command = net.watched.command("prlimit");
        command.args([&format!("--nofile={limit}"), "--", RUNMONITOR.path]);
        command.args(["--count", "1", "--source", "sockets"]);
        let finished = Running::start(command).finish();
        let wrong = finished.stderr.contains("mount it") || finished.stderr.contains("modprobe");
        finished.expect("wrong advice", wrong, false);
    }
}

/// `ip netns exec` hides cgroup2.
#[test]
fn where_cgroup_v2_is_hidden_it_is_told_how_to_enter() {
    let Some(net) = net(false, false) else { return };
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", net.watched.name.as_str(), RUNMONITOR.path]);
    let finished = Running::start({
        command.args(["--source", "ebpf", "--count", "1"]);
        command
    })
    .finish();
    finished.expect_status(1);
    let said = finished.messages("nsenter --net=/run/netns/");
    finished.expect("lines that say so", said.len(), 1);
}

#[test]
fn nobody_is_told_what_conntrack_needs() {
    let Some(net) = net(true, true) else { return };
    let args = ["--source", "conntrack", "--count", "1"];
    let finished = Running::start(RUNMONITOR.with_setpriv(&net, NOBODY, &args)).finish();
    finished.expect_status(1);
    finished.expect("whether it is said", finished.messages("CAP_NET_ADMIN").is_empty(), false);
}

/// In a PID namespace of its own it sees no process outside, and says that this is the reason.
#[test]
fn a_process_outside_the_pid_namespace_is_in_another_namespace() {
    let Some(net) = net(true, true) else { return };
    let (_server, _client, payload) = exchange(&net);
    let mut command = net.watched.command("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--", RUNMONITOR.path]);
    command.args(["--source", "sockets", "--count", "1", "--unattributed"]);
    let finished = Running::start(command).finish();
    let refresh = finished.single_refresh();
    finished.expect("(other namespace)", refresh.reason("(other namespace)"), payload);
    finished.expect("lines", refresh.lines.len(), 1);
}
