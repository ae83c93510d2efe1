//! The classic list: bytes in, bytes out, command line.

use super::{Layout, frame};
use crate::escape::visible_cut;
use crate::traffic::Row;

/// The most characters of a name that are shown.
pub const NAME_LIMIT: usize = 60;

/// `row` as a line without its newline: received, sent, and the name made safe to print and cut
/// to [`NAME_LIMIT`] characters. Scripts read these lines: the format does not change.
pub fn line(row: &Row) -> String {
    let name = visible_cut(&row.name, NAME_LIMIT);
    format!("{:>10} / {:>10} -- {name}", row.traffic.received, row.traffic.sent)
}

/// The bytes of one refresh that shows `rows` in their order; see [`frame`]. `notes` are lines of
/// their own above them, and the first to go where there is no room.
pub fn compose(notes: &[String], rows: &[Row], layout: &Layout) -> Vec<u8> {
    frame(notes.iter().cloned().chain(rows.iter().map(line)), layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Size;
    use crate::traffic::Traffic;
    use crate::view::arrange;

    fn row(received: u64, sent: u64, name: impl Into<Vec<u8>>) -> Row {
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
            assert_eq!(line(&row), expected);
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
        // 31 cells in rows of 20: two rows, and one for the cursor.
        let small = Layout { clear, size: Some(Size { cols: 20, rows: 3 }) };
        assert_eq!(
            String::from_utf8(compose(&[], &rows, &small)).unwrap(),
            "\x1b[H\x1b[2J       300 /          5 -- wget\n"
        );
    }

    #[test]
    fn wide_names_wrap_by_cells() {
        // 27 cells before the name, then 2 for each character: 87 cells.
        let rows = [row(1, 1, "first"), row(2, 2, "\u{4e16}".repeat(30))];
        let shown = |cols, rows_of_screen| {
            let size = Some(Size { cols, rows: rows_of_screen });
            let bytes = compose(&[], &rows, &Layout { clear: Some(Vec::new()), size });
            String::from_utf8(bytes).unwrap().lines().count()
        };
        assert_eq!(shown(87, 3), 2);
        assert_eq!(shown(86, 3), 1);
        assert_eq!(shown(86, 4), 2);
        assert_eq!(shown(1, 1), 1);
        assert_eq!(shown(0, 0), 2);
    }
}
