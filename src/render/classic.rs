//! The classic list: bytes in, bytes out, command line.

use super::{Layout, frame, short};
use crate::traffic::Row;

/// `row` as a line without its newline: received, sent, and the name made safe to print and cut to
/// [`NAME_LIMIT`](super::NAME_LIMIT) characters. Scripts read these lines: the format does not change.
/// On a screen with so many `columns` it is cut to them instead.
pub fn line(row: &Row, columns: Option<usize>) -> String {
    let (received, sent) = (row.traffic.received, row.traffic.sent);
    let full = format!("{received:>10} / {sent:>10} -- ");
    let short = || format!("{:>4}/{:>4} ", short(received as f64), short(sent as f64));
    super::row(&row.name, full, short, columns)
}

/// The bytes of one refresh that shows `rows` in their order; see [`frame`]. `notes` are lines of
/// their own above them, and the first to go where there is no room.
pub fn compose(notes: &[String], rows: &[Row], layout: &Layout) -> Vec<u8> {
    let columns = layout.columns();
    frame(notes.iter().cloned().chain(rows.iter().map(|row| line(row, columns))), layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Size;
    use crate::traffic::Traffic;
    use crate::view::arrange;

    fn row(received: u64, sent: u64, name: impl AsRef<[u8]>) -> Row {
        Row::new(Traffic::new(received, sent), name)
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
            assert_eq!(line(&row, None), expected);
        }
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let rows = [row(1, 1, "a\n         9 /          9 -- b")];
        let bytes = compose(&[], &rows, &Layout::default());
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[test]
    fn golden_refreshes() {
        let rows = arrange(vec![row(300, 5, "wget"), row(0, 0, "idle"), row(20, 7, "ssh host")]);
        assert_eq!(
            String::from_utf8(compose(&[], &rows, &Layout::default())).unwrap(),
            "        20 /          7 -- ssh host\n       300 /          5 -- wget\n\n"
        );
        let clear = Some(b"\x1b[H\x1b[2J".to_vec());
        let screen = Layout { clear: clear.clone(), size: Some(Size { cols: 80, rows: 24 }) };
        assert_eq!(
            String::from_utf8(compose(&[], &rows, &screen)).unwrap(),
            "\x1b[H\x1b[2J        20 /          7 -- ssh host\n       300 /          5 -- wget\n"
        );
        let small = Layout { clear, size: Some(Size { cols: 20, rows: 3 }) };
        assert_eq!(
            String::from_utf8(compose(&[], &rows, &small)).unwrap(),
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
            assert_eq!(line(&busy, Some(columns)), expected);
        }
        // Figures that need more than their column take it from the name.
        let big = row(12_345_678_901, 1, name);
        assert_eq!(line(&big, Some(40)), format!("12345678901 /          1 -- {}...", &name[..9]));
    }

    #[test]
    fn wide_names_are_cut_by_cells() {
        // 27 cells before the name, then 2 for each character: 87 cells.
        let wide = row(2, 2, "\u{4e16}".repeat(30));
        let name = |columns| {
            let line = line(&wide, Some(columns));
            line.split_once(" -- ").unwrap().1.replace('\u{4e16}', "w")
        };
        assert_eq!(name(87), "w".repeat(30));
        assert_eq!(name(86), format!("{}...", "w".repeat(28)));
        assert_eq!(name(85), format!("{}...", "w".repeat(27)));
    }
}
