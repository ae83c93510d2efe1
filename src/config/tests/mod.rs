mod commands;
mod messages;
mod samples;

use std::time::Duration;

use super::*;

fn lines(errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn without_files_everything_is_monitored() {
    let configuration = load(&Files::default()).unwrap();
    let [all] = configuration.monitors.as_slice() else { panic!("{configuration:?}") };
    assert_eq!((all.name.as_slice(), all.ignore_local, all.source), (&b"all"[..], false, None));
    assert!(all.filter.selects(b"anything"));
    assert!(configuration.pipes.is_empty() && configuration.notifications.is_empty());
    // A file says all there is.
    let files = Files { monitors: Some("/dev/null".into()), ..Files::default() };
    assert!(load(&files).unwrap().monitors.is_empty());
}

#[test]
fn a_file_of_the_original_loads() {
    let text = b"[General]\ntype=monitor\nexclude=ssh.+host\\.example\\.com\nignorelocal=true\n\
                 [SSH]\ntype=pipe\nport=2222\nnewhost=host\\.example\\.com\nnewport=22\n\
                 shape_threshold=100\n";
    let (monitors, pipes) = parse_monitors(Path::new("f"), text).unwrap();
    let [general] = monitors.as_slice() else { panic!("{monitors:?}") };
    assert!(general.ignore_local && general.filter.selects(b"ssh hostXexample.com"));
    assert!(!general.filter.selects(b"ssh user@host.example.com"));
    let config = pipes[0].config();
    assert_eq!(config.name(), r"pipe-2222:host\.example\.com:22");
    assert_eq!(config.shape.map(u64::from), Some(102_400));
}

#[test]
fn thresholds_of_a_direction_win() {
    for (keys, inward, outward) in [
        ("", None, None),
        ("notification_threshold=5", Some(5.0), Some(5.0)),
        ("notification_threshold=5\nin_threshold=6", Some(6.0), Some(5.0)),
        ("notification_threshold=5\nout_threshold=0", Some(5.0), None),
        // An empty one is not given.
        ("notification_threshold=5\nout_threshold=", Some(5.0), Some(5.0)),
        ("out_threshold=0.5", None, Some(0.5)),
    ] {
        let text = format!("[a]\nprocess_filter=x\n{keys}\n");
        let read = parse_notifications(Path::new("f"), text.as_bytes()).unwrap();
        let rule = &read[0].rule;
        assert_eq!((rule.in_threshold, rule.out_threshold), (inward, outward), "{keys}");
        assert_eq!(read[0].never_fires(), inward.is_none() && outward.is_none());
        assert_eq!((rule.window, rule.hold), (Duration::from_secs(1), Duration::ZERO));
    }
}

#[test]
fn a_pipe_that_is_told_nothing_is_the_one_of_the_library() {
    let text = b"[p]\ntype=pipe\nport=1\nnewhost=h\n";
    let (_, pipes) = parse_monitors(Path::new("f"), text).unwrap();
    assert!(pipes[0].config().is_like(&crate::pipe::Config::new(1, "h", 1)), "{pipes:?}");
}

#[test]
fn helper_keys_and_defaults() {
    let text = b"[DEFAULT]\nhost=(a|b)\nport=7\n[m]\ntype=monitor\ninclude=%(what)s %(HOST)s\n\
                 what=ssh\n[p]\ntype=pipe\nnewhost=h\n";
    let (monitors, pipes) = parse_monitors(Path::new("f"), text).unwrap();
    assert_eq!(monitors[0].filter.include[0].as_str(), "ssh (a|b)");
    assert_eq!((pipes[0].port, pipes[0].remote_port), (7, 7));
}

#[test]
fn applications_are_in_the_order_of_the_file() {
    let text = b"[DEFAULT]\nd=x\n[b\xff]\none=caf\xe9\nTwo: b\n[a]\n[b\xff]\nthree=\n";
    let read = parse_applications(Path::new("f"), text).unwrap();
    let shown: Vec<(&[u8], Vec<&str>)> = read
        .iter()
        .map(|a| (&a.name[..], a.rules.iter().map(|rule| rule.as_str()).collect()))
        .collect();
    assert_eq!(shown, [(&b"b\xff"[..], vec![r"caf\xe9", "b", "", "x"]), (&b"a"[..], vec!["x"])]);
}
