//! Text in cells of a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text`, cut to what fits before `...` if it takes more than `cells` cells.
pub(super) fn cut_cells(mut text: String, cells: usize) -> String {
    if text.width() <= cells {
        return text;
    }
    let room = cells.saturating_sub(3);
    let mut taken = 0;
    let end = text.char_indices().find_map(|(index, c)| {
        taken += c.width().unwrap_or(0);
        (taken > room).then_some(index)
    });
    text.truncate(end.unwrap_or(text.len()));
    text.push_str(&"..."[..cells.min(3)]);
    text
}

/// The start of `line` that fits into `rows` rows.
pub(super) fn cut_to_rows(line: &str, rows: usize, cols: usize) -> String {
    // Wide characters may leave cells at the ends of rows free.
    let mut cuts = (0..=rows * cols).rev().map(|cells| cut_cells(line.to_owned(), cells));
    cuts.find(|cut| wrapped_rows(cut, cols) <= rows).unwrap_or_default()
}

/// The rows that `line` takes on a screen with `cols` cells in a row.
///
/// A wide character that fits only half goes to the next row, so the rows can be more than the
/// width divided by `cols`. A line that exactly fills a row takes no second one: terminals wrap
/// when the next character comes.
pub(super) fn wrapped_rows(line: &str, cols: usize) -> usize {
    let mut rows = 1;
    let mut col = 0;
    for width in line.chars().filter_map(UnicodeWidthChar::width) {
        col += width;
        if col > cols && width > 0 {
            rows += 1;
            col = width;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_wide_and_combining_characters() {
        assert_eq!(wrapped_rows("", 10), 1);
        assert_eq!(wrapped_rows(&"\u{4e16}".repeat(5), 10), 1);
        assert_eq!(wrapped_rows(&"\u{4e16}".repeat(6), 10), 2);
        // Two a row, one cell stays empty.
        assert_eq!(wrapped_rows(&"\u{4e16}".repeat(5), 5), 3);
        assert_eq!(wrapped_rows(&"\u{4e16}".repeat(2), 1), 3);
        assert_eq!(wrapped_rows(&"e\u{301}".repeat(10), 10), 1);
        assert_eq!(wrapped_rows(&"e\u{301}".repeat(11), 10), 2);
    }

    #[test]
    fn cut_to_cells() {
        let wide = "\u{4e16}".repeat(5);
        for (text, cells, expected) in [
            ("abcde", 5, "abcde"),
            ("abcdef", 5, "ab..."),
            ("abcdef", 3, "..."),
            ("abcdef", 1, "."),
            ("abcdef", 0, ""),
            ("", 0, ""),
            (&wide, 10, &wide),
            // A wide character that only half fits is left out.
            (&wide, 9, "\u{4e16}\u{4e16}\u{4e16}..."),
            (&wide, 8, "\u{4e16}\u{4e16}..."),
            ("e\u{301}e\u{301}e\u{301}e\u{301}", 4, "e\u{301}e\u{301}e\u{301}e\u{301}"),
            ("e\u{301}e\u{301}e\u{301}e\u{301}x", 4, "e\u{301}..."),
        ] {
            assert_eq!(cut_cells(text.to_owned(), cells), expected, "{text} {cells}");
        }
    }
}
