//! What a process is named: by its full command line or title, however and whenever it ends.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};
use testbed::bytes::Bytes;
use testbed::lines::Refresh;
use testbed::netns::Net;
use testbed::programs;
use testbed::running::Running;
use testbed::streams::listens;
use testbed::truth::{Count, Truth};
use testbed::wait::eventually;

use crate::RUNMONITOR;

/// Puts the script where programs are started, once: some may be reading it.
fn script(net: &Net) {
    programs::NAMES.put(&net.dir);
}

/// A process in the watched namespace, and all its children.
struct Scene(Child);

impl Scene {
    fn start(net: &Net, words: &[&str]) -> Scene {
        use std::os::unix::process::CommandExt;
        let mut command = net.watched.command(words[0]);
        command.args(&words[1..]).current_dir(&net.dir).process_group(0);
        Scene(command.spawn().unwrap())
    }

    /// What the script has of that kind.
    fn kind(net: &Net, kind: &str, argument: &str) -> Scene {
        script(net);
        Scene::start(net, &["/usr/bin/python3", "names.py", kind, argument])
    }

    /// Waits until its command line ends so.
    fn is_called(&self, end: &[u8]) {
        eventually("it calls exec", || {
            std::fs::read(format!("/proc/{}/cmdline", self.0.id())).unwrap().ends_with(end)
        });
    }

    fn ends(&mut self) {
        eventually("its end", || self.0.try_wait().unwrap().is_some());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The bytes of all lines that begin so.
fn named(refresh: &Refresh, beginning: &str) -> Bytes {
    let lines = refresh.lines.iter().filter(|line| line.command.starts_with(beginning));
    lines.map(|line| line.bytes).sum()
}

/// Fails unless so many bytes were sent under names that begin so, and none under a short one.
fn expect_sent(running: &mut Running, beginning: &str, sent: u64) {
    let refresh = running.settled();
    let refresh = if named(&refresh, beginning).sent < sent { running.settled() } else { refresh };
    let short = named(&refresh, "[python3]") + named(&refresh, "[bash]") + named(&refresh, "[exe]");
    running.expect("bytes under short names", short, Bytes::default());
    running.expect(beginning, named(&refresh, beginning).sent, sent);
}

/// Whether the kernel shows the last title of a process that ends.
fn shows_last_titles() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 16)
}

/// Plays a kind of the script until it has ended, and checks where its bytes are.
fn plays(source: &str, interval: &str, kind: &str, argument: &str, beginning: &str, sent: u64) {
    let Some(net) = Net::new() else { return };
    let mut running = RUNMONITOR.watch(&net, source, &["--interval", interval, "--no-lookback"]);
    Scene::kind(&net, kind, argument).ends();
    expect_sent(&mut running, beginning, sent);
    running.stop();
}

#[test]
fn clients_that_end_during_refreshes_keep_their_names() {
    plays("ebpf", "0.1", "clients", "11", "/usr/bin/python3 names.py clients 11", 11 * 300_000);
}

#[test]
fn three_thousand_connections_of_one_process_are_on_its_line_when_it_has_ended() {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("client", "tcp", 9000)]);
    script(&net);
    let mut server = net.peer.command("/usr/bin/python3");
    let mut server = server.args(["names.py", "serve"]).current_dir(&net.dir).spawn().unwrap();
    eventually("the server listens", || listens(server.id(), 9000));
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--interval", "0.05"]);
    Scene::kind(&net, "connections", "3000").ends();
    let truth = truth.settled()["client"];
    let refresh = running.settled();
    let line = named(&refresh, "/usr/bin/python3 names.py connections 3000");
    let _ = server.kill();
    let _ = server.wait();
    running.expect("its bytes", line, truth);
    running.stop();
}

#[test]
fn the_first_bytes_after_a_long_silence_and_before_the_end_are_under_the_full_name() {
    let name = "/usr/bin/python3 names.py silent 2";
    plays("ebpf", "0.1", "silent", "2", name, 50_000);
}

#[test]
fn a_zombie_at_its_first_look_has_its_full_name() {
    for source in ["ebpf", "conntrack"] {
        plays(source, "1", "zombie", "", "/usr/bin/python3 names.py child", 50_000);
    }
}

#[test]
fn a_copy_that_ends_at_once_has_its_parents_name() {
    plays("ebpf", "0.5", "fork", "0", "/usr/bin/python3 names.py fork 0", 50_000);
}

#[test]
fn a_copy_of_a_parent_that_is_older_than_the_program_has_its_name() {
    let Some(net) = Net::new() else { return };
    let mut parent = Scene::kind(&net, "fork", "now");
    parent.is_called(b"fork\0now\0");
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--interval", "0.5"]);
    std::fs::write(net.dir.join("now"), "").unwrap();
    parent.ends();
    expect_sent(&mut running, "/usr/bin/python3 names.py fork now", 50_000);
    running.stop();
}

#[test]
fn a_title_stays_when_its_process_ends() {
    plays("ebpf", "0.2", "titled", "my new title", "my new title", 50_000);
}

#[test]
fn a_title_may_begin_with_a_bracket() {
    for source in ["ebpf", "conntrack"] {
        plays(source, "0.2", "titled", "[x] new title", "[x] new title", 50_000);
    }
}

#[test]
fn a_title_that_was_set_just_before_the_end_is_the_name() {
    if shows_last_titles() {
        plays("ebpf", "5", "titled_late", "my last title", "my last title", 50_000);
    }
}

#[test]
fn a_process_whose_main_thread_has_ended_has_its_full_name() {
    for source in ["ebpf", "conntrack"] {
        plays(source, "0.2", "leaderless", "", "/usr/bin/python3 names.py leaderless", 50_000);
    }
}

/// Starts 500 programs a second under a name of the shell's choice while both cores are busy, with the
/// monitor `stopped` meanwhile: as if it never got a processor.
fn renamed_programs(through: &[&str], stopped: bool) {
    let Some(net) = Net::new() else { return };
    let busy = [
        "/bin/sh",
        "-c",
        "timeout 20 sh -c 'while :; do :; done' & timeout 20 sh -c \
                 'while :; do :; done' & wait",
    ];
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--interval", "1"]);
    let _busy = Scene::start(&net, &busy);
    let script = "for i in $(seq 500); do (exec -a named-by-hand bash -c 'printf %0972d 0 > \
                  /dev/udp/127.0.0.1/9') & [ $((i % 10)) = 0 ] && sleep 0.02; done; wait";
    let mut shell = Scene::start(&net, &[through, &["/bin/bash", "-c", script]].concat());
    if stopped {
        running.signal(Signal::STOP);
    }
    shell.ends();
    running.signal(Signal::CONT);
    let refresh = running.wait_until("all their bytes", |refresh| {
        refresh.lines.iter().map(|line| line.bytes.sent).sum::<u64>() >= 500_000
    });
    let line = named(&refresh, "named-by-hand -c printf %0972d 0 > /dev/udp/127.0.0.1/9");
    running.expect("bytes under the full name", line.sent, 500_000);
    running.stop();
}

#[test]
fn programs_of_a_millisecond_have_their_full_names_on_a_busy_host() {
    for stopped in [false, true] {
        renamed_programs(&[], stopped);
    }
}

#[test]
fn programs_of_a_millisecond_have_their_full_names_in_another_pid_namespace() {
    for stopped in [false, true] {
        renamed_programs(&["unshare", "--pid", "--fork", "--mount-proc"], stopped);
    }
}

/// It is stopped until there is no room for more reports.
#[test]
fn lost_reports_are_said_and_all_names_are_read_again() {
    let Some(net) = Net::new() else { return };
    script(&net);
    let command =
        "until [ -e full ]; do sleep 0.1; done; exec /usr/bin/python3 names.py silent now";
    let mut late = Scene::start(&net, &["/bin/bash", "-c", command]);
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--interval", "0.3"]);
    running.signal(Signal::STOP);
    let fill = "long=$(printf %0100000d 0); for i in $(seq 20); do /bin/true $long; done; \
                for i in $(seq 4000); do /bin/true; done; : > full";
    Scene::start(&net, &["/bin/bash", "-c", fill]).ends();
    late.is_called(b"silent\0now\0");
    running.signal(Signal::CONT);
    running.settled();
    std::fs::write(net.dir.join("now"), "").unwrap();
    late.ends();
    expect_sent(&mut running, "/usr/bin/python3 names.py silent now", 50_000);
    running.stop().expect_one_message("faster than they could be followed");
}

/// With the monitor stopped, so that it takes no reports.
#[test]
fn long_command_lines_of_some_leave_room_for_reports_of_others() {
    let Some(net) = Net::new() else { return };
    let mut running = RUNMONITOR.watch(&net, "ebpf", &["--interval", "0.3"]);
    running.signal(Signal::STOP);
    let script = "long=$(printf %0100000d 0); for i in $(seq 200); do /bin/true $long; done; \
                  exec -a named-by-hand bash -c 'printf %0972d 0 > /dev/udp/127.0.0.1/9'";
    Scene::start(&net, &["/bin/bash", "-c", script]).ends();
    running.signal(Signal::CONT);
    expect_sent(&mut running, "named-by-hand -c printf %0972d 0 > /dev/udp/127.0.0.1/9", 1000);
    let finished = running.stop();
    finished.expect("messages of lost reports", finished.messages("faster than").len(), 0);
}

/// Without its rights, processes are announced by the proc connector, or not at all.
#[test]
fn where_tracepoints_are_refused_nothing_is_said() {
    let Some(net) = Net::new() else { return };
    let drop = ["--inh-caps=-bpf,-perfmon,-sys_admin", "--bounding-set=-bpf,-perfmon,-sys_admin"];
    let args = ["--source", "conntrack", "--count", "1"];
    let command: Command = RUNMONITOR.with_setpriv(&net, &drop, &args);
    let finished = Running::start(command).finish();
    finished.expect_status(0);
    finished.expect("messages", finished.messages("tracepoint").len(), 0);
}
