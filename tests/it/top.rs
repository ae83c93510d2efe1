//! `--top` on a real terminal, which is tmux: what it shows under traffic, its keys, and how it leaves the terminal.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Action, tcflow};
use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::requirements::skip;
use testbed::wait::{eventually, until};

use crate::runaggregator::{FILES, write_files};
use crate::{RUNAGGREGATOR, RUNMONITOR};

/// A shell in a terminal of its own, in the watched namespace.
struct Shell<'a> {
    net: &'a Net,
    socket: PathBuf,
}

impl<'a> Shell<'a> {
    /// `None` where there is no tmux.
    fn start(net: &'a Net) -> Option<Shell<'a>> {
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_err() {
            skip("tmux is missing");
            return None;
        }
        let shell = Shell { net, socket: net.dir.join("tmux") };
        let mut command = net.watched.command("tmux");
        command.arg("-u").arg("-S").arg(&shell.socket).args(["-f", "/dev/null", "new-session"]);
        command.args(["-d", "-x", "120", "-y", "30", "bash", "--norc", "--noprofile"]);
        command.env("PS1", "shell> ").env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command.env_remove("NO_COLOR").current_dir(&net.dir);
        let started = command.output().unwrap();
        assert!(started.status.success(), "{started:?}");
        shell.wait("the shell", |screen| screen.contains("shell>"));
        Some(shell)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket).args(arguments).env("LC_ALL", "C.UTF-8");
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    /// Presses a key, by its name in tmux.
    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types text.
    fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Types a command for the shell.
    fn run(&self, command: &str) {
        self.type_text(command);
        self.press("Enter");
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it should be.
    fn wait(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        let met = until(std::time::Duration::from_secs(20), || {
            screen = self.screen();
            condition(&screen)
        });
        assert!(met, "{what} never came:\n{screen}");
        screen
    }

    /// Runs a program with the screen, and waits for it.
    fn top(&self, program: impl AsRef<std::path::Path>, arguments: &str) {
        let program = program.as_ref().display();
        self.run(&format!("clear; {program} --netns own --top {arguments}; echo \"status $?\""));
        self.wait("the screen", |screen| screen.contains("source ") && screen.contains("NAME"));
        assert_eq!(self.terminal(), ["1", "0", "1"]);
    }

    /// Whether there is the alternate screen, the cursor, the mouse.
    fn terminal(&self) -> Vec<String> {
        let format = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
        let flags = self.tmux(&["display-message", "-p", format]);
        flags.split_whitespace().map(str::to_owned).collect()
    }

    /// How the terminal is set now, as `stty` says.
    fn modes(&self, file: &str) -> String {
        let path = self.net.dir.join(file);
        self.run(&format!("stty -g > {file}.part; mv {file}.part {file}"));
        assert!(until(std::time::Duration::from_secs(20), || path.exists()), "{}", self.screen());
        fs::read_to_string(path).unwrap()
    }

    /// The process of this name.
    fn pid(&self, comm: &str) -> Pid {
        let pids = self.net.watched.pids();
        let is = |pid: &&String| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|of| of.trim() == comm)
        };
        let pid = pids.iter().find(is).unwrap_or_else(|| panic!("no {comm}: {}", self.screen()));
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn keys_on_a_terminal_under_traffic() {
    let Some(net) = Net::new() else { return };
    let Some(shell) = Shell::start(&net) else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = |up: u32| format!("tcp-client host={PEER4} port=9000 up={up} down=200000");
    let [mut one, mut two] = [("c1", 1000), ("c2", 3000)]
        .map(|(name, up)| Endpoint::start(&net, &net.watched, name, &role(up)));
    let before = shell.modes("before");
    shell.top(RUNMONITOR, "");
    // However long this takes.
    shell.press("a");
    one.go();
    two.go();
    let both = |screen: &str| screen.contains("c1") && screen.contains("c2");
    shell.wait("both clients", both);

    shell.type_text("/name:c1");
    shell.wait("the filter", |screen| screen.contains("/name:c1") && !screen.contains(" c2 "));
    shell.press("Enter");
    shell.press("Enter");
    let end = format!("{PEER4}:9000");
    shell.wait("the row", |screen| screen.contains("remote ends (") && screen.contains(&end));
    shell.press("Escape");
    shell.wait("the list", |screen| screen.contains("NAME") && screen.contains("1 of "));
    shell.press("Escape");
    shell.wait("both clients again", both);
    shell.press("?");
    shell.wait("the help", |screen| screen.contains("select a row"));
    shell.press("Escape");
    shell.press("Space");
    shell.wait("the word", |screen| screen.contains("FROZEN"));
    shell.press("Space");
    shell.wait("no word", |screen| !screen.contains("FROZEN"));

    for (width, height) in [("60", "12"), ("40", "10"), ("120", "30")] {
        shell.tmux(&["resize-window", "-x", width, "-y", height]);
        let rows = height.parse::<usize>().unwrap();
        shell.wait("the new size", |screen| {
            let last = screen.lines().nth(rows - 1);
            let is_whole = screen.starts_with("runmonitor ") && screen.contains("/python3");
            is_whole && last.is_some_and(|last| last.starts_with("q quit"))
        });
    }

    shell.press("C-z");
    shell.wait("the shell", |screen| screen.contains("Stopped"));
    assert_eq!(shell.terminal(), ["0", "1", "0"]);
    assert_eq!(shell.modes("stopped"), before);
    shell.run("clear; fg; echo \"ended $?\"");
    shell.wait("the screen again", both);
    assert_eq!(shell.terminal(), ["1", "0", "1"]);

    shell.press("C-c");
    shell.wait("the end", |screen| screen.contains("ended 0"));
    assert_eq!(shell.terminal(), ["0", "1", "0"]);
    assert_eq!(shell.modes("after"), before);
    shell.run("echo \"it is $((6 * 7))\"");
    shell.wait("an answer of the shell", |screen| screen.contains("it is 42"));
}

#[test]
fn every_end_restores_the_terminal() {
    let Some(net) = Net::new() else { return };
    let Some(shell) = Shell::start(&net) else { return };
    let before = shell.modes("before");
    for (at, signal) in [Signal::TERM, Signal::INT, Signal::HUP].into_iter().enumerate() {
        shell.top(RUNMONITOR, "");
        kill_process(shell.pid("runmonitor"), signal).unwrap();
        shell.wait("the end", |screen| screen.contains("status 0"));
        assert_eq!(shell.terminal(), ["0", "1", "0"], "{signal:?}");
        assert_eq!(shell.modes(&format!("after-{at}")), before, "{signal:?}");
    }
    shell.top(RUNAGGREGATOR, "");
    shell.type_text("q");
    let screen = shell.wait("the end", |screen| screen.contains("status 0"));
    // What was said while there was a screen.
    assert!(
        screen.contains("runaggregator: source ") && screen.contains("Please wait..."),
        "{screen}"
    );
    assert_eq!(shell.modes("after-q"), before);
    shell.top(RUNMONITOR, "--count 3 --interval 0.3");
    shell.wait("the end", |screen| screen.contains("status 0"));
    assert_eq!(shell.modes("after-count"), before);
    shell.run(&format!("clear; TERM=dumb {} --top; echo \"status $?\"", RUNMONITOR.path));
    let screen = shell.wait("the end", |screen| screen.contains("status 2"));
    assert!(screen.contains("TERM is dumb; set TERM, or leave --top out"), "{screen}");
}

/// A terminal that takes nothing (a stopped one, a connection that hangs) stops drawing, and nothing else.
#[test]
fn a_terminal_that_takes_nothing_delays_neither_alerts_nor_the_end() {
    let Some(net) = Net::new() else { return };
    let Some(shell) = Shell::start(&net) else { return };
    let before = shell.modes("before");
    let rule = "[Rule]\nprocess_filter=.\nin_threshold=0.001\ninterval=1\nrepeat_interval=0\n\
                notification_command=/bin/sh -c 'echo >> started'\n";
    write_files(&net.dir, "[Host]\ntype=monitor\nsource=sockets\n", "", rule);
    let started = || fs::read(net.dir.join("started")).map_or(0, |lines| lines.len());
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=1000 down=200000");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    shell.top(RUNAGGREGATOR, &format!("{} --interval 0.2", FILES.join(" ")));
    let pid = shell.pid("runaggregator");
    let tty = fs::File::open(shell.tmux(&["display-message", "-p", "#{pane_tty}"]).trim()).unwrap();
    tcflow(&tty, Action::OOff).unwrap();
    let proc = PathBuf::from(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let is_stuck = |task: fs::DirEntry| {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        // write(1, ...)
        read("comm").trim() == "screen" && read("syscall").starts_with("1 0x1 ")
    };
    eventually("the screen's thread writes", || {
        fs::read_dir(&proc).unwrap().flatten().any(is_stuck)
    });
    let commands = started();
    client.go();
    eventually("a command is started", || started() > commands);
    kill_process(pid, Signal::TERM).unwrap();
    eventually("it ends", || !proc.exists());
    tcflow(&tty, Action::OOn).unwrap();
    // Nobody could tell the terminal to leave the screen, so the line begins anywhere and may be wrapped.
    shell.wait("the end", |screen| screen.replace([' ', '\n'], "").contains("status0"));
    assert_eq!(shell.modes("after"), before);
}

#[test]
fn no_screen_without_a_terminal_or_beside_another_format() {
    let said = |output: Output| {
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let output = RUNMONITOR.here(&["--top"]).env("TERM", "xterm").output().unwrap();
    assert_eq!(
        said(output),
        "runmonitor: --top needs a terminal, and standard output is none; without --top it can be any file\n"
    );
    for program in [RUNMONITOR, RUNAGGREGATOR] {
        let output = program.here(&["--top", "--format", "json"]).output().unwrap();
        let expected = "--top is a screen for people, and --format json is for programs; leave one of them out\n";
        assert!(said(output).ends_with(expected));
    }
}

#[test]
fn a_terminal_that_is_not_utf8_gets_ascii() {
    let Some(net) = Net::new() else { return };
    let Some(shell) = Shell::start(&net) else { return };
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=5000");
    let name = OsStr::new("\u{db}2J");
    let mut client = Endpoint::start_as(&net, &net.watched, &[], name, &role);
    shell
        .top(format!("env LC_ALL=C {}", RUNMONITOR.path), "--source sockets --columns in,out,name");
    client.go();
    shell.press("a");
    let is_escaped = |screen: &str| screen.contains(r"\u{db}2J") && screen.is_ascii();
    shell.wait("the name", is_escaped);
    for key in ["t", "t"] {
        shell.press(key);
        shell.wait("the other theme", is_escaped);
    }
    for key in ["?", "Escape", "Enter"] {
        shell.press(key);
        shell.wait("signs of keys in ASCII", |screen| {
            screen.is_ascii() && !screen.trim().is_empty()
        });
    }
    shell.press("q");
    shell.wait("the end", |screen| screen.contains("status 0"));
}
