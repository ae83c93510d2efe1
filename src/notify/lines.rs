//! The line of a notification on standard error.

use super::Facts;
use crate::alert::State;
use crate::escape::visible_cut;

/// Maximum characters of an application's name in a line.
const NAME: usize = 50;

/// The line of a notification, without a newline. It has the first 50 characters of the
/// application's name, made visible.
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
        visible_cut(&facts.application, NAME),
        facts.direction,
        facts.threshold,
        facts.value,
    )
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

    #[test]
    fn a_name_forges_no_line() {
        let name = b"x\n2026-01-02 03:04:05: root\x1b[2K\r\xff";
        assert_eq!(
            line(&facts(name, State::Firing, 200.0)),
            "2026-01-02 03:04:05: x\\n2026-01-02 03:04:05: root\\x1b[2K\\r\\xff exceeding 'in' \
             bandwidth limit     100.00:     200.00 kB/s (200.00 %)"
        );
    }
}
