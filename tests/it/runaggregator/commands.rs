//! What is started when an alert fires and when it is over.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::Piped;
use crate::pipe::rig::{eventually, finish};

/// Leaves its `BWMON_` variables (but for the one that is for these tests) and its arguments in the file that is its first argument.
const SCRIPT: &str = "{ env | grep ^BWMON_ | grep -v NETNS | sort; printf '<%s>\\n' \"$@\"; } > \"$1.new\"\n\
                      mv \"$1.new\" \"$1\"\n";

/// Enough for an alert above 1 KiB/s, whenever the next refresh is.
fn send(mut client: &TcpStream, mut remote: &TcpStream) {
    client.write_all(&[0; 200_000]).unwrap();
    remote.read_exact(&mut [0; 200_000]).unwrap();
}

/// What the script has left.
fn left(piped: &Piped, name: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let path = piped.dir.0.join(name);
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
    super::write(&piped.dir.0, "script.sh", SCRIPT);
    let (client, remote) = piped.connect();
    send(&client, &remote);
    let (environment, arguments) = left(&piped, "fired");
    let (resolved, resolved_arguments) = left(&piped, "resolved");
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
    super::write(&piped.dir.0, "script.sh", SCRIPT);
    let (client, remote) = piped.connect();
    send(&client, &remote);
    let killed = "runaggregator: [Hangs] notification_command '/bin/sleep': killed because it ran longer \
         than 1 s\n";
    piped.aggregator.said(killed, 1);
    left(&piped, "fine");
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
