use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::alert::Rule;
use crate::config::{parse_applications, parse_monitors, parse_notifications};
use crate::filter::{Filter, compile};
use crate::model::SourceChoice;
use crate::notify::Commands;

const FILE: &str = "f";

/// The output for a monitor file, and the output for that output.
fn monitors(text: &str) -> (String, String) {
    let again = |text: &str| {
        let (monitors, pipes) = parse_monitors(Path::new(FILE), text.as_bytes()).unwrap();
        (show_monitors(&monitors, &pipes), format!("{monitors:?}{pipes:?}"))
    };
    let (shown, meant) = again(text);
    let (twice, understood) = again(&shown);
    assert_eq!(meant, understood);
    (shown, twice)
}

fn notifications(text: &str) -> (String, String) {
    let again = |text: &str| {
        let read = parse_notifications(Path::new(FILE), text.as_bytes()).unwrap();
        (show_notifications(&read), format!("{read:?}"))
    };
    let (shown, meant) = again(text);
    let (twice, understood) = again(&shown);
    assert_eq!(meant, understood);
    (shown, twice)
}

#[test]
fn monitors_with_all_keys_and_defaults() {
    let text = "[DEFAULT]\ntype=monitor\nsend_proxy=yes\n[ G; ]\ninclude=50%% ssh\n exclude=x\n\
                [W]\nSource: auto\n[P]\ntype=pipe\nport=2222\nnewhost=fe80::1%%eth0\n\
                shape_threshold=0.5\nidle_timeout=0.25\nmax_connections=7\nbind=::1\n\
                [Q]\ntype=pipe\nport=80\nnewhost=a\\.example\nsend_proxy=off\n";
    let expected = "\
[ G; ]
type=monitor
include=50%% ssh
    exclude=x
exclude=
ignorelocal=false
source=

[W]
type=monitor
include=
exclude=
ignorelocal=false
source=auto

[P]
type=pipe
port=2222
newhost=fe80::1%%eth0
newport=2222
shape_threshold=0.5
bind=::1
connect_timeout=5
idle_timeout=0.25
max_connections=7
send_proxy=true

[Q]
type=pipe
port=80
newhost=a\\.example
newport=80
shape_threshold=0
bind=
connect_timeout=5
idle_timeout=
max_connections=
send_proxy=false

";
    assert_eq!(monitors(text), (expected.to_owned(), expected.to_owned()));
}

#[test]
fn notifications_with_all_keys_and_defaults() {
    let text = "[DEFAULT]\nlimit=50\n[a]\nprocess_filter=ssh\nnotification_threshold=%(limit)s\n\
                out_threshold=0.125\nnotification_command=mail -s {app} root\ninterval=.5\n\
                [b]\nprocess_filter=.\n";
    let expected = "\
[a]
process_filter=ssh
notification_threshold=0
in_threshold=50
out_threshold=0.125
interval=0.5
for=0
repeat_interval=1
resolve_threshold=1
notification_command=mail -s {app} root
resolved_command=
command_timeout=60

; never fires: no threshold
[b]
process_filter=.
notification_threshold=0
in_threshold=0
out_threshold=0
interval=1
for=0
repeat_interval=1
resolve_threshold=1
notification_command=
resolved_command=
command_timeout=60

";
    assert_eq!(notifications(text), (expected.to_owned(), expected.to_owned()));
}

#[test]
fn a_command_that_was_quoted_is_the_same_when_it_is_read_again() {
    // Only in a continued line is a ` ;` no comment.
    let command = "sh\n -c 'echo \"$0\" ; echo \\' a\\ b \"c\\\"d\" '' # \"x;\" ;\"e\"";
    let text = format!("[a]\nprocess_filter=x\nnotification_command={command}\n");
    let (shown, twice) = notifications(&text);
    assert_eq!(shown, twice);
    assert!(shown.contains(r#"sh -c 'echo "$0" ''; echo \' 'a b' "#), "{shown}");
}

#[test]
fn words_are_quoted_as_a_shell_would_have_it() {
    for (word, expected) in [
        ("mail", "mail"),
        ("{app}", "{app}"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", r"'it'\''s'"),
        ("\"\"", "'\"\"'"),
        (";", "''';'"),
        ("a ;b", "'a '';b'"),
        ("a\n b", "'a''\n'' b'"),
        ("#", "'#'"),
        (r"a\b", r"'a\b'"),
        ("\x1b[2J", r"'\x1b[2J'"),
    ] {
        // With a `;` the quotation marks must come out even.
        assert_eq!(quoted(word), expected, "{word:?}");
    }
}

#[test]
fn everything_under_its_heading() {
    let application = |name: &[u8], rules: &[&str]| Application {
        name: name.into(),
        rules: rules.iter().map(|rule| compile(rule).unwrap()).collect(),
    };
    let configuration = Configuration {
        applications: vec![
            application(b"Web \x1b[2J\xff", &["apache|httpd", ""]),
            application(b"Nothing", &[]),
        ],
        ..Configuration::default()
    };
    assert_eq!(
        show(&configuration),
        "# monitors\n\n# applications\n[Web \\x1b[2J\\xff]\nrule1=apache|httpd\nrule2=\n\n\
         [Nothing]\n\n\n# notifications\n"
    );
}

/// The rules of an application file with one application.
fn rules(text: &str) -> Vec<Regex> {
    let applications = parse_applications(Path::new(FILE), text.as_bytes()).unwrap();
    applications.into_iter().next().unwrap().rules
}

fn written_and_read(rule: &str) -> (String, Regex) {
    let application = Application { name: b"a"[..].into(), rules: vec![compile(rule).unwrap()] };
    let document = show_applications(&[application]);
    assert!(!document.contains(|c: char| c.is_control() && c != '\n'), "{document:?}");
    let rules = rules(&document);
    assert_eq!(rules.len(), 1, "{document:?}");
    (document, rules[0].clone())
}

#[test]
fn patterns_that_can_not_be_written_as_they_are() {
    for (rule, expected, matches) in [
        (" a ", r"\x20a\x20", &b" a "[..]),
        (" ", r"\x20", b" "),
        ("a ;b", r"a \x3bb", b"a ;b"),
        (";b", ";b", b";b"),
        ("\"\"", r"\x22\x22", b"\"\""),
        ("50%", "50%%", b"50%"),
        ("\na", "\n    a", b"\na"),
        ("a\n\nb\n", "a\\x0a\n    b\\x0a", b"a\n\nb\n"),
        ("a \n b", "a\\x20\n    \\x20b", b"a \n b"),
        ("a\t\x1b", r"a\x09\x1b", b"a\t\x1b"),
        ("\u{202e}*$", r"\u{202e}*$", "\u{202e}\u{202e}".as_bytes()),
        ("^[\u{202e}a]$", r"^[\u{202e}a]$", "\u{202e}".as_bytes()),
        ("(?u)^[\u{202e}]$", r"(?u)^[\u{202e}]$", "\u{202e}".as_bytes()),
        ("caf\u{e9}", "caf\u{e9}", "caf\u{e9}".as_bytes()),
        ("(?x)\na\t# b ; c\n|cd", "(?x)\n    a # b ; c\n    |cd", b"cd"),
    ] {
        let (document, read) = written_and_read(rule);
        assert_eq!(document, format!("[a]\nrule1={expected}\n\n"), "{rule:?}");
        assert!(compile(rule).unwrap().is_match(matches), "{rule:?}");
        assert!(read.is_match(matches), "{rule:?}");
    }
}

/// A name that can be in a section's header, and is shown unchanged.
fn name() -> impl Strategy<Value = String> {
    "[ -\\\\^-~\u{e9}\u{5d0}]{0,12}"
}

/// A pattern that is written unchanged.
fn pattern_text() -> impl Strategy<Value = Regex> {
    "[a-z0-9.|^$()*%;\\\\-]{1,8}".prop_filter_map("no pattern", |text| compile(&text).ok())
}

fn duration(least: u64) -> impl Strategy<Value = Duration> {
    (least..=86_400_000_000_000).prop_map(Duration::from_nanos)
}

const HUNDREDTH: u64 = 10_000_000;

fn some_monitor() -> impl Strategy<Value = MonitorSettings> {
    let pattern = || prop::option::of(pattern_text());
    let source = prop::option::of(prop::sample::select(SourceChoice::ALL.to_vec()));
    (name(), pattern(), pattern(), any::<bool>(), source).prop_map(
        |(name, include, exclude, ignore_local, source)| {
            let filter = Filter {
                include: include.into_iter().collect(),
                exclude: exclude.into_iter().collect(),
            };
            MonitorSettings { name: name.into_bytes(), filter, ignore_local, source }
        },
    )
}

fn some_pipe() -> impl Strategy<Value = PipeSettings> {
    let host = prop_oneof![
        any::<IpAddr>().prop_map(|address| address.to_string()),
        "[a-z0-9.%\\\\_-]{1,12}",
        Just("fe80::1%eth0".to_owned()),
    ];
    let bind = prop::option::of(any::<IpAddr>());
    let limits = (
        prop::option::of(1_usize..).prop_map(|count| count.and_then(NonZeroUsize::new)),
        prop::option::of(1_u64..=1_024_000_000_000).prop_map(|rate| rate.and_then(NonZeroU64::new)),
    );
    let times = (duration(HUNDREDTH), prop::option::of(duration(HUNDREDTH)));
    (name(), host, 1_u16.., bind, times, limits, any::<bool>()).prop_map(
        |(name, host, remote_port, bind, (connect_timeout, idle_timeout), limits, send_proxy)| {
            let (max_connections, shape) = limits;
            PipeSettings {
                name: name.into_bytes(),
                port: 0,
                host,
                remote_port,
                bind,
                connect_timeout,
                idle_timeout,
                max_connections,
                shape,
                send_proxy,
            }
        },
    )
}

fn some_command() -> impl Strategy<Value = Option<Command>> {
    let words = ("[a-z/]{1,8}", prop::collection::vec("[ -~\n]{0,8}", 0..4));
    prop::option::of(words.prop_filter_map("refused", |(program, words)| {
        let quoted = words.iter().map(|word| format!(" '{}'", word.replace('\'', "'\\''")));
        Command::parse(&format!("{program}{}", quoted.collect::<String>())).ok()
    }))
}

fn some_notification() -> impl Strategy<Value = Notification> {
    let threshold = || {
        let positive = prop::num::f64::POSITIVE | prop::num::f64::SUBNORMAL;
        prop::option::of(positive.prop_map(f64::abs).prop_filter("none", |rate| *rate > 0.0))
    };
    let times = (duration(1), duration(0), duration(0), duration(HUNDREDTH));
    let commands = (some_command(), some_command());
    (name(), pattern_text(), threshold(), threshold(), times, 0.0..=1.0, commands).prop_map(
        |(name, filter, in_threshold, out_threshold, times, resolve_threshold, commands)| {
            let ((window, hold, repeat_interval, timeout), (firing, resolved)) = (times, commands);
            Notification {
                rule: Rule {
                    name: name.into_bytes().into(),
                    filter,
                    in_threshold,
                    out_threshold,
                    window,
                    hold,
                    repeat_interval,
                    resolve_threshold,
                },
                commands: Commands { firing, resolved, timeout },
            }
        },
    )
}

fn some_configuration() -> impl Strategy<Value = Configuration> {
    let application = (name(), prop::collection::vec(pattern_text(), 0..3))
        .prop_map(|(name, rules)| Application { name: name.into_bytes().into(), rules });
    let sections = (
        prop::collection::vec(some_monitor(), 0..3),
        prop::collection::vec(some_pipe(), 0..3),
        prop::collection::vec(application, 0..3),
        prop::collection::vec(some_notification(), 0..3),
    );
    sections.prop_map(|(mut monitors, mut pipes, mut applications, mut notifications)| {
        // Sections of the same name are one, and two pipes must not have the same port.
        let tell_apart = |name: &mut Vec<u8>, kind: u8, index: usize| {
            name.splice(0..0, [kind, b'0' + index as u8]);
        };
        for (index, monitor) in monitors.iter_mut().enumerate() {
            tell_apart(&mut monitor.name, b'm', index);
        }
        for (index, pipe) in pipes.iter_mut().enumerate() {
            tell_apart(&mut pipe.name, b'p', index);
            pipe.port = u16::MAX - index as u16;
        }
        for (index, application) in applications.iter_mut().enumerate() {
            let mut name = application.name.to_vec();
            tell_apart(&mut name, b'a', index);
            application.name = name.into();
        }
        for (index, notification) in notifications.iter_mut().enumerate() {
            let mut name = notification.rule.name.to_vec();
            tell_apart(&mut name, b'n', index);
            notification.rule.name = name.into();
        }
        Configuration { monitors, pipes, applications, notifications }
    })
}

proptest! {
    #[test]
    fn a_configuration_that_is_shown_is_read_as_the_same(configuration in some_configuration()) {
        let text = show(&configuration);
        let (monitors, rest) = text.split_once("\n# applications\n").unwrap();
        let (applications, notifications) = rest.split_once("\n# notifications\n").unwrap();
        let file = Path::new(FILE);
        let (monitors, pipes) = parse_monitors(file, monitors.as_bytes()).unwrap();
        let read = Configuration {
            monitors,
            pipes,
            applications: parse_applications(file, applications.as_bytes()).unwrap(),
            notifications: parse_notifications(file, notifications.as_bytes()).unwrap(),
        };
        prop_assert_eq!(format!("{read:?}"), format!("{configuration:?}"), "{}", text);
        prop_assert_eq!(show(&read), text);
    }

    /// Literals are patterns whose matches are known.
    #[test]
    fn a_literal_is_read_back_the_same(text in any::<String>(), blanks in "[ \n;%\"\\\\a#\t]{0,8}") {
        for text in [text.as_str(), blanks.as_str()] {
            let rule = format!("^{}\\z", regex::escape(text));
            let (_, read) = written_and_read(&rule);
            prop_assert!(read.is_match(text.as_bytes()), "{:?}", read);
            let (_, read) = written_and_read(&regex::escape(text));
            prop_assert!(read.is_match(text.as_bytes()), "{:?}", read);
        }
    }

    #[test]
    fn numbers_are_read_back_the_same(
        shape in 1_u64..1_000_000_000, idle in 0.01_f64..86400.0, limit in 0.001_f64..1e9,
        window in 0.001_f64..86400.0, share in 0.0_f64..=1.0,
    ) {
        let rate = shape as f64 / 1024.0;
        let text = format!(
            "[p]\ntype=pipe\nport=1\nnewhost=h\nshape_threshold={rate}\nidle_timeout={idle}\n"
        );
        let (once, twice) = monitors(&text);
        prop_assert_eq!(once, twice);
        let text = format!(
            "[n]\nprocess_filter=x\nin_threshold={limit}\ninterval={window}\n\
             resolve_threshold={share}\n"
        );
        let (once, twice) = notifications(&text);
        prop_assert_eq!(once, twice);
    }
}
