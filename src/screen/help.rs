//! What the keys do, in words.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::filter::KEYS;
use super::state::{Place, State};
use super::text::wrapped;

/// A key and what it does.
type Key = (&'static str, &'static str);

const LIST: &[Key] = &[
    ("↑ ↓ PgUp PgDn Home End", "select a row; so does the wheel"),
    ("Enter, second click", "open the row: remote ends, processes, history"),
    ("/", "filter (below)"),
    (
        "s S, click on a title",
        "sort by the next or previous column, or that one; a second click reverses",
    ),
    ("o", "reverse the order"),
    ("m", "rates or totals"),
    (
        "g G",
        "group by process, program, file, user, unit, container, pod, remote host, port, interface, protocol",
    ),
    ("a", "show rows that were idle for 40 s, too"),
    ("c", "choose the columns"),
];

const EVERYWHERE: &[Key] = &[
    ("w", "mean of 2, 10 or 40 seconds"),
    ("r", "the figures of the last refresh, or the mean"),
    ("u", "units: KiB, Kibit, kB, kbit, plain bytes"),
    ("Space", "freeze what is shown; counting goes on"),
    ("t", "colours, no colours, ASCII"),
    ("l", "list the messages and alerts"),
    ("?", "help"),
    ("Esc", "back; in the list: clear the filter, then go to the top"),
    ("q, Ctrl-C", "quit"),
    ("Ctrl-Z", "suspend; fg continues"),
];

const DETAIL: &[Key] =
    &[("↑ ↓ PgUp PgDn Home End", "scroll"), ("Esc, Enter, ←", "back to the list")];

const COLUMNS: &[Key] = &[
    ("↑ ↓", "select a column"),
    ("Space", "show it or not"),
    ("← →", "move it to the left or right"),
    ("Del", "the columns of the start"),
    ("Esc, Enter", "back to the list"),
];

/// The keys that matter where the user is, the most important first.
pub(super) fn footer(state: &State) -> &'static [Key] {
    match state.place() {
        Place::List if state.live.is_some() => &[
            ("q", "quit"),
            ("Space", "continue"),
            ("?", "help"),
            ("Enter", "open"),
            ("/", "filter"),
            ("s", "sort"),
        ],
        Place::List => &[
            ("q", "quit"),
            ("?", "help"),
            ("Enter", "open"),
            ("/", "filter"),
            ("s", "sort"),
            ("m", "totals"),
            ("w", "window"),
            ("r", "raw"),
            ("u", "units"),
            ("a", "idle"),
            ("c", "columns"),
            ("Space", "freeze"),
            ("g", "group"),
            ("l", "messages"),
            ("t", "theme"),
        ],
        Place::Detail => &[
            ("Esc", "back"),
            ("q", "quit"),
            ("?", "help"),
            ("↑↓", "scroll"),
            ("w", "window"),
            ("r", "raw"),
            ("u", "units"),
            ("Space", "freeze"),
        ],
        Place::Columns => &[
            ("Esc", "back"),
            ("Space", "show or hide"),
            ("←→", "move"),
            ("Del", "reset"),
            ("?", "help"),
        ],
        Place::Messages | Place::Help => &[("Esc", "back"), ("q", "quit"), ("↑↓", "scroll")],
    }
}

impl State {
    fn heading(&self, text: &str) -> Line<'static> {
        Line::from(Span::styled(text.to_owned(), self.theme.title()))
    }

    /// The help for the place from which it was opened.
    pub(super) fn help_lines(&self, width: usize) -> Vec<Line<'static>> {
        let from = self.places.iter().rev().find(|place| **place != Place::Help);
        let (title, keys) = match from {
            Some(Place::Detail) => ("One row", DETAIL),
            Some(Place::Columns) => ("Columns", COLUMNS),
            Some(Place::Messages) => ("Messages", DETAIL),
            _ => ("List", LIST),
        };
        let mut lines = Vec::new();
        let is_list = keys.len() == LIST.len();
        for (title, keys) in [(title, keys), ("Everywhere", EVERYWHERE)] {
            lines.push(self.heading(title));
            for (key, what) in keys {
                let cells = if width < 60 { 12 } else { 24 };
                let first = Span::styled(format!("  {key:<cells$} "), self.theme.title());
                let mut text = wrapped(what, width.saturating_sub(cells + 3).max(8)).into_iter();
                let what = text.next().unwrap_or_default();
                lines.push(Line::from(vec![first, Span::raw(what)]));
                lines.extend(text.map(|line| Line::from(format!("{:1$}{line}", "", cells + 3))));
            }
            lines.push(Line::default());
        }
        if is_list {
            lines.push(self.heading("Filter"));
            let keys = KEYS.map(|key| format!("{key}:")).join(" ");
            for text in [
                "Terms are separated by spaces, and all of them have to match. A term is plain text (in the name, the \
                 program, the user, the unit, the container), /regex/ (on the name), or a key with a value:",
                &keys,
                "Capital and small letters are the same. Tab completes a key.",
            ] {
                let text = wrapped(text, width.saturating_sub(2).clamp(8, 100));
                lines.extend(text.into_iter().map(|line| Line::from(format!("  {line}"))));
            }
            lines.push(Line::default());
            lines.push(self.heading("What is shown"));
            for text in [
                "A rate is the mean of the last seconds that the header names, or of the time since the start if that \
                 is shorter. A row passes another one when it was at least 10 % bigger in two refreshes. The share is \
                 that of all bytes, in and out together. Rows in (parentheses) are bytes without a process; open one \
                 to see why.",
                "While the program has the mouse, Shift and the mouse select text.",
            ] {
                let text = wrapped(text, width.saturating_sub(2).clamp(8, 100));
                lines.extend(text.into_iter().map(|line| Line::from(format!("  {line}"))));
            }
        }
        lines
    }

    /// The choice of columns.
    pub(super) fn column_lines(&self) -> Vec<Line<'static>> {
        let shown = self.columns.placed(self.width, self.units, self.totals);
        let mut lines = vec![self.heading("Columns, from left to right")];
        for (at, (column, wanted)) in self.columns.all.iter().enumerate() {
            let mark = if *wanted { "[x]" } else { "[ ]" };
            let has_room = shown.iter().any(|placed| placed.column == *column);
            let note = if *wanted && !has_room { " (no room)" } else { "" };
            let text = format!(" {mark} {:<10} {}{note} ", column.name(), column.help());
            let style = if at == self.chosen { self.theme.selected() } else { Style::new() };
            lines.push(Line::from(Span::styled(text, style)));
        }
        lines
    }

    /// The alerts that fire, and the messages, the newest first.
    pub(super) fn message_lines(&self, width: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let sets = [
            ("Alerts", &self.frame.alerts, self.theme.alert()),
            ("Messages, the newest first", &self.frame.above, Style::new()),
        ];
        for (title, texts, style) in sets {
            if texts.is_empty() && title == "Alerts" {
                continue;
            }
            lines.push(self.heading(title));
            for text in texts.iter().rev() {
                let text = wrapped(&self.theme.shown(text.clone()), width.max(8));
                lines.extend(text.into_iter().map(|line| Line::from(Span::styled(line, style))));
            }
            if texts.is_empty() {
                lines.push(Line::from("none"));
            }
            lines.push(Line::default());
        }
        lines
    }
}
