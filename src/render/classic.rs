//! The classic list: bytes in, bytes out, command line.

use super::terminal::Terminal;
use super::units::Units;
use super::{Format, Frame, Layout, frame, short};
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Snapshot};

/// The figures of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// All bytes so far.
    Traffic,
    /// Bytes per second since the refresh before, rounded down.
    Bandwidth,
}

/// The list of `runmonitor` and `runpipe`, the busiest line last.
#[derive(Clone, Debug)]
pub(crate) struct Classic {
    /// The figures of the lines.
    pub show: Show,
    /// Whether bytes without a process have lines too.
    pub unattributed: bool,
    /// The units of bytes; `None` for plain numbers.
    pub units: Option<Units>,
    /// The terminal that shows it.
    pub terminal: Terminal,
}

impl Format for Classic {
    fn format(&mut self, frame: &Frame) -> Vec<u8> {
        let lines = arrange(self.lines(&frame.snapshot));
        compose(frame.notes(lines.is_empty()), &lines, self.units, &self.terminal.layout())
    }
}

impl Classic {
    fn lines(&self, snapshot: &Snapshot) -> Vec<Line> {
        let shown = |account: &Account| match self.show {
            Show::Traffic => account.total,
            Show::Bandwidth => snapshot.rate(account).floor(),
        };
        let rows = snapshot.rows.iter();
        let rows = rows.map(|row| Line { traffic: shown(&row.account), name: row.name.clone() });
        let unattributed = snapshot.unattributed.iter().filter(|_| self.unattributed);
        let unattributed =
            unattributed.map(|of| Line::new(shown(&of.account), format!("({})", of.reason)));
        rows.chain(unattributed).collect()
    }
}

/// The order is by received, by sent, then by the bytes of the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    traffic: Traffic,
    name: Name,
}

impl Line {
    fn new(traffic: Traffic, name: impl AsRef<[u8]>) -> Line {
        Line { traffic, name: name.as_ref().into() }
    }
}

/// The lines in the order of the screen, the busiest last, without those of no traffic.
fn arrange(mut lines: Vec<Line>) -> Vec<Line> {
    lines.retain(|line| !line.traffic.is_zero());
    lines.sort_unstable();
    lines
}

/// `row` as a line without its newline: received, sent, and the name, safe to print and cut to
/// [`NAME_LIMIT`](super::NAME_LIMIT) characters. Scripts read these lines, so the format does not
/// change. On a screen the line is cut to its columns instead.
fn line(row: &Line, units: Option<Units>, layout: &Layout) -> String {
    let (received, sent) = (row.traffic.received, row.traffic.sent);
    let full = match units {
        None => format!("{received:>10} / {sent:>10} -- "),
        Some(units) => super::in_units(units, received as f64, sent as f64),
    };
    let short = || format!("{:>4}/{:>4} ", short(received as f64), short(sent as f64));
    super::row(&row.name, full, short, layout)
}

/// The bytes of one refresh that shows `rows` in their order; see [`frame`]. `notes` are lines
/// above the list, which are dropped first if the screen is too small.
fn compose(
    notes: impl DoubleEndedIterator<Item = String>,
    rows: &[Line],
    units: Option<Units>,
    layout: &Layout,
) -> Vec<u8> {
    frame(notes.chain(rows.iter().map(|row| line(row, units, layout))), layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Size;
    use proptest::prelude::*;

    fn row(received: u64, sent: u64, name: impl AsRef<[u8]>) -> Line {
        Line::new(Traffic::new(received, sent), name)
    }

    #[test]
    fn ascending_by_received_then_sent_then_name() {
        let rows = vec![
            row(2, 0, "a"),
            row(1, 5, "b"),
            row(0, 0, "silent"),
            row(1, 5, "a"),
            row(0, 1, "sends only"),
            row(1, 4, "z"),
            row(10, 0, "numbers, not texts"),
        ];
        assert_eq!(
            arrange(rows),
            [
                row(0, 1, "sends only"),
                row(1, 4, "z"),
                row(1, 5, "a"),
                row(1, 5, "b"),
                row(2, 0, "a"),
                row(10, 0, "numbers, not texts"),
            ]
        );
    }

    #[test]
    fn equal_rows_all_stay() {
        assert_eq!(arrange(vec![row(1, 1, "a"), row(1, 1, "a")]).len(), 2);
    }

    #[test]
    fn names_are_ordered_as_bytes() {
        let rows =
            vec![Line::new(Traffic::new(1, 1), *b"\xff"), row(1, 1, "\u{e9}"), row(1, 1, "Z")];
        let names: Vec<_> = arrange(rows).into_iter().map(|row| row.name.to_vec()).collect();
        assert_eq!(names, [b"Z".to_vec(), "\u{e9}".into(), b"\xff".to_vec()]);
    }

    proptest! {
        #[test]
        fn sorted_and_nothing_lost(
            rows in proptest::collection::vec((0_u64..4, 0_u64..4, any::<Vec<u8>>()), 0..40)
        ) {
            let rows: Vec<Line> = rows
                .into_iter()
                .map(|(received, sent, name)| Line::new(Traffic::new(received, sent), name))
                .collect();
            let sum: Traffic = rows.iter().map(|row| row.traffic).sum();
            let arranged = arrange(rows);
            prop_assert!(arranged.is_sorted());
            prop_assert!(arranged.iter().all(|row| !row.traffic.is_zero()));
            prop_assert_eq!(arranged.iter().map(|row| row.traffic).sum::<Traffic>(), sum);
        }
    }

    #[test]
    fn golden_lines() {
        let cases = [
            (row(1, 20, "ssh host"), "         1 /         20 -- ssh host".to_string()),
            (row(0, 0, ""), "         0 /          0 -- ".into()),
            (row(1234567890, 0, "x"), "1234567890 /          0 -- x".into()),
            // Wider than the column: nothing is lost.
            (row(12345678901, u64::MAX, "x"), "12345678901 / 18446744073709551615 -- x".into()),
            (row(1, 1, "(forwarded)"), "         1 /          1 -- (forwarded)".into()),
            (row(1, 1, "y".repeat(60)), format!("         1 /          1 -- {}", "y".repeat(60))),
            (
                row(1, 1, "y".repeat(61)),
                format!("         1 /          1 -- {}...", "y".repeat(57)),
            ),
            // Escaped, then cut.
            (
                row(1, 1, [b"y".repeat(58), b"\n\n".to_vec()].concat()),
                format!("         1 /          1 -- {}...", "y".repeat(57)),
            ),
            (
                row(1, 1, *b"evil\x1b]0;x\x07\xff"),
                r"         1 /          1 -- evil\x1b]0;x\x07\xff".into(),
            ),
            (
                row(1, 1, "\u{4e16}".repeat(61)),
                format!("         1 /          1 -- {}...", "\u{4e16}".repeat(57)),
            ),
        ];
        for (row, expected) in cases {
            assert_eq!(line(&row, None, &Layout::default()), expected);
        }
    }

    #[test]
    fn units_take_the_place_of_plain_numbers() {
        let busy = row(1536, 5 << 20, "wget");
        let show = |units, columns: Option<usize>| {
            let layout = columns.map_or_else(Layout::default, Layout::with_columns);
            line(&busy, Some(units), &layout)
        };
        assert_eq!(show(Units::BinBytes, None), "   1.50 KiB /    5.00 MiB -- wget");
        assert_eq!(show(Units::SiBits, None), " 12.29 kbit /  41.94 Mbit -- wget");
        assert_eq!(show(Units::SiBytes, Some(80)), "  1.54 kB /   5.24 MB -- wget");
        // Where there is no room for them the short ones have to do.
        assert_eq!(show(Units::BinBits, Some(20)), "1.5K/5.0M wget");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let rows = [row(1, 1, "a\n         9 /          9 -- b")];
        let bytes = compose([].into_iter(), &rows, None, &Layout::default());
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[test]
    fn golden_refreshes() {
        let rows = arrange(vec![row(300, 5, "wget"), row(0, 0, "idle"), row(20, 7, "ssh host")]);
        assert_eq!(
            String::from_utf8(compose([].into_iter(), &rows, None, &Layout::default())).unwrap(),
            "        20 /          7 -- ssh host\n       300 /          5 -- wget\n\n"
        );
        let clear = Some(b"\x1b[H\x1b[2J".to_vec());
        let screen =
            Layout { clear: clear.clone(), size: Some(Size { cols: 80, rows: 24 }), ascii: false };
        assert_eq!(
            String::from_utf8(compose([].into_iter(), &rows, None, &screen)).unwrap(),
            "\x1b[H\x1b[2J        20 /          7 -- ssh host\n       300 /          5 -- wget\n"
        );
        let small = Layout { clear, size: Some(Size { cols: 20, rows: 3 }), ascii: false };
        assert_eq!(
            String::from_utf8(compose([].into_iter(), &rows, None, &small)).unwrap(),
            "\x1b[H\x1b[2J  20/   7 ssh host\n 300/   5 wget\n"
        );
    }

    #[test]
    fn a_screen_has_whole_rows_and_uses_all_of_them() {
        let name =
            "/usr/bin/python3 /usr/local/bin/a-program-with-a-rather-long-name --and-options";
        let busy = row(12_345_678, 90_123, name);
        let cases = [
            (200, format!("  12345678 /      90123 -- {name}")),
            (120, format!("  12345678 /      90123 -- {name}")),
            (80, format!("  12345678 /      90123 -- {}...", &name[..50])),
            (40, format!("  12345678 /      90123 -- {}...", &name[..10])),
            (35, format!("  12345678 /      90123 -- {}...", &name[..5])),
            (34, format!(" 12M/ 88K {}...", &name[..21])),
            (20, format!(" 12M/ 88K {}...", &name[..7])),
            (12, " 12M/ 88K ..".to_owned()),
            (8, " 12M/...".to_owned()),
            (1, ".".to_owned()),
        ];
        for (columns, expected) in cases {
            assert_eq!(line(&busy, None, &Layout::with_columns(columns)), expected);
        }
        // Figures that need more than their column take it from the name.
        let big = row(12_345_678_901, 1, name);
        assert_eq!(
            line(&big, None, &Layout::with_columns(40)),
            format!("12345678901 /          1 -- {}...", &name[..9])
        );
    }

    #[test]
    fn wide_names_are_cut_by_cells() {
        // 27 cells before the name, then 2 for each character: 87 cells.
        let wide = row(2, 2, "\u{4e16}".repeat(30));
        let name = |columns| {
            let line = line(&wide, None, &Layout::with_columns(columns));
            line.split_once(" -- ").unwrap().1.replace('\u{4e16}', "w")
        };
        assert_eq!(name(87), "w".repeat(30));
        assert_eq!(name(86), format!("{}...", "w".repeat(28)));
        assert_eq!(name(85), format!("{}...", "w".repeat(27)));
    }
}
