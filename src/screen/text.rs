//! Text in cells of the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr;

use super::theme::Theme;
use crate::escape::visible_cut;
use crate::render::units::Units;

/// Writes one line from left to right.
pub(super) struct Pen<'a> {
    pub buffer: &'a mut Buffer,
    pub x: u16,
    pub y: u16,
    /// The first cell behind the line.
    pub end: u16,
}

impl<'a> Pen<'a> {
    /// At the beginning of a line of the buffer.
    pub(super) fn new(buffer: &'a mut Buffer, y: u16) -> Pen<'a> {
        let Rect { x, width, .. } = buffer.area;
        Pen { x, y, end: x + width, buffer }
    }

    /// Cells that are left.
    pub(super) fn room(&self) -> usize {
        self.end.saturating_sub(self.x).into()
    }

    /// Writes text, which is safe to print, as far as there is room.
    pub(super) fn put(&mut self, text: &str, style: Style) {
        let Rect { y, height, .. } = self.buffer.area;
        if self.room() == 0 || self.y < y || self.y >= y + height {
            return;
        }
        (self.x, _) = self.buffer.set_stringn(self.x, self.y, text, self.room(), style);
    }

    /// Writes text if all of it has room. Returns whether it has.
    pub(super) fn put_whole(&mut self, text: &str, style: Style) -> bool {
        let fits = text.width() <= self.room();
        if fits {
            self.put(text, style);
        }
        fits
    }

    /// Writes text that ends at the end of the line, if it has room.
    pub(super) fn put_last(&mut self, text: &str, style: Style) {
        let cells = text.width();
        if cells < self.room() {
            self.x = self.end - cells as u16;
            self.put(text, style);
        }
    }
}

/// Untrusted text that fits into `cells` cells, safe to print.
pub(super) fn fit(text: &[u8], cells: usize, theme: Theme) -> String {
    // A character may take no cell, but a screen needs only few of those.
    cut(visible_cut(text, cells.saturating_mul(4).saturating_add(4)), cells, theme)
}

/// A command line that fits into `cells` cells: without the folders of its program if it is too long.
pub(super) fn fit_name(name: &[u8], cells: usize, theme: Theme) -> String {
    let whole = fit(name, cells, theme);
    let first = name.split(|byte| *byte == b' ').next().unwrap_or_default();
    let folders = first.iter().rposition(|byte| *byte == b'/').filter(|_| first.starts_with(b"/"));
    let is_cut = cells > 2 && whole.ends_with(theme.cut());
    let Some(folders) = folders.filter(|_| is_cut) else { return whole };
    // The sign stays before the rest, so that no folder makes a name look like another row's.
    let sign = theme.cut();
    sign.to_owned() + &fit(&name[folders..], cells.saturating_sub(sign.width()), theme)
}

/// Text that fits into `cells` cells.
pub(super) fn cut(text: String, cells: usize, theme: Theme) -> String {
    let text = theme.shown(text);
    if text.width() <= cells {
        return text;
    }
    let sign = theme.cut();
    let room = cells.saturating_sub(sign.width());
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if short.width() > room {
            short.pop();
            break;
        }
    }
    if cells > 0 {
        short.push_str(sign);
    }
    short
}

/// Bytes in these units, in `width` cells at most.
pub(super) fn figure(units: Option<Units>, bytes: f64, narrow: bool) -> String {
    match units {
        _ if narrow => crate::render::short(bytes),
        Some(units) => units.brief(bytes),
        None => format!("{bytes:.0}"),
    }
}

/// Bytes in a sentence.
pub(super) fn in_words(units: Option<Units>, bytes: f64) -> String {
    match units {
        Some(units) => units.brief(bytes).trim().to_owned(),
        None => format!("{bytes:.0} B"),
    }
}

/// Bytes per second in a sentence.
pub(super) fn per_second(units: Option<Units>, bytes: f64) -> String {
    in_words(units, bytes) + "/s"
}

/// A time: `0:07`, `12:34`, `1:02:03`, `2 d 03:04`.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{:02}", seconds % 60),
        (0, hours) => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
        (days, hours) => format!("{days} d {hours:02}:{minutes:02}"),
    }
}

/// Lines of a sentence, broken at spaces.
pub(super) fn wrapped(text: &str, cells: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.width() + 1 + word.width() > cells {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_by_cells() {
        let fit = |text: &str, cells| fit(text.as_bytes(), cells, Theme::Plain);
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("世世世", 5), "世世…");
        assert_eq!(fit("世世世", 4), "世…");
        assert_eq!(fit("a\x1b[2J", 9), "a\\x1b[2J");
        assert_eq!(fit("e\u{301}e\u{301}e", 3), "e\u{301}e\u{301}e");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(cut("abcd".to_owned(), 3, Theme::Ascii), "ab~");
        // An escape is longer than what it stands for.
        assert_eq!(super::fit("\u{db}\u{db}".as_bytes(), 9, Theme::EightBit), "\\u{db}\\u~");
        assert_eq!(super::fit("\u{db}".as_bytes(), 6, Theme::EightBit), "\\u{db}");
    }

    #[test]
    fn a_long_command_line_has_its_program() {
        let fit = |text: &str, cells| fit_name(text.as_bytes(), cells, Theme::Plain);
        assert_eq!(fit("/usr/bin/ssh host", 20), "/usr/bin/ssh host");
        assert_eq!(fit("/usr/bin/ssh host", 12), "…/ssh host");
        assert_eq!(fit("/usr/bin/ssh host", 8), "…/ssh h…");
        assert_eq!(fit("ssh /a/b/c/d/e", 8), "ssh /a/…");
        assert_eq!(fit("/usr/bin/(kernel) and more", 12), "…/(kernel) …");
        assert_eq!(fit("/usr/bin/ssh", 1), "…");
        assert_eq!(fit("/usr/bin/ssh", 0), "");
    }

    #[test]
    fn times() {
        for (seconds, expected) in
            [(7, "0:07"), (754, "12:34"), (3723, "1:02:03"), (183_840, "2 d 03:04")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn sentences_are_broken_at_spaces() {
        assert_eq!(wrapped("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("abcdef", 3), ["abcdef"]);
    }
}
