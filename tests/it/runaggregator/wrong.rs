//! Wrong arguments and files: all that is wrong is told, and nothing is begun.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use testbed::finished::Finished;
use testbed::leftovers::Dir;
use testbed::ports::free_port;
use testbed::programs;
use testbed::running::Running;
use testbed::streams::LOCAL;

use super::{FILES, PROGRAM, here, pipe, write, write_files};

fn run(dir: &Dir, args: &[&str]) -> Finished {
    Running::start(here(dir, args)).finish()
}

/// What a program has said that could not begin, without its name.
fn said(finished: &Finished, status: i32) -> Vec<&str> {
    finished.expect_status(status);
    finished.expect("stdout", finished.stdout.len(), 0);
    finished.messages("").into_iter().map(|line| &line["runaggregator: ".len()..]).collect()
}

#[test]
fn wrong_arguments_are_told_in_one_line() {
    let dir = Dir::new();
    for (args, word) in [
        (&["--frob"][..], "--frob"),
        (&["more"], "more"),
        (&["--app-config"], "--app-config"),
        (&["--group-by", "colour"], "colour"),
        (&["--group-by"], "--group-by"),
        (&["--source", "magic"], "magic"),
        (&["--interval", "0"], "--interval"),
        (&["--count", "0"], "--count"),
        (&["--count", "x"], "--count"),
        (&["--serve", "0"], "--serve"),
        (&["--serve", "example.com:80"], "--serve"),
        (&["--drain-timeout", "-1"], "--drain-timeout"),
        (&["--auto-group=yes"], "--auto-group"),
    ] {
        let finished = run(&dir, args);
        let said = said(&finished, 2);
        finished.expect("lines", said.len(), 1);
        finished.expect(word, said[0].contains(word), true);
    }
}

#[test]
fn a_wrong_file_is_told_with_its_place() {
    let dir = Dir::new();
    let notification = |more: &str| format!("[N]\nprocess_filter=x\n{more}\n");
    let pipes = [pipe(8080, "localhost", 80), "[Again]\n".to_owned(), pipe(8080, "localhost", 81)]
        .concat()
        .replace("[Again]\n[Pipe 8080]", "[Again]");
    for (option, text, expected) in [
        ("--monitor-config", "port=1\n", "cfg:1: 'port=1' stands before the first section; "),
        ("--monitor-config", "[A\n", "cfg:1: '[A' is not the name of a section; "),
        ("--monitor-config", "[A]\nx\n", "cfg:2: [A]: 'x' is neither a section nor a key"),
        ("--monitor-config", "[A]\n", "cfg:1: [A] type: is missing; expected monitor or pipe"),
        ("--monitor-config", "[A]\ntype=pipe\nport=1\n", "cfg:1: [A] newhost: is missing; "),
        ("--monitor-config", "[A]\ntype=pipe\nnewhost=h\nport=0\n", "cfg:4: [A] port: bad value"),
        ("--monitor-config", "[A]\ntype=monitor\ninclude=(\n", "cfg:3: [A] include: "),
        (
            "--monitor-config",
            "[A]\ntype=monitor\nport=1\n",
            "cfg:3: [A] port: unknown key; `port` is a key of pipes; did you mean type=pipe?",
        ),
        ("--monitor-config", &pipes, "cfg:8: [Again] port: port 8080 is that of [Pipe 8080] in "),
        ("--app-config", "[A]\na=[\n", "cfg:2: [A] a: "),
        ("--app-config", "[A]\na=%(b)s\n", "cfg:2: [A] a: %(b)s names a key that neither"),
        ("--notification-config", "[N]\n", "cfg:1: [N] process_filter: is missing; "),
        ("--notification-config", &notification("interval=0"), "cfg:3: [N] interval: bad value"),
        ("--notification-config", &notification("treshold=1"), "cfg:3: [N] treshold: unknown key"),
        (
            "--notification-config",
            &notification("notification_command='"),
            "cfg:3: [N] notification_command: bad value",
        ),
    ] {
        write(&dir.0, "cfg", text);
        let finished = run(&dir, &[option, "cfg"]);
        let said = said(&finished, 2);
        finished.expect("lines", said.len(), 1);
        finished.expect(expected, said[0].starts_with(expected), true);
    }
}

#[test]
fn a_file_that_can_not_be_read_is_told() {
    let dir = Dir::new();
    fs::File::create(dir.0.join("huge.cfg")).unwrap().set_len(1 << 40).unwrap();
    for (name, expected) in [
        ("missing.cfg", "missing.cfg: can't be read: No such file or directory (os error 2)"),
        (".", ".: can't be read: Is a directory (os error 21)"),
        ("huge.cfg", "huge.cfg: is too big; expected a configuration file of at most 16 MiB"),
    ] {
        let finished = run(&dir, &["--monitor-config", name]);
        assert_eq!(said(&finished, 2), [expected]);
    }
}

/// Else whoever can write it, or choose the name of a process, has root run commands.
#[test]
fn what_others_could_have_root_run_is_refused() {
    let dir = Dir::new();
    let refused = |expected: &str| {
        let finished = run(&dir, &["--notification-config", "cfg"]);
        let said = said(&finished, 2);
        finished.expect("lines", said.len(), 1);
        finished.expect(expected, said[0].starts_with(expected), true);
    };
    let rule = "[N]\nprocess_filter=x\nnotification_command=";
    write(&dir.0, "cfg", &format!("{rule}sh -c \"echo {{app}} >> log\"\n"));
    refused(
        "cfg:3: [N] notification_command: bad value 'sh -c \"echo {app} >> log\"'; 'sh' would run ",
    );
    write(&dir.0, "cfg", &format!("{rule}logger {{app}}\n"));
    for (mode, owner, expected) in [
        (0o666, 0, "cfg: can be written by others than its owner (mode 0666), "),
        (0o620, 0, "cfg: can be written by others than its owner (mode 0620), "),
        (0o644, 65534, "cfg: belongs to the user with number 65534, "),
    ] {
        if !rustix::process::geteuid().is_root() {
            testbed::requirements::skip("it takes root to read the file as root");
            return;
        }
        let path = dir.0.join("cfg");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        refused(expected);
    }
    // In its place a link to what belongs to root.
    let path = dir.0.join("cfg");
    fs::remove_file(&path).unwrap();
    write(&dir.0, "of-root", &format!("{rule}logger {{app}}\n"));
    symlink("of-root", &path).unwrap();
    lchown(&path, Some(65534), Some(65534)).unwrap();
    refused("cfg: is reached through a symbolic link of the user with number 65534, ");
    fs::remove_file(&path).unwrap();
    symlink("/proc/self/cmdline", &path).unwrap();
    refused("cfg: is a file of procfs, ");
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    refused("cfg: is a device; expected a file, ");
}

/// Who has mounted a file system of that kind chooses to whom its files and links seem to belong.
#[test]
fn a_fuse_file_system_of_somebody_elses_is_refused() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        testbed::requirements::skip("it takes root and /dev/fuse to mount a FUSE file system");
        return;
    }
    let dir = Dir::new();
    programs::FUSE.put(&dir.0);
    write(&dir.0, "of-root", "[N]\nprocess_filter=x\n");
    let check = |user: &str, caller: &str, file: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "/usr/bin/python3", "fuse.py", "mount"]);
        command.args([user, PROGRAM, "--check-config", "--notification-config"]);
        command.arg(format!("mount/{file}")).env("SUDO_UID", caller).current_dir(&dir.0);
        Running::start(command).finish()
    };
    for file in ["cfg", "link"] {
        for (user, caller) in [("0", "0"), ("1234", "1234")] {
            check(user, caller, file).expect_status(0);
        }
        let refused = check("1234", "4321", file);
        let said = said(&refused, 2);
        let expected = format!(
            "mount/{file}: is reached through a FUSE file system of the user with number 1234, "
        );
        refused.expect("lines", said.len(), 1);
        refused.expect(&expected, said[0].starts_with(&expected), true);
    }
}

/// Nothing is begun while anything is wrong.
#[test]
fn all_that_is_wrong_with_several_files_is_told_and_no_port_is_taken() {
    let dir = Dir::new();
    // Were it listened on, it would be taken: exit status 1.
    let taken = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    write_files(
        &dir.0,
        &format!(
            "{}[Bad]\ntype=what\n[Worse]\ntype=monitor\nignorelocal=perhaps\n",
            pipe(port, "localhost", 80)
        ),
        "[A]\nb=*\nc=(\n",
        "[N]\nin_threshold=much\nprocess_filter=x\ninterval=-1\n",
    );
    let finished = run(&dir, &FILES);
    let said = said(&finished, 2);
    let places: Vec<String> = said
        .iter()
        .map(|line| line.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    let expected = [
        "monitors.cfg:7: [Bad] type",
        "monitors.cfg:10: [Worse] ignorelocal",
        "applications.cfg:2: [A] b",
        "applications.cfg:3: [A] c",
        "notifications.cfg:2: [N] in_threshold",
        "notifications.cfg:4: [N] interval",
    ];
    assert_eq!(places, expected, "{said:#?}");
}

#[test]
fn a_port_in_use_is_told_with_the_section() {
    let dir = Dir::new();
    let taken = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let pipes = [pipe(free_port(), "localhost", 80), pipe(port, "localhost", 80)].concat();
    write_files(&dir.0, &pipes, "", "");
    let finished = run(&dir, &FILES);
    let expected = format!("[Pipe {port}]: port {port} is in use; ");
    let said = said(&finished, 1);
    finished.expect("lines", said.len(), 1);
    finished.expect(&expected, said[0].starts_with(&expected), true);
    // The page's too.
    let finished = run(&dir, &["--source", "sockets", "--serve", &port.to_string()]);
    let said = self::said(&finished, 1);
    finished.expect("lines", said.len(), 1);
    let expected = format!("--serve: port {port} is in use; ");
    finished.expect(&expected, said[0].starts_with(&expected), true);
}

#[test]
fn what_is_understood_can_be_shown_and_read_again() {
    let dir = Dir::new();
    let taken = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    write_files(
        &dir.0,
        &format!(
            "[General]\nType: monitor\nexclude=ssh.+example\\.com ; inline\nignorelocal=TRUE\n{}\
             shape_threshold=100\n",
            pipe(port, "localhost", 80)
        ),
        "[Web]\na=apache\nb=lighttpd|\n  nginx\n[Percent]\nc=100%%\n[Empty]\n",
        "[SSH]\nprocess_filter=ssh\nnotification_threshold=100\n\
         notification_command=mail -s \"{app}; it's too much\" root\n[Never]\nprocess_filter=x\n",
    );
    let check = [&FILES[..], &["--check-config"]].concat();
    // A port in use doesn't matter: nothing is begun.
    let first = run(&dir, &check);
    first.expect_status(0);
    first.expect("stderr", first.stderr.as_str(), "");
    let text = String::from_utf8(first.stdout.clone()).unwrap();
    for part in ["[General]", "100%%", "shape_threshold=100\n", "interval=1\n", "[Empty]"] {
        first.expect(part, text.contains(part), true);
    }
    let (monitors, rest) = text.split_once("# applications\n").unwrap();
    let (applications, notifications) = rest.split_once("# notifications\n").unwrap();
    write_files(&dir.0, monitors, applications, notifications);
    let second = run(&dir, &check);
    second.expect("shown again", String::from_utf8_lossy(&second.stdout).as_ref(), text.as_str());
    second.expect_status(0);
}
