//! Turns lines of text into the bytes of one refresh, for a screen or a stream.
//!
//! [`frame`] composes a refresh without access to a terminal, [`terminal`] queries the terminal,
//! and [`sink::Sink`] writes.

use std::sync::Arc;

use cells::{cut_cells, cut_to_rows, wrapped_rows};

use crate::escape::{ascii, cut, visible_cut};
use crate::model::{Row, Snapshot};

/// The content of one refresh.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The refresh.
    pub snapshot: Arc<Snapshot>,
    /// Lines above the list, safe to print.
    pub above: Vec<String>,
    /// The line that explains an empty list.
    pub if_empty: Option<String>,
    /// Lines of the alerts that fire.
    pub alerts: Vec<String>,
}

impl sink::Frame for Frame {
    fn weight(&self) -> usize {
        let rows = self.snapshot.rows.iter();
        rows.map(|row| {
            let named = row.processes.iter().map(|process| {
                let facts = process.facts.as_ref().map_or(0, |facts| facts.cmdline.len());
                process.command_line.len() + facts
            });
            size_of::<Row>()
                + row.name.len()
                + size_of_val(&row.processes[..])
                + named.sum::<usize>()
        })
        .sum()
    }
}

/// Formats a refresh.
pub(crate) trait Format: Send + 'static {
    /// The bytes of one refresh.
    fn format(&mut self, frame: &Frame) -> Vec<u8>;
}

impl Format for Box<dyn Format> {
    fn format(&mut self, frame: &Frame) -> Vec<u8> {
        (**self).format(frame)
    }
}

impl Frame {
    /// The lines above a list.
    fn notes(&self, is_empty: bool) -> impl DoubleEndedIterator<Item = String> {
        let if_empty = self.if_empty.iter().filter(move |_| is_empty);
        self.above.iter().chain(if_empty).chain(&self.alerts).cloned()
    }
}

pub(crate) mod applications;
mod cells;
pub(crate) mod classic;
pub(crate) mod csv;
#[cfg(test)]
mod examples;
pub(crate) mod json;
pub(crate) mod sink;
pub(crate) mod terminal;
pub(crate) mod units;

/// A terminal's size in character cells; 0 means unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Cells in a row.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// The layout of a refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The sequence that clears the screen and moves the cursor to the corner. `None` for a stream,
    /// in which an empty line separates the refreshes.
    pub clear: Option<Vec<u8>>,
    /// The size of the screen, if known. Only a screen that is cleared uses it.
    pub size: Option<Size>,
    /// Whether characters beyond ASCII are escaped, for a terminal of another character set than UTF-8.
    pub ascii: bool,
}

impl Layout {
    /// The cells in a row of a screen of known size.
    pub(crate) fn columns(&self) -> Option<usize> {
        let size = self.clear.as_ref().and(self.size)?;
        (size.cols > 0).then_some(usize::from(size.cols))
    }

    /// Text, which is safe to print, as this terminal or stream gets it.
    fn shown(&self, text: String) -> String {
        if self.ascii { ascii(&text).into_owned() } else { text }
    }
}

#[cfg(test)]
impl Layout {
    /// A screen of many rows.
    fn with_columns(columns: usize) -> Layout {
        let size = Some(Size { cols: columns.try_into().unwrap(), rows: 500 });
        Layout { clear: Some(Vec::new()), size, ascii: false }
    }
}

/// Maximum characters of a name in a stream.
pub(crate) const NAME_LIMIT: usize = 60;

/// Cells of a name below which the figures are shortened.
const LEAST_NAME: usize = 8;

/// A line of a list: figures, and the name, safe to print.
///
/// In a stream the line is `full` and the name, cut to [`NAME_LIMIT`] characters, which
/// scripts read. On a screen the name has the rest of the row; if that is hardly anything, the figures
/// are `short`. A line never takes a second row.
fn row(name: &[u8], full: String, short: impl Fn() -> String, layout: &Layout) -> String {
    // An escape is longer than what it stands for, so the name is cut after it.
    let name = |limit| layout.shown(visible_cut(name, limit));
    let Some(columns) = layout.columns() else {
        return full + &cut(&name(NAME_LIMIT), NAME_LIMIT);
    };
    let mut line = if full.len() + LEAST_NAME <= columns { full } else { short() };
    let room = columns.saturating_sub(line.len());
    // A character may take no cell, but a screen needs only few of those.
    line += &cut_cells(name(room.saturating_mul(4)), room);
    cut_cells(line, columns)
}

/// The figures of a line in `units`, which may be bytes or bytes per second.
fn in_units(units: units::Units, received: f64, sent: f64) -> String {
    let width = units.width();
    format!("{:>width$} / {:>width$} -- ", units.show(received), units.show(sent))
}

/// Bytes in at most four characters: `999`, `1.0K`, `36M`. K is 1024.
pub(crate) fn short(bytes: f64) -> String {
    if bytes < 999.5 {
        return format!("{bytes:.0}");
    }
    let mut value = bytes;
    for unit in ["K", "M", "G", "T", "P"] {
        value /= 1024.0;
        if value < 9.95 {
            return format!("{value:.1}{unit}");
        }
        if value < 999.5 {
            return format!("{value:.0}{unit}");
        }
    }
    format!("{:.0}E", value / 1024.0)
}

/// The bytes of one refresh. On a screen: the clear sequence, then each line with its newline. In a
/// stream: the lines, then an empty line.
///
/// If the screen has too few rows, the last lines that fit are shown, since the busiest come last.
/// A line wider than the screen takes as many rows as it wraps to. The last row stays free for the
/// cursor. If even the last line does not fit, it is cut.
///
/// Lines are consumed from the end, and only as many as fit. They must be safe to print and contain
/// no newline: see [`crate::escape`].
pub(crate) fn frame<I>(lines: I, layout: &Layout) -> Vec<u8>
where
    I: DoubleEndedIterator<Item = String>,
{
    let lines = lines.map(|line| layout.shown(line));
    let Some(clear) = &layout.clear else {
        let mut bytes = Vec::new();
        lines.for_each(|line| push_line(&mut bytes, &line));
        bytes.push(b'\n');
        return bytes;
    };
    let mut bytes = clear.clone();
    for line in last_that_fit(lines, layout.size).iter().rev() {
        push_line(&mut bytes, line);
    }
    bytes
}

fn push_line(bytes: &mut Vec<u8>, line: &str) {
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
}

/// The lines that fit on the screen, in reverse order.
fn last_that_fit<I>(lines: I, size: Option<Size>) -> Vec<String>
where
    I: DoubleEndedIterator<Item = String>,
{
    let lines = lines.rev();
    let size = match size {
        Some(size) if size.cols > 0 && size.rows > 0 => size,
        _ => return lines.collect(),
    };
    let mut free = usize::from(size.rows) - 1;
    let mut shown = Vec::new();
    for line in lines {
        let cols = usize::from(size.cols);
        let needed = wrapped_rows(&line, cols);
        if needed > free {
            if shown.is_empty() {
                shown.push(cut_to_rows(&line, free.max(1), cols));
            }
            break;
        }
        free -= needed;
        shown.push(line);
    }
    shown
}

#[cfg(test)]
mod tests {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

    use super::*;
    use proptest::prelude::*;

    fn on(cols: u16, rows: u16) -> Layout {
        Layout { clear: Some(b"<C>".to_vec()), size: Some(Size { cols, rows }), ascii: false }
    }

    fn show(lines: &[&str], layout: &Layout) -> String {
        String::from_utf8(frame(lines.iter().map(|line| line.to_string()), layout)).unwrap()
    }

    #[test]
    fn a_stream_gets_all_lines_and_an_empty_one() {
        let stream = Layout::default();
        assert_eq!(show(&["a", "b"], &stream), "a\nb\n\n");
        assert_eq!(show(&[], &stream), "\n");
        // There is nothing to scroll away.
        let sized = Layout { clear: None, ..on(1, 1) };
        assert_eq!(show(&["aaa", "b"], &sized), "aaa\nb\n\n");
    }

    #[test]
    fn a_terminal_that_is_not_utf8_gets_ascii() {
        let name = "caf\u{e9} \u{db}2J";
        let line =
            |layout: &Layout| row(name.as_bytes(), "1 / 2 -- ".to_owned(), String::new, layout);
        for layout in [Layout::default(), Layout::with_columns(80)] {
            assert_eq!(line(&layout), format!("1 / 2 -- {name}"));
            assert_eq!(line(&Layout { ascii: true, ..layout }), "1 / 2 -- caf\\u{e9} \\u{db}2J");
        }
        let narrow = Layout { ascii: true, ..Layout::with_columns(20) };
        assert_eq!(line(&narrow), "1 / 2 -- caf\\u{e9...");
        let stream = Layout { ascii: true, ..Layout::default() };
        let long = row("\u{db}".repeat(20).as_bytes(), String::new(), String::new, &stream);
        assert_eq!(long, format!("{}\\u{{...", "\\u{db}".repeat(9)));
        // Other lines, by their width after it.
        let small = Layout { ascii: true, ..on(10, 4) };
        assert_eq!(show(&["x", "\u{db}\u{db}"], &small), "<C>x\n\\u{db}\\u{db}\n");
        let small = Layout { ascii: true, ..on(10, 3) };
        assert_eq!(show(&["x", "\u{db}\u{db}"], &small), "<C>\\u{db}\\u{db}\n");
    }

    #[test]
    fn a_screen_is_cleared_first() {
        assert_eq!(show(&["a", "b"], &on(80, 24)), "<C>a\nb\n");
        assert_eq!(show(&[], &on(80, 24)), "<C>");
        let unknown = Layout { size: None, ..on(1, 1) };
        assert_eq!(show(&["a", "b"], &unknown), "<C>a\nb\n");
    }

    #[test]
    fn the_last_lines_that_fit_above_the_cursor() {
        let lines = ["1", "2", "3", "4"];
        assert_eq!(show(&lines, &on(80, 5)), "<C>1\n2\n3\n4\n");
        assert_eq!(show(&lines, &on(80, 4)), "<C>2\n3\n4\n");
        assert_eq!(show(&lines, &on(80, 2)), "<C>4\n");
        assert_eq!(show(&lines, &on(80, 1)), "<C>4\n");
        assert_eq!(show(&lines, &on(1, 1)), "<C>4\n");
    }

    #[test]
    fn an_unknown_size_is_no_limit() {
        for layout in [on(0, 0), on(0, 2), on(80, 0)] {
            assert_eq!(show(&["1", "2", "3"], &layout), "<C>1\n2\n3\n");
        }
    }

    #[test]
    fn wrapped_lines_count_with_all_their_rows() {
        let lines = ["short", "exactly 10", "eleven chars", "x"];
        assert_eq!(show(&lines, &on(10, 6)), "<C>short\nexactly 10\neleven chars\nx\n");
        assert_eq!(show(&lines, &on(10, 5)), "<C>exactly 10\neleven chars\nx\n");
        assert_eq!(show(&lines, &on(10, 4)), "<C>eleven chars\nx\n");
        // No older line jumps over one that does not fit.
        assert_eq!(show(&lines, &on(10, 3)), "<C>x\n");
        // The only line may be too big.
        assert_eq!(show(&["eleven chars"], &on(3, 2)), "<C>...\n");
        assert_eq!(show(&["eleven chars"], &on(5, 3)), "<C>eleven ...\n");
    }

    #[test]
    fn four_characters_for_any_bytes() {
        for (bytes, expected) in [
            (0.0, "0"),
            (0.4, "0"),
            (999.4, "999"),
            (999.5, "1.0K"),
            (10_188.0, "9.9K"),
            (10_189.0, "10K"),
            (1_022_000.0, "998K"),
            (1_023_900.0, "1.0M"),
            (36.0 * 1024.0 * 1024.0, "36M"),
            (u64::MAX as f64, "16E"),
        ] {
            assert_eq!(short(bytes), expected);
            assert!(short(bytes).len() <= 4);
        }
    }

    /// The row that the cursor of a terminal without end would be in after `text`.
    fn cursor_row(text: &str, cols: usize) -> usize {
        let (mut row, mut col) = (0, 0);
        for c in text.chars() {
            if c == '\n' {
                (row, col) = (row + 1, 0);
                continue;
            }
            let width = c.width().unwrap();
            if width > 0 && col + width > cols {
                (row, col) = (row + 1, 0);
            }
            col += width;
        }
        row
    }

    proptest! {
        #[test]
        fn a_row_is_never_wrapped(
            name in "[a-f \u{4e00}-\u{4e05}\u{301}\u{7}]{0,150}", received in any::<u64>(), columns in 1_usize..130,
            ascii in any::<bool>(),
        ) {
            let layout = Layout { ascii, ..Layout::with_columns(columns) };
            let full = format!("{received:>10} / {:>10} -- ", 5);
            let line = row(name.as_bytes(), full, || format!("{:>4}/{:>4} ", "1.0K", 5), &layout);
            prop_assert!(line.width() <= columns && wrapped_rows(&line, columns) == 1, "{line:?}");
            prop_assert!(line.is_ascii() || !ascii, "{line:?}");
        }

        #[test]
        fn never_scrolls_when_one_line_fits(
            lines in proptest::collection::vec("[a-f \u{4e00}-\u{4e05}\u{301}]{0,30}", 1..20),
            cols in 2_u16..40, rows in 1_u16..20,
        ) {
            let shown = frame(lines.iter().cloned(), &Layout {
                clear: Some(Vec::new()), size: Some(Size { cols, rows }), ascii: false
            });
            let shown = String::from_utf8(shown).unwrap();
            let all = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let alone = shown.lines().count() == 1;
            prop_assert!((all.ends_with(&shown) || alone) && !shown.is_empty());

            // Not even one line has its row where the cursor needs the only one.
            let end = cursor_row(&shown, usize::from(cols));
            prop_assert!(end < usize::from(rows).max(2), "{} rows in {}", end, rows);
            // As many lines as fit: with one more the screen would scroll. A line that is cut comes alone.
            let count = shown.lines().count();
            if count < lines.len() && all.ends_with(&shown) {
                let more = format!("{}\n{shown}", lines[lines.len() - count - 1]);
                prop_assert!(cursor_row(&more, usize::from(cols)) >= usize::from(rows));
            }
        }
    }
}
