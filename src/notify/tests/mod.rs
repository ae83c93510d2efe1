//! Small real commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::*;
use crate::until::until;

mod waiting;

const MINUTE: Duration = Duration::from_secs(60);

/// A temporary directory, and a runner whose reports are kept.
struct Bench {
    directory: PathBuf,
    runner: Runner,
    reports: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Bench {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bwmon-notify-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let kept = reports.clone();
        let runner = Runner::new(Arc::new(move |line| kept.lock().unwrap().push(line)));
        Bench { directory, runner, reports }
    }

    /// A shell that runs `script` in the directory, with `arguments`.
    fn shell(&self, script: &str, arguments: &str) -> Option<Command> {
        assert!(!script.contains('\''));
        let directory = self.directory.display();
        let text = format!("/bin/sh -c 'cd \"{directory}\" && {{ {script}\n}}' sh {arguments}");
        Some(Command::parse(&text).unwrap())
    }

    /// Commands for both states: they write the state and the application once the gate is open.
    /// They also end with the directory: a reader of the test's standard error waits for their end.
    fn gated(&self) -> Commands {
        let script = "touch started; while [ -e started ] && ! [ -e gate ]; do sleep 0.01; done; \
                      [ -e gate ] || exit 0; mkdir lock || touch twice; echo $1 $2 $3 >> runs; rmdir lock";
        let command = self.shell(script, "{state} {app} {value}");
        Commands { firing: command.clone(), resolved: command, timeout: MINUTE }
    }

    fn notify(&self, commands: &Commands, facts: Facts, repeated: bool) {
        self.runner.notify(&facts.rule.clone(), commands, facts, repeated);
    }

    fn open(&self) {
        fs::write(self.directory.join("gate"), "").unwrap();
    }

    fn exists(&self, file: &str) -> bool {
        self.directory.join(file).exists()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    fn until_idle(&self) {
        until("no command runs", || (self.runner.running() == 0).then_some(()));
    }

    fn reports(&self) -> Vec<String> {
        self.reports.lock().unwrap().clone()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A command that begins just now may make a file in between, and would wait for ever.
        for _ in 0..100 {
            let _ = fs::remove_dir_all(&self.directory);
            if !self.directory.exists() {
                break;
            }
        }
    }
}

fn only(firing: Option<Command>) -> Commands {
    Commands { firing, resolved: None, timeout: MINUTE }
}

fn firing(application: &[u8]) -> Facts {
    Facts {
        rule: (*b"SSH").into(),
        application: application.into(),
        configured: true,
        direction: Direction::In,
        threshold: 100.0,
        value: 200.0,
        state: State::Firing,
        time: "2026-01-02 03:04:05".to_owned(),
    }
}

/// A firing for an application whose name is not from the configuration.
fn outsider(application: &[u8]) -> Facts {
    Facts { configured: false, ..firing(application) }
}

fn resolved(application: &[u8]) -> Facts {
    Facts { state: State::Resolved, value: 0.0, ..firing(application) }
}

/// The state of a process (`Z` for a zombie) and its parent, if the pid exists.
fn process(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

#[test]
fn commands_are_parsed() {
    let words = |text: &str| Command::parse(text).map(|command| command.words().to_vec());
    assert_eq!(words("mail -s '{app}!' root").unwrap(), ["mail", "-s", "{app}!", "root"]);
    assert_eq!(words(" ").unwrap_err(), "it names no program");
    assert_eq!(words("'' x").unwrap_err(), "it names no program");
    assert_eq!(words("a \0").unwrap_err(), "there is a NUL byte in it");
    assert!(words("a '").unwrap_err().contains("never closed"));
    assert!(words("/bin/{app}").unwrap_err().starts_with("{app} in the program's name"));
    assert_eq!(words("{x}").unwrap(), ["{x}"]);
}

#[test]
fn facts_are_those_of_the_notification() {
    let rule = Rule {
        name: (*b"SSH").into(),
        filter: regex::bytes::Regex::new("ssh").unwrap(),
        in_threshold: Some(100.0),
        out_threshold: None,
        window: MINUTE,
        hold: MINUTE,
        repeat_interval: MINUTE,
        resolve_threshold: 1.0,
    };
    let notification = Notification {
        rule: 0,
        rule_name: rule.name.clone(),
        application: b"ssh"[..].into(),
        direction: Direction::In,
        threshold: 100.0,
        value: 200.0,
        state: State::Firing,
        repeated: true,
    };
    let now = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 678_000_000);
    let now = now.to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(Facts::new(&rule, &notification, true, time(&now)), firing(b"ssh"));
}

#[test]
fn the_environment_and_the_placeholders_arrive() {
    let bench = Bench::new();
    // Without what the tests themselves are told.
    let script = "printf \"%s\\n\" \"$@\" > words; \
                  env | grep ^BWMON_ | grep -vE \"^BWMON_(RE|WRITE)\" | LC_ALL=C sort > env";
    let command = bench.shell(script, "{app} '{rule}: {value} / {threshold}' {print} '' '$HOME'");
    bench.notify(&only(command), firing(b"ssh -p 22 "), false);
    bench.until_idle();
    assert_eq!(bench.reports(), [""; 0]);
    assert_eq!(bench.read("words"), "ssh -p 22 \nSSH: 200.00 / 100.00\n{print}\n\n$HOME\n");
    assert_eq!(
        bench.read("env"),
        "BWMON_APP=ssh -p 22 \nBWMON_DIRECTION=in\nBWMON_RULE=SSH\nBWMON_STATE=firing\n\
         BWMON_THRESHOLD_KIBPS=100.00\nBWMON_TIME=2026-01-02 03:04:05\nBWMON_VALUE_KIBPS=200.00\n"
    );
}

#[test]
fn a_hostile_name_reaches_no_shell_and_arrives_escaped() {
    let bench = Bench::new();
    let hostile = "$(touch evil) `touch evil`; touch evil\n' \" \\ \x1b[2J {state} *";
    let command = bench.shell("printf %s \"$BWMON_APP|$1|$#\" > got", "{app}");
    bench.notify(&only(command), outsider(hostile.as_bytes()), false);
    bench.until_idle();
    let escaped = "$(touch evil) `touch evil`; touch evil\\n' \" \\ \\x1b[2J {state} *";
    let neutral = "___touch_evil___touch_evil___touch_evil_n_______x1b_2J__state___";
    assert_eq!(bench.read("got"), format!("{escaped}|{neutral}|1"));
    assert!(!bench.exists("evil"));
    // A name longer than execve takes.
    bench.notify(
        &only(bench.shell("printf %s ${#1} > length", "{app}")),
        firing(&[b'x'; 200_000]),
        false,
    );
    bench.until_idle();
    assert_eq!((bench.read("length").as_str(), bench.reports()), ("1000", Vec::new()));
}

#[test]
fn whatever_runs_evaluates_or_reads_the_name_of_an_outsider_does_nothing_with_it() {
    let bench = Bench::new();
    let file = |name: &str, text: &str| {
        let path = bench.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let program = file("program", "#!/bin/sh\ntouch \"${0%/*}/evil\"\n");
    let secret = file("secret", "secret");
    let launcher = file("launcher", "#!/bin/sh\nexec \"$@\"\n");
    let shell = file("shell", "#!/bin/sh\neval \"$@\"\n");
    let reader = file("reader", "#!/bin/sh\ncp \"$@\" \"${0%/*}/evil\"\n");
    for command in [
        "/bin/sh -c '\"$0\"' {app}",
        "/bin/sh -c '\"$1\" >&2' sh {app}",
        "/bin/sh -c 'eval \"$1\"' sh {app}",
        "/bin/sh -c 'eval $1' sh 'true {app}'",
        &format!("{launcher} {{app}}"),
        &format!("{shell} {{app}}"),
        &format!("{shell} 'true {{app}}'"),
        &format!("{shell} 'true \"{{app}}\"'"),
        &format!("{reader} {{app}}"),
    ] {
        let parsed = Command::parse(command).unwrap();
        for name in [
            program.clone(),
            format!("/../{program}"),
            format!("x; {program}"),
            format!("x\" {program} \""),
            format!("A=b {program}"),
            format!("x {program}"),
            format!("`{program}`"),
            secret.clone(),
        ] {
            bench.notify(&only(Some(parsed.clone())), outsider(name.as_bytes()), false);
            bench.until_idle();
            assert!(!bench.exists("evil"), "{command}: {name}");
        }
    }
}

#[test]
fn it_has_its_own_group_no_input_and_no_standard_output() {
    let bench = Bench::new();
    let script = "echo $$ > pid; cut -d\" \" -f5 /proc/$$/stat > group; \
                  for fd in 0 1 2; do to=$(readlink /proc/$$/fd/$fd); echo $to > fd$fd; done; \
                  grep SigIgn /proc/$$/status > ignored";
    bench.notify(&only(bench.shell(script, "")), firing(b"x"), false);
    bench.until_idle();
    assert_eq!(bench.read("group"), bench.read("pid"));
    assert_eq!(bench.read("fd0"), "/dev/null\n");
    let stderr = fs::read_link("/proc/self/fd/2").unwrap();
    assert_eq!(bench.read("fd1").trim_end(), stderr.display().to_string());
    assert_eq!(bench.read("fd2"), bench.read("fd1"));
    // Rust programs ignore this signal; what they start must not.
    let ignored = bench.read("ignored");
    let ignored = u64::from_str_radix(ignored.split_whitespace().nth(1).unwrap(), 16).unwrap();
    let sigpipe = rustix::process::Signal::PIPE.as_raw();
    assert_eq!(ignored & (1 << (sigpipe - 1)), 0);
    // It was reaped.
    let parent = process(&bench.read("pid")).map(|(_, parent)| parent);
    assert_ne!(parent, Some(std::process::id().to_string()));
}

#[test]
fn what_hangs_is_killed_with_its_children() {
    let bench = Bench::new();
    let script = "sleep 1000 & echo $! > child; echo $$ > leader; sleep 1000";
    let timeout = Duration::from_millis(1500);
    let commands = Commands { timeout, ..only(bench.shell(script, "")) };
    bench.notify(&commands, firing(b"x"), false);
    bench.until_idle();
    assert_eq!(
        bench.reports(),
        ["[SSH] notification_command '/bin/sh': killed because it ran longer than 1.5 s"]
    );
    for file in ["child", "leader"] {
        let pid = bench.read(file);
        // Whoever inherits an orphan may be slow to reap it.
        until("it is dead", || process(&pid).is_none_or(|(state, _)| state == "Z").then_some(()));
    }
    let parent = process(&bench.read("leader")).map(|(_, parent)| parent);
    assert_ne!(parent, Some(std::process::id().to_string()));
}

#[test]
fn what_fails_is_reported_and_is_not_the_end() {
    let bench = Bench::new();
    let file = |name: &str, mode| {
        let path = bench.directory.join(name);
        fs::write(&path, "touch ran\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let (plain, no_interpreter) = (file("plain", 0o644), file("no_interpreter", 0o755));
    let run = |text: &str| bench.notify(&only(Command::parse(text).ok()), firing(b"x"), false);
    run("/nowhere/mail\u{1b}");
    bench.until_idle();
    run(&plain);
    bench.until_idle();
    // Started by a shell, it would run.
    run(&no_interpreter);
    bench.until_idle();
    run("/bin/sh -c 'exit 3'");
    bench.until_idle();
    run("/bin/sh -c 'kill -TERM $$'");
    bench.until_idle();
    let with =
        |program: &str, problem: &str| format!("[SSH] notification_command '{program}': {problem}");
    let reports = bench.reports();
    assert_eq!(reports.len(), 5, "{reports:?}");
    assert_eq!(
        reports[0],
        with("/nowhere/mail\\x1b", "cannot be started: there is no such program")
    );
    assert_eq!(reports[1], with(&plain, "cannot be started: no permission to run it"));
    assert!(reports[2].starts_with(&with(&no_interpreter, "cannot be started: ")));
    assert_eq!(reports[3], with("/bin/sh", "exit status 3"));
    assert_eq!(reports[4], with("/bin/sh", "killed by signal 15"));
    assert!(!bench.exists("ran"));
}
