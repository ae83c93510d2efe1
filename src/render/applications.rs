//! The aggregator's list: KiB per second in and out, application.

use std::cmp::Ordering;

use super::terminal::Terminal;
use super::units::Units;
use super::{Format, Frame, Layout, frame, short};
use crate::model::Snapshot;
use crate::model::traffic::{Name, Rate};

/// Bytes in a KiB.
const KIB: f64 = 1024.0;

/// The list of `runaggregator`, the busiest line last.
#[derive(Clone, Debug)]
pub(crate) struct Applications {
    /// Whether every application that used anything has a line, or only the busy ones.
    pub all: bool,
    /// Whether bytes without a process have lines too.
    pub unattributed: bool,
    /// The units of bytes per second; `None` for KiB.
    pub units: Option<Units>,
    /// The terminal that shows it.
    pub terminal: Terminal,
}

impl Format for Applications {
    fn format(&mut self, frame: &Frame) -> Vec<u8> {
        let lines = self.lines(&frame.snapshot);
        compose(frame.notes(lines.is_empty()), &lines, self.units, &self.terminal.layout())
    }
}

impl Applications {
    fn lines(&self, snapshot: &Snapshot) -> Vec<Line> {
        let rows = snapshot.rows.iter().filter(|row| !row.account.recent.is_zero());
        let rows =
            rows.map(|row| Line { rate: snapshot.rate(&row.account), name: row.name.clone() });
        let unattributed = snapshot.unattributed.iter().filter(|_| self.unattributed);
        let unattributed = unattributed.filter(|of| !of.account.recent.is_zero()).map(|of| {
            let name = format!("({})", of.reason).into_bytes().into();
            Line { rate: snapshot.rate(&of.account), name }
        });
        let mut lines: Vec<Line> =
            rows.chain(unattributed).filter(|line| self.all || line.is_busy()).collect();
        lines.sort_unstable_by(Line::order);
        lines
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    rate: Rate,
    name: Name,
}

impl Line {
    /// By received, by sent, then by the bytes of the name.
    fn order(&self, other: &Line) -> Ordering {
        let received = self.rate.received.total_cmp(&other.rate.received);
        let sent = self.rate.sent.total_cmp(&other.rate.sent);
        received.then(sent).then_with(|| self.name.cmp(&other.name))
    }

    /// Whether it used more than 1024 bytes per second in or out.
    fn is_busy(&self) -> bool {
        self.rate.received > KIB || self.rate.sent > KIB
    }
}

/// `usage` as a line without its newline: KiB per second received and sent, and the name, safe to print
/// and cut to 60 characters. Scripts read these lines, so the format does not change. On a screen the
/// line is cut to its columns instead.
fn line(usage: &Line, units: Option<Units>, layout: &Layout) -> String {
    let (received, sent) = (usage.rate.received, usage.rate.sent);
    let full = match units {
        None => format!("{:>10.2} KiB / {:>10.2} KiB -- ", received / KIB, sent / KIB),
        Some(units) => super::in_units(units, received, sent),
    };
    let short = || format!("{:>4}/{:>4} ", short(received), short(sent));
    super::row(&usage.name, full, short, layout)
}

/// The bytes of one refresh that shows `usages` in their order; see [`frame`]. `notes` are lines
/// above the list, which are dropped first if the screen is too small.
fn compose(
    notes: impl DoubleEndedIterator<Item = String>,
    usages: &[Line],
    units: Option<Units>,
    layout: &Layout,
) -> Vec<u8> {
    frame(notes.chain(usages.iter().map(|usage| line(usage, units, layout))), layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(received: f64, sent: f64, name: &[u8]) -> Line {
        Line { rate: Rate { received, sent }, name: name.into() }
    }

    #[test]
    fn golden_lines() {
        for (usage, expected) in [
            (usage(1536.0, 0.0, b"Web"), "      1.50 KiB /       0.00 KiB -- Web"),
            (usage(0.0, 1.0, b""), "      0.00 KiB /       0.00 KiB -- "),
            (usage(123_456_789_012.0, 5119.0, b"x"), "120563270.52 KiB /       5.00 KiB -- x"),
            (
                usage(1.0, 1.0, b"evil\x1b[2J\n9.00 KiB / 9.00 KiB -- root"),
                "      0.00 KiB /       0.00 KiB -- evil\\x1b[2J\\n9.00 KiB / 9.00 KiB -- root",
            ),
            (
                usage(2048.0, 2048.0, &[b'y'; 61]),
                concat!(
                    "      2.00 KiB /       2.00 KiB -- ",
                    "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy..."
                ),
            ),
        ] {
            assert_eq!(line(&usage, None, &Layout::default()), expected);
        }
    }

    #[test]
    fn a_screen_has_whole_rows() {
        let web = usage(123_456.0, 789.0, b"Web server of the whole house");
        for (columns, expected) in [
            (80, "    120.56 KiB /       0.77 KiB -- Web server of the whole house"),
            (44, "    120.56 KiB /       0.77 KiB -- Web se..."),
            (40, "121K/ 789 Web server of the whole house"),
            (20, "121K/ 789 Web ser..."),
        ] {
            assert_eq!(line(&web, None, &Layout::with_columns(columns)), expected);
        }
    }

    #[test]
    fn one_kib_is_not_more_than_one() {
        assert!(!usage(1024.0, 1024.0, b"a").is_busy());
        assert!(usage(1024.1, 0.0, b"a").is_busy() && usage(0.0, 1024.1, b"a").is_busy());
    }

    #[test]
    fn golden_refreshes() {
        let usages = [usage(1536.0, 0.0, b"a"), usage(2048.0, 1.0, b"b")];
        let text = compose(["note".to_owned()].into_iter(), &usages, None, &Layout::default());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "note\n      1.50 KiB /       0.00 KiB -- a\n      2.00 KiB /       0.00 KiB -- b\n\n"
        );
    }
}
