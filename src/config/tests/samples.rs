//! The sample files at the top level.

use super::*;
use crate::notify::Command;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_samples_mean_what_they_say() {
    // Not with `load`: it refuses a checkout that belongs to somebody else if the tests run as root.
    let bytes = |name: &str| std::fs::read(sample(name)).unwrap();
    let path = Path::new("sample");
    let (monitors, pipes) = parse_monitors(path, &bytes("monitors.sample.cfg")).unwrap();
    let configuration = Configuration {
        monitors,
        pipes,
        applications: parse_applications(path, &bytes("group.sample.cfg")).unwrap(),
        notifications: parse_notifications(path, &bytes("notify.sample.cfg")).unwrap(),
    };

    let [general] = configuration.monitors.as_slice() else { panic!() };
    assert_eq!(general.name, b"General");
    assert!(general.ignore_local && general.filter.include.is_empty());
    assert_eq!(general.source, None);
    assert_eq!(general.filter.exclude[0].as_str(), r"ssh.+host\.example\.com");
    let [ssh] = configuration.pipes.as_slice() else { panic!() };
    assert_eq!(ssh.config().name(), "pipe-2222:host.example.com:22");
    assert_eq!(ssh.shape.map(u64::from), Some(102_400));
    assert_eq!(ssh.bind, Some("127.0.0.1".parse().unwrap()));
    assert!(ssh.port > 1024);

    let application = |command_line: &[u8]| {
        let found = configuration
            .applications
            .iter()
            .find(|application| application.rules.iter().any(|rule| rule.is_match(command_line)));
        found.map(|application| String::from_utf8_lossy(&application.name).into_owned())
    };
    for (command_line, expected) in [
        (&b"/usr/sbin/apache2 -k start "[..], Some("Webserver")),
        (b"/usr/lib/chromium/chromium ", Some("Desktop")),
        (b"sshd: user ", Some("Dev")),
        (b"/usr/bin/git fetch ", Some("Dev")),
        (b"legit fetch ", None),
        (b"curl -O http://example.com/ ", Some("Test")),
    ] {
        assert_eq!(application(command_line).as_deref(), expected);
    }

    let [torrent, ssh, wget] = configuration.notifications.as_slice() else { panic!() };
    let thresholds = |of: &Notification| (of.rule.in_threshold, of.rule.out_threshold);
    assert_eq!(thresholds(torrent), (Some(50.0), None));
    assert_eq!(thresholds(ssh), (Some(100.0), Some(100.0)));
    assert_eq!(thresholds(wget), (Some(50.0), None));
    // Alone, and where the applications of the other sample have taken their processes.
    for (rule, command_line) in [(ssh, "ssh host "), (wget, "wget -q http://example.com/ ")] {
        let grouped = application(command_line.as_bytes()).unwrap();
        for name in [command_line, &grouped] {
            assert!(rule.rule.filter.is_match(name.as_bytes()), "{name}");
        }
    }
    assert_eq!(torrent.commands.firing, None);
    let mail = Command::parse(r#"logger -t bwmon "SSH exceeding bandwidth limit""#).ok();
    assert_eq!(ssh.commands.firing, mail);
    assert_eq!(wget.commands.firing, Command::parse("true").ok());
    assert_eq!(wget.rule.window, Duration::from_secs(5));
    assert_eq!(wget.rule.resolve_threshold, 0.8);
    for notification in [torrent, ssh, wget] {
        assert_eq!(notification.rule.repeat_interval, Duration::from_secs(60));
        assert!(!notification.never_fires());
    }
}
