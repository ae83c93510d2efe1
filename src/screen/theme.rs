//! Colours and signs.

use std::env;

use ratatui::style::{Color, Modifier, Style};

use crate::escape::ascii;
use crate::locale::is_utf8;

/// How things look. Colours are those that a terminal has names for, on its own background, which may be light or
/// dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    /// Colours.
    Colours,
    /// Bold, dim and reversed text instead of colours.
    Plain,
    /// As [`Theme::Plain`], and ASCII alone for all but names.
    Ascii,
    /// As [`Theme::Plain`], and ASCII alone: the terminal is not one of UTF-8.
    EightBit,
    /// As [`Theme::EightBit`], with colours.
    EightBitColours,
}

impl Theme {
    /// Those of terminals of UTF-8, in the order of the key.
    pub(super) const ALL: [Theme; 3] = [Theme::Colours, Theme::Plain, Theme::Ascii];
    /// Those of other terminals.
    pub(super) const EIGHT_BIT: [Theme; 2] = [Theme::EightBit, Theme::EightBitColours];

    /// The one that the environment asks for: `$NO_COLOR` (no-color.org), a locale that is not UTF-8, or a console
    /// without the signs.
    pub(super) fn of_environment() -> Theme {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        if !is_utf8() {
            return Theme::EightBit;
        }
        if set("TERM").is_some_and(|term| term == "linux") {
            return Theme::Ascii;
        }
        if set("NO_COLOR").is_some() { Theme::Plain } else { Theme::Colours }
    }

    /// The next one.
    pub(super) fn next(self) -> Theme {
        let all: &[Theme] = if self.escapes() { &Theme::EIGHT_BIT } else { &Theme::ALL };
        let at = all.iter().position(|theme| *theme == self).unwrap_or_default();
        all[(at + 1) % all.len()]
    }

    /// Whether signs are ASCII.
    pub(super) fn is_ascii(self) -> bool {
        self == Theme::Ascii || self.escapes()
    }

    /// Whether what is beyond ASCII in a name is escaped.
    pub(super) fn escapes(self) -> bool {
        Theme::EIGHT_BIT.contains(&self)
    }

    /// Text, which is safe to print, as this terminal gets it.
    pub(super) fn shown(self, text: String) -> String {
        if self.escapes() { ascii(&text).into_owned() } else { text }
    }

    fn coloured(self, color: Color) -> Style {
        let has_colours = matches!(self, Theme::Colours | Theme::EightBitColours);
        if has_colours { Style::new().fg(color) } else { Style::new() }
    }

    /// Received bytes.
    pub(super) fn received(self) -> Style {
        self.coloured(Color::Green)
    }

    /// Sent bytes.
    pub(super) fn sent(self) -> Style {
        self.coloured(Color::Magenta)
    }

    /// Both together.
    pub(super) fn both(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// What is less important.
    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Titles.
    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What needs attention.
    pub(super) fn alert(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The titles of columns.
    pub(super) fn bar(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The selected row.
    pub(super) fn selected(self) -> Style {
        // Colours would become backgrounds.
        let style = Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED);
        style.remove_modifier(Modifier::DIM)
    }

    /// A part of a whole, 0 to 1, as a bar of this many cells.
    pub(super) fn share(self, part: f64, cells: usize) -> String {
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        let steps = if self.is_ascii() { 1 } else { 8 };
        // What is not nothing can be seen.
        let least = usize::from(part > 0.0);
        let eighths = ((part * (cells * steps) as f64).round() as usize).max(least);
        let (full, rest) = (eighths / steps, eighths % steps);
        if self.is_ascii() {
            return format!("{:<cells$}", "#".repeat(full));
        }
        let mut bar = "█".repeat(full);
        bar.extend(['▏', '▎', '▍', '▌', '▋', '▊', '▉'].get(rest.wrapping_sub(1)));
        format!("{bar:<cells$}")
    }

    /// A sign for a height of `eighths`, 0 to 8.
    pub(super) fn height(self, eighths: usize) -> char {
        let signs = match self {
            _ if self.is_ascii() => [' ', '.', '.', ':', '-', '=', '+', '*', '#'],
            _ => [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        };
        signs[eighths.min(8)]
    }

    /// The sign of an order, the biggest first or last.
    pub(super) fn arrow(self, reversed: bool) -> char {
        match (self.is_ascii(), reversed) {
            (true, false) => 'v',
            (true, true) => '^',
            (false, false) => '▼',
            (false, true) => '▲',
        }
    }

    /// What stands between two things.
    pub(super) fn dot(self) -> &'static str {
        if self.is_ascii() { " | " } else { " · " }
    }

    /// What stands where a text is cut.
    pub(super) fn cut(self) -> &'static str {
        if self.is_ascii() { "~" } else { "…" }
    }

    /// Heights of figures in one line, with a sign for each; `scale` is the greatest height, which does not touch the
    /// line above.
    pub(super) fn heights(self, figures: &[f64], scale: f64) -> String {
        let height = |figure: &f64| match *figure > 0.0 && scale > 0.0 {
            true => ((figure / scale * 7.0).round() as usize).clamp(1, 7),
            false => 0,
        };
        figures.iter().map(|figure| self.height(height(figure))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_is_not_utf8_stays_with_ascii() {
        for theme in [Theme::EightBit, Theme::EightBit.next(), Theme::EightBit.next().next()] {
            assert!(theme.is_ascii());
            assert_eq!(theme.shown("\u{db}2J".to_owned()), "\\u{db}2J");
            assert_eq!(theme.share(0.5, 4), "##  ");
        }
        assert_ne!(Theme::EightBit.next(), Theme::EightBit);
        assert_eq!(Theme::Ascii.shown("\u{db}".to_owned()), "\u{db}");
        assert_eq!(Theme::Ascii.next(), Theme::Colours);
    }

    #[test]
    fn bars_and_heights() {
        assert_eq!(Theme::Plain.share(0.5, 4), "██  ");
        assert_eq!(Theme::Plain.share(0.001, 4), "▏   ");
        assert_eq!(Theme::Plain.share(0.3, 4), "█▎  ");
        assert_eq!(Theme::Plain.share(7.0, 2), "██");
        assert_eq!(Theme::Plain.share(f64::NAN, 2), "  ");
        assert_eq!(Theme::Ascii.share(0.5, 4), "##  ");
        assert_eq!(Theme::Ascii.share(0.01, 4), "#   ");
        assert_eq!(Theme::Plain.heights(&[0.0, 0.1, 4.0, 7.0], 7.0), " ▁▄▇");
        assert_eq!(Theme::Ascii.heights(&[0.0, 8.0], 8.0), " *");
        assert_eq!(Theme::Ascii.heights(&[0.0, 1.0], 0.0), "  ");
    }
}
