//! The line of a notification on standard error.

use super::Facts;
use crate::alert::State;
use crate::escape::visible_cut;
use crate::lookalike::{marked, reads};

/// Maximum characters of an application's name in a line.
const NAME: usize = 50;

/// Words of the line, without blanks.
const OWN: [&str; 2] = ["exceeding", "nolonger"];

/// The line of a notification, without a newline. It has the first 50 characters of the
/// application's name, made visible.
///
/// The line has no delimiter around the name. So a name from outside the configuration that could be read as
/// words of the line gets a backslash in front: `Webserver no longer` must not end the alert of `Webserver`.
/// A name of a line that starts with a backslash has got one before, so different names stay different.
pub fn line(facts: &Facts) -> String {
    let exceeding = match facts.state {
        State::Firing => "exceeding",
        State::Resolved => "no longer exceeding",
    };
    // A threshold of 0 resolves at a mean of 0, which has no ratio to it.
    let percent = if facts.value == 0.0 { 0.0 } else { facts.value / facts.threshold * 100.0 };
    format!(
        "{}: {} {exceeding} '{}' bandwidth limit {:10.2}: {:10.2} kB/s ({percent:3.2} %)",
        facts.time,
        shown(facts),
        facts.direction,
        facts.threshold,
        facts.value,
    )
}

/// The name in the line.
fn shown(facts: &Facts) -> String {
    let name = visible_cut(&facts.application, NAME);
    // What is cut off can't be read.
    if facts.configured || !OWN.iter().any(|own| reads(&name, own)) {
        return name;
    }
    visible_cut(&marked(&facts.application), NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Direction;

    fn facts(application: &[u8], state: State, value: f64) -> Facts {
        Facts {
            rule: (*b"SSH").into(),
            application: application.into(),
            configured: true,
            direction: Direction::In,
            threshold: 100.0,
            value,
            state,
            time: "2026-01-02 03:04:05".to_owned(),
        }
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(&facts(b"ssh", State::Firing, 123.456)),
            "2026-01-02 03:04:05: ssh exceeding 'in' bandwidth limit     100.00:     123.46 kB/s \
             (123.46 %)"
        );
        let mut out = facts(b"ssh", State::Resolved, 0.0);
        out.direction = Direction::Out;
        assert_eq!(
            line(&out),
            "2026-01-02 03:04:05: ssh no longer exceeding 'out' bandwidth limit     100.00:       \
             0.00 kB/s (0.00 %)"
        );
        let big = Facts { threshold: 12_345_678_901.0, ..facts(b"", State::Firing, 1e12) };
        assert_eq!(
            line(&big),
            "2026-01-02 03:04:05:  exceeding 'in' bandwidth limit 12345678901.00: \
             1000000000000.00 kB/s (8100.00 %)"
        );
    }

    #[test]
    fn a_threshold_of_0_has_no_share() {
        let zero = |state, value| line(&Facts { threshold: 0.0, ..facts(b"x", state, value) });
        assert!(zero(State::Firing, 1.0).ends_with("(inf %)"));
        assert!(zero(State::Resolved, 0.0).ends_with("(0.00 %)"));
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = [b'x'; 51];
        let whole = "x".repeat(50);
        let cut = format!(": {}... exceeding", "x".repeat(47));
        assert!(line(&facts(&name, State::Firing, 1.0)).contains(&cut));
        assert!(line(&facts(&name[..50], State::Firing, 1.0)).contains(&whole));
    }

    /// The name in the line of an application that is not of the configuration.
    fn of_outsider(name: &str) -> String {
        let facts = facts(name.as_bytes(), State::Firing, 200.0);
        let line = line(&Facts { configured: false, ..facts });
        let rest = line.strip_prefix("2026-01-02 03:04:05: ").unwrap();
        rest.strip_suffix(" exceeding 'in' bandwidth limit     100.00:     200.00 kB/s (200.00 %)")
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned()
    }

    #[test]
    fn a_name_that_reads_as_words_of_the_line_is_marked() {
        for name in [
            "Webserver no longer",
            "Webserver no longer ",
            "Webserver  no \u{2800} longer",
            "Webserver No LONGER",
            "Webserver no longer than",
            "Webserver exceeding 'out' bandwidth limit",
            "Webserver no l\u{43e}nger",
            "Webserver \u{ff4e}\u{ff4f} longer",
            "Webserver n\u{301}o longer",
            "Webserver \u{435}xceeding",
            // These have a backslash from the list already.
            "\\(kernel) no longer",
            "\\\\Webserver no longer",
        ] {
            assert_eq!(of_outsider(name), format!("\\{name}"));
        }
        for name in [
            "",
            "x",
            "Webserver",
            "\\(kernel)",
            "no way longer",
            "excel --feeding",
            "caf\u{e9}",
            "/home/\u{438}\u{432}\u{430}\u{43d}/\u{414}\u{43e}\u{43a}\u{443}\u{43c}\u{435}\u{43d}\u{442}\u{44b}/x",
        ] {
            assert_eq!(of_outsider(name), name);
        }
        // A name that the file has chosen stays.
        let named = line(&facts(b"no longer", State::Firing, 1.0));
        assert!(named.contains(": no longer exceeding"), "{named}");
    }

    #[test]
    fn a_mark_is_in_front_of_what_is_cut() {
        let name = format!("Webserver no longer{}", "x".repeat(99));
        assert_eq!(of_outsider(&name), format!("\\Webserver no longer{}...", "x".repeat(27)));
        // The end that is cut off is not in the line.
        let name = format!("{} no longer", "x".repeat(50));
        assert_eq!(of_outsider(&name), format!("{}...", "x".repeat(47)));
        let name = format!("{} no longer", "x".repeat(40));
        assert_eq!(of_outsider(&name), format!("\\{} no lo...", "x".repeat(40)));
    }

    #[test]
    fn a_name_forges_no_line() {
        let name = b"x\n2026-01-02 03:04:05: root\x1b[2K\r\xff";
        assert_eq!(
            line(&Facts { configured: false, ..facts(name, State::Firing, 200.0) }),
            "2026-01-02 03:04:05: x\\n2026-01-02 03:04:05: root\\x1b[2K\\r\\xff exceeding 'in' \
             bandwidth limit     100.00:     200.00 kB/s (200.00 %)"
        );
    }
}
