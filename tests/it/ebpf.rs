//! What is special to the source that counts in the kernel: that nothing of it stays behind, that several
//! get along, and what it says where it can't be had.

mod ends;
mod forwarded;
mod past;
mod reader;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::{loaded_links, loaded_programs};
use bwmon::ebpf::SLOTS;
use rustix::process::{Pid, Signal, kill_process};
use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::finished::Finished;
use testbed::netns::{Net, PEER4, Setup};
use testbed::running::Running;
use testbed::truth::{Count, Truth};

use crate::RUNMONITOR;

/// A client of `up` bytes, and its server.
fn exchange(net: &Net, name: &str) -> (Endpoint, Endpoint) {
    let server = Endpoint::start(net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=50000 down=20000");
    let mut client = Endpoint::start(net, &net.watched, name, &role);
    client.go();
    (server, client)
}

/// The numbers of a process's descriptors of a kind, by a field of `/proc/PID/fdinfo`.
fn numbers(pid: u32, field: &str) -> HashSet<u32> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let number = |text: String| {
        let value = text.lines().find_map(|line| line.strip_prefix(field))?.trim();
        value.parse().ok()
    };
    texts.filter_map(number).collect()
}

#[test]
fn killed_it_leaves_nothing_attached() {
    let Some(net) = Net::new() else { return };
    let running = RUNMONITOR.watch(&net, "ebpf", &[]);
    let programs = numbers(running.pid(), "prog_id:");
    let links = numbers(running.pid(), "link_id:");
    // Five at the control groups, some at tracepoints.
    let attached = (programs.len(), links.len());
    assert!(attached.0 >= 5 && attached.0 == attached.1, "{attached:?}");
    let left = || {
        let programs = loaded_programs().flatten().filter(|p| programs.contains(&p.id())).count();
        let links = loaded_links().flatten().filter(|l| links.contains(&l.id())).count();
        (programs, links)
    };
    assert_eq!(left(), attached);
    running.signal(Signal::KILL);
    drop(running);
    // The kernel frees them once no packet can be in them any more.
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        left() == (0, 0)
    });
    assert!(gone, "(programs, links) left: {:?}", left());
}

#[test]
fn two_at_once_count_everything_each() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let mut both = [(); 2].map(|()| RUNMONITOR.watch(&net, "ebpf", &["--unattributed"]));
    let _kept = exchange(&net, "client");
    let truth = truth.settled()["client"];
    for running in &mut both {
        running.expect_share("client", truth);
    }
    let [one, other] = both;
    one.stop();
    other.stop();
}

#[test]
fn without_conntrack_the_past_is_what_the_sockets_tell() {
    let setup = Setup { tracking: false, accounting: false, routed: false, alone: false };
    let Some(net) = Net::with(setup) else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=50000 down=20000");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let payload = client.go();
    // A delayed acknowledgement would come after the start, and be counted.
    truth.settled();
    for (args, expected) in [(&[][..], payload), (&["--no-lookback"], Bytes::default())] {
        let args = [&["--source", "ebpf", "--count", "2", "--interval", "0.2"], args].concat();
        let finished = Running::start(RUNMONITOR.inside(&net.watched, &args)).finish();
        let refresh = finished.refreshes().pop().unwrap();
        finished.expect("client", refresh.workload("client"), expected);
    }
}

/// One that ends is in no list of sockets any more by the time its last bytes are read.
#[test]
fn a_socket_of_before_the_start_is_counted_to_its_end() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "udp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "server", "udp-server port=9000 reply=400");
    let role = format!("udp-client host={PEER4} port=9000 count=200 size=1000 reply=400");
    let mut clients = [(); 2].map(|()| Endpoint::start(&net, &net.watched, "client", &role));
    // Long enough for all of it to be between two looks.
    let args = ["--source", "ebpf", "--unattributed", "--interval", "2"];
    let mut running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    running.begun();
    // One is known when it ends, the other one isn't.
    clients[0].go();
    running.settled();
    for client in &mut clients {
        client.go();
        client.close();
    }
    // A new socket lets all be listed.
    let _new = exchange(&net, "another");
    let truth = truth.settled()["client"];
    running.expect_share("client", truth);
    running.stop();
}

/// The text in which the kernel lists raw sockets has no cookies, by which it could be told which they are.
#[test]
fn with_a_raw_socket_here_others_are_not_taken_for_being_here() {
    let Some(net) = Net::new() else { return };
    let role = format!("ping host={PEER4} size=100 count=1");
    let mut ping = Endpoint::start(&net, &net.watched, "ping", &role);
    let _server = Endpoint::start(&net, &net.peer, "foreign", "udp-server port=9000 reply=400");
    let role = "udp-client host=127.0.0.1 port=9000 count=200 size=1000 reply=400";
    let mut client = Endpoint::start(&net, &net.peer, "foreign", role);
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--unattributed"]);
    ping.go();
    client.go();
    let refresh = running.settled();
    let foreign = refresh.named("foreign") + refresh.reason("(kernel)");
    running.expect("bytes of another namespace", foreign, Bytes::default());
    running.stop();
}

/// `script` in namespaces of its own beside the network's, with the program as `$0`.
fn unshared(net: &Net, unshare: &[&str], script: &str) -> Command {
    let mut command = net.watched.command("unshare");
    command.args(unshare).args(["sh", "-c", script, RUNMONITOR.path]);
    command
}

fn expect_refused(finished: &Finished, why: &str) {
    finished.expect_status(1);
    finished.expect_one_message(why);
    finished.expect("messages", finished.messages("").len(), 1);
}

#[test]
fn where_only_a_part_of_the_host_can_be_seen_it_says_which() {
    let Some(net) = Net::new() else { return };
    let run = |unshare: &[&str], script| Running::start(unshared(&net, unshare, script)).finish();
    let script = "exec \"$0\" --netns own --count 1 --source ebpf";
    let pids = ["--mount-proc", "--fork", "--pid"];
    expect_refused(&run(&pids, script), "PID namespace");
    expect_refused(&run(&["--cgroup"], script), "cgroup namespace");
    // What comes next in line is taken instead.
    let auto = run(&["--cgroup"], "exec \"$0\" --netns own --count 1");
    auto.expect_status(0);
    auto.expect_one_message("no source ebpf: this is not the host's cgroup namespace");
}

const UNMOUNT: &str = "awk '$9 == \"cgroup2\" || $8 == \"cgroup2\" || $10 == \"cgroup2\" { print $5 }' \
    /proc/self/mountinfo | while read -r point; do umount -l \"$point\"; done; ";

#[test]
fn where_cgroup2_is_hidden_it_says_so_and_with_it_anywhere_it_works() {
    let Some(net) = Net::new() else { return };
    let script = format!("{UNMOUNT} exec \"$0\" --netns own --count 1 --source ebpf");
    expect_refused(
        &Running::start(unshared(&net, &["--mount"], &script)).finish(),
        "nsenter --net=",
    );
    let script = format!(
        "{UNMOUNT} mkdir 'a cgroup'; mount -t cgroup2 none 'a cgroup'; \
         exec \"$0\" --netns own --count 1 --source ebpf"
    );
    let mut command = unshared(&net, &["--mount"], &script);
    command.current_dir(&net.dir);
    Running::start(command).finish().expect_status(0);
}

#[test]
fn it_goes_on_when_cgroup2_is_mounted_elsewhere_meanwhile() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    let script = format!(
        "\"$0\" --netns own --source ebpf --interval 0.2 & \
         trap 'kill -TERM $!; wait $!; exit $?' INT TERM; \
         while ! [ -e watching ]; do sleep 0.05; done; {UNMOUNT} \
         mkdir other; mount -t cgroup2 none other; echo remounted >&2; wait $!"
    );
    let mut command = unshared(&net, &["--mount"], &script);
    command.current_dir(&net.dir);
    let mut running = Running::start(command);
    running.begun();
    std::fs::write(net.dir.join("watching"), "").unwrap();
    while !running.stderr().contains("remounted") {
        running.expect_running();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let _kept = exchange(&net, "client");
    running.expect_share("client", truth.settled()["client"]);
    // Its own process is the shell's: nobody else ends it.
    running.stop();
}

/// A memory cgroup, removed when dropped.
struct Memory(PathBuf);

impl Memory {
    /// One of so many bytes; `None` where there is no such controller.
    fn new(bytes: u64) -> Option<Memory> {
        let name = format!("bwmon-it-{}", std::process::id());
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let group = Memory(Path::new(root).join(&name));
            let made = std::fs::create_dir(&group.0);
            if made.is_ok() && std::fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn where_memory_is_short_it_makes_less_room_or_says_so() {
    let Some(net) = Net::new() else { return };
    let Some(group) = Memory::new(24 << 20) else {
        testbed::requirements::skip("there is no memory controller");
        return;
    };
    let script = format!("echo $$ > {}/cgroup.procs; exec \"$0\" --check", group.0.display());
    // What it needs for a moment while it starts is memory that the kernel doesn't refuse: it kills for it. That
    // depends on what else of it is in memory.
    let attempt = || {
        let mut command = net.watched.command("sh");
        command.args(["-c", &script, RUNMONITOR.path]);
        let finished = Running::start(command).finish();
        (!finished.stdout.is_empty()).then_some(finished)
    };
    let finished = (0..10).find_map(|_| attempt());
    let finished = finished.expect("it starts with little memory");
    finished.expect_status(0);
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    let ebpf = text.lines().find(|line| line.starts_with("ebpf: ")).unwrap_or_default();
    let room = ebpf.split(' ').filter_map(|word| word.parse::<u32>().ok()).next();
    let less =
        room.is_some_and(|room| room < *SLOTS.start()) || ebpf.contains("Cannot allocate memory");
    finished.expect("whether there is less room, or none", less, true);
}

/// The kernel gives up looking at a program when a signal comes, which says nothing about the program.
#[test]
fn signals_while_the_programs_are_loaded_change_nothing() {
    let Some(net) = Net::new() else { return };
    let args = ["--source", "ebpf", "--count", "2", "--interval", "0.2"];
    let running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    let pid = Pid::from_raw(running.pid().cast_signed()).unwrap();
    // It is not handled from the first instruction on, and ignored until then.
    let deadline = Instant::now() + Duration::from_secs(30);
    while running.stdout().is_empty() && Instant::now() < deadline {
        kill_process(pid, Signal::WINCH).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let finished = running.finish();
    finished.expect_status(0);
    finished.expect("messages", finished.messages("").len(), 0);
}
