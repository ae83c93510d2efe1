//! What is started when an alert fires and when it is over.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::running::Running;
use testbed::streams::finish;
use testbed::wait::eventually;

use super::{Aggregator, Piped, inside, write};

/// Leaves its `BWMON_` variables (but for the one that is for these tests) and its arguments in the file that is its first argument.
const SCRIPT: &str = "{ env | grep ^BWMON_ | grep -v NETNS | sort; printf '<%s>\\n' \"$@\"; } > \"$1.new\"\n\
                      mv \"$1.new\" \"$1\"\n";

/// Enough for an alert above 1 KiB/s, whenever the next refresh is.
fn send(mut client: &TcpStream, mut remote: &TcpStream) {
    client.write_all(&[0; 200_000]).unwrap();
    remote.read_exact(&mut [0; 200_000]).unwrap();
}

/// What the script has left in its working directory.
fn left(directory: &Path, name: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let path = directory.join(name);
    eventually(name, || path.exists());
    let text = fs::read_to_string(path).unwrap();
    let (arguments, environment): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with('<'));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    (
        environment.into_iter().map(pair).collect(),
        arguments.into_iter().map(str::to_owned).collect(),
    )
}

#[test]
fn commands_get_the_facts_as_environment_and_arguments_and_no_shell() {
    let rule = "[The rule]\nprocess_filter=^Upload$\nin_threshold=1\nrepeat_interval=3600\n\
                notification_command=/bin/sh script.sh fired '{app} {direction}' {state} \
                '{rule}: {value} of {threshold} at {time}' $HOME * '$(id)' {other}\n\
                resolved_command=/bin/sh script.sh resolved {state}\n";
    let options = ["--interval", "0.3"];
    let piped = Piped::with("", "[Upload]\na=^pipe-\n", rule, &options);
    write(&piped.dir.0, "script.sh", SCRIPT);
    let (client, remote) = piped.connect();
    send(&client, &remote);
    let (environment, arguments) = left(&piped.dir.0, "fired");
    let (resolved, resolved_arguments) = left(&piped.dir.0, "resolved");
    finish(client, remote);
    let stderr = piped.aggregator.running.stop().stderr;
    let mut lines = stderr.lines();
    let expected = |line: &str, state: &str| -> BTreeMap<String, String> {
        let (time, rest) = (&line[..19], line.rsplit_once(" kB/s ").unwrap().0);
        let value = rest.rsplit_once(' ').unwrap().1;
        [
            ("APP", "Upload"),
            ("DIRECTION", "in"),
            ("RULE", "The rule"),
            ("STATE", state),
            ("THRESHOLD_KIBPS", "1.00"),
            ("TIME", time),
            ("VALUE_KIBPS", value),
        ]
        .map(|(key, value)| (format!("BWMON_{key}"), value.to_owned()))
        .into()
    };
    let line = lines.find(|line| line.contains(" exceeding ")).unwrap();
    let facts = expected(line, "firing");
    assert_eq!(environment, facts);
    let [value, time] = ["VALUE_KIBPS", "TIME"].map(|key| &facts[&format!("BWMON_{key}")]);
    assert_eq!(
        arguments,
        [
            "<fired>",
            "<Upload in>",
            "<firing>",
            &format!("<The rule: {value} of 1.00 at {time}>"),
            "<$HOME>",
            "<*>",
            "<$(id)>",
            "<{other}>"
        ]
    );
    let line = lines.find(|line| line.contains(" no longer exceeding ")).unwrap();
    assert_eq!(resolved, expected(line, "resolved"));
    assert_eq!(resolved_arguments, ["<resolved>", "<resolved>"]);
}

#[test]
fn a_command_that_hangs_is_killed_and_keeps_nobody_from_being_told() {
    // So long that no other process is taken for it.
    let sleeping = format!("1000.{}", std::process::id());
    let rule = format!(
        "[Hangs]\nprocess_filter=.\nin_threshold=1\nrepeat_interval=0\ninterval=60\n\
         notification_command=/bin/sleep {sleeping}\ncommand_timeout=1\n\
         [Fine]\nprocess_filter=.\nin_threshold=2\nrepeat_interval=3600\n\
         notification_command=/bin/sh script.sh fine\n"
    );
    let mut piped = Piped::with("", "", &rule, &["--interval", "0.2"]);
    write(&piped.dir.0, "script.sh", SCRIPT);
    let (client, remote) = piped.connect();
    send(&client, &remote);
    let killed = "runaggregator: [Hangs] notification_command '/bin/sleep': killed because it ran longer \
         than 1 s\n";
    piped.aggregator.said(killed, 1);
    left(&piped.dir.0, "fine");
    let stderr = piped.aggregator.running.stderr();
    let before = &stderr[..stderr.find(killed).unwrap()];
    let told = before.matches("limit       1.00").count();
    assert!(told >= 2, "told {told} times before the command was killed: {stderr}");
    // The next repetition starts it anew: one at a time, and at the end none is left.
    finish(client, remote);
    piped.aggregator.running.stop();
    let is_sleeping = |path: std::path::PathBuf| {
        fs::read(path.join("cmdline"))
            .is_ok_and(|line| line == format!("/bin/sleep\0{sleeping}\0").as_bytes())
    };
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|e| is_sleeping(e.path())).count();
    assert_eq!(left, 0, "commands outlive the program");
}

#[test]
fn a_command_that_can_not_be_started_is_one_line_and_all_goes_on() {
    let rule = "[Missing]\nprocess_filter=.\nin_threshold=1\nrepeat_interval=3600\n\
                notification_command=/nonexistent/program {app}\n\
                [Fails]\nprocess_filter=.\nin_threshold=1\nrepeat_interval=3600\n\
                notification_command=/bin/false\n";
    let mut piped = Piped::with("", "", rule, &["--interval", "0.2"]);
    let (client, remote) = piped.connect();
    send(&client, &remote);
    let missing = "runaggregator: [Missing] notification_command '/nonexistent/program': cannot be \
                   started: there is no such program\n";
    let fails = "runaggregator: [Fails] notification_command '/bin/false': exit status 1\n";
    piped.aggregator.said(missing, 1);
    piped.aggregator.said(fails, 1);
    piped.aggregator.settle();
    send(&client, &remote);
    finish(client, remote);
    let stderr = piped.aggregator.running.stop().stderr;
    assert_eq!(
        (stderr.matches(missing).count(), stderr.matches(fails).count()),
        (1, 1),
        "{stderr}"
    );
}

/// A process chooses its name: in a word it means nothing, in the environment it is whole.
#[test]
fn a_name_that_a_process_has_chosen_is_reduced_in_words() {
    let Some(net) = Net::new() else { return };
    let rule = "[N]\nprocess_filter=workload\nin_threshold=1\nrepeat_interval=3600\n\
                notification_command=/bin/sh script.sh told {app} 'text={app}'\n";
    write(&net.dir, "notifications.cfg", rule);
    write(&net.dir, "script.sh", SCRIPT);
    let options = ["--notification-config", "notifications.cfg", "--interval", "0.3"];
    let program = Aggregator::watching(&net, &options);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=100000 down=900000 seconds=1");
    let mut client = Endpoint::start(&net, &net.watched, "</etc/x;type=y", &role);
    client.begin();
    let (environment, arguments) = left(&net.dir, "told");
    client.done();
    program.running.stop();
    let name = &environment["BWMON_APP"];
    assert!(name.starts_with("/usr/bin/python3 workload.py </etc/x;type=y tcp-client "), "{name}");
    let word = "__usr_bin_python3_workload.py___etc_x_type_y_tcp-client_host_";
    for (argument, beginning) in
        arguments[1..].iter().zip([format!("<{word}"), format!("<text={word}")])
    {
        assert!(argument.starts_with(&beginning), "{argument}");
    }
    assert_eq!(arguments.len(), 3);
}

/// Another user could create the file that a program takes the name for.
#[test]
fn a_name_in_a_word_needs_a_directory_that_no_other_user_can_write() {
    let Some(net) = Net::new() else { return };
    let mode = |mode| fs::set_permissions(&net.dir, fs::Permissions::from_mode(mode)).unwrap();
    let command = |command: &str| {
        let rule = "process_filter=workload\nin_threshold=1\nrepeat_interval=3600";
        let text = format!("[N]\n{rule}\nnotification_command={command}\n");
        write(&net.dir, "notifications.cfg", &text);
    };
    let reads = "/bin/sh -c 'cat \"$1\" > got; touch told' sh {app}";
    let refused = format!(
        "runaggregator: notifications.cfg:5: [N] notification_command: {{app}} may be taken for a file of the \
         working directory, and {} can be written by others than its owner (mode 1777); expected a directory \
         of root or of the user who runs the program (with sudo: who calls it) that nobody else can write; to \
         fix it: start the program elsewhere (cd /), or use $BWMON_APP in a script\n",
        net.dir.display()
    );
    let options = ["--notification-config", "notifications.cfg", "--interval", "0.3"];
    mode(0o1777);
    command(reads);
    for more in [&[][..], &["--check-config"]] {
        let finished = Running::start(inside(&net, &[&options, more].concat())).finish();
        finished.expect_status(2);
        finished.expect("stdout", finished.stdout.len(), 0);
        finished.expect("stderr", &finished.stderr, &refused);
    }
    // Others run there as before.
    command("/bin/sh -c 'touch other'");
    let mut program = Aggregator::watching(&net, &options);
    command(reads);
    program.reload("runaggregator: the configuration stays as it was\n");
    program.said(&refused, 1);
    let _server = Endpoint::start(&net, &net.peer, "server", "tcp-server mode=threaded port=9000");
    let role = format!("tcp-client host={PEER4} port=9000 up=100000 down=900000 seconds=1");
    let mut client = Endpoint::start(&net, &net.watched, "client", &role);
    client.begin();
    eventually("the first command", || net.dir.join("other").exists());
    client.done();
    mode(0o755);
    program.reload("runaggregator: the configuration was read again\n");
    // What others have left there before has no name that is looked for.
    fs::create_dir_all(net.dir.join("_/usr/bin")).unwrap();
    let name = format!("python3_workload.py_second_{}", role.replace(['=', ' '], "_"));
    write(&net.dir.join("_/usr/bin"), &name, "hostile\n");
    let mut client = Endpoint::start(&net, &net.watched, "second", &role);
    client.begin();
    eventually("the second command", || net.dir.join("told").exists());
    client.done();
    program.running.stop();
    assert_eq!(fs::read_to_string(net.dir.join("got")).unwrap(), "");
}
