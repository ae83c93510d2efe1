//! Draws the whole screen.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::help;
use super::state::{Place, State};
use super::text::{Pen, cut, fit};

/// How long a message stays after the last one has come.
const MESSAGE: Duration = Duration::from_secs(20);

/// Replaces what is beyond ASCII: the signs of keys in the help. Names and messages are escaped already.
fn keep_ascii(buffer: &mut Buffer) {
    for cell in buffer.content.iter_mut().filter(|cell| !cell.symbol().is_ascii()) {
        let sign = match cell.symbol() {
            "\u{2190}" => "<",
            "\u{2191}" => "^",
            "\u{2192}" => ">",
            "\u{2193}" => "v",
            _ => "?",
        };
        cell.set_symbol(sign);
    }
}

impl State {
    /// Draws the screen, which has the size of the buffer.
    pub(crate) fn draw(&self, buffer: &mut Buffer) {
        let areas = self.areas();
        self.draw_header(buffer, areas.header);
        match self.place() {
            Place::List => self.draw_table(buffer, areas.titles, areas.header, areas.list),
            _ => self.draw_text(buffer, areas.header, areas.text()),
        }
        let mut below = areas.header + areas.text();
        if areas.message {
            self.draw_message(&mut Pen::new(buffer, below));
            below += 1;
        }
        if areas.footer {
            self.draw_footer(&mut Pen::new(buffer, below));
        }
        if self.theme.escapes() {
            keep_ascii(buffer);
        }
    }

    /// The text that is shown instead of the list.
    fn text(&self) -> Vec<Line<'static>> {
        let width = usize::from(self.width);
        match self.place() {
            Place::List => Vec::new(),
            Place::Detail => self.detail_lines(width),
            Place::Columns => self.column_lines(),
            Place::Messages => self.message_lines(width),
            Place::Help => self.help_lines(width),
        }
    }

    /// Lines of that text.
    pub(super) fn text_lines(&self) -> usize {
        self.text().len()
    }

    fn draw_text(&self, buffer: &mut Buffer, y: u16, lines: u16) {
        let text = self.text();
        let scroll = self.scroll.min(text.len().saturating_sub(1));
        for (line, y) in text.iter().skip(scroll).take(lines.into()).zip(y..) {
            let width = buffer.area.width;
            if y < buffer.area.height {
                buffer.set_line(0, y, line, width);
            }
        }
        let below = text.len().saturating_sub(scroll + usize::from(lines));
        if below > 0 && lines > 1 {
            let mut pen = Pen::new(buffer, y + lines - 1);
            pen.put_last(&format!(" {below} more lines "), self.theme.bar());
        }
    }

    /// The alert that fires, or the last message, and whether it is an alert.
    pub(super) fn message(&self) -> Option<(String, bool)> {
        let frame = &self.frame;
        if let Some(alert) = frame.alerts.last() {
            let more = frame.alerts.len() - 1;
            let more = if more > 0 { format!(" (+{more}, l lists them)") } else { String::new() };
            return Some((format!("{alert}{more}"), true));
        }
        let now = frame.snapshot.instant;
        let is_new = |at| now.saturating_duration_since(at) < MESSAGE;
        let last = frame.above.last().filter(|_| self.said_at.is_some_and(is_new))?;
        Some((last.clone(), false))
    }

    fn draw_message(&self, pen: &mut Pen<'_>) {
        let Some((message, is_alert)) = self.message() else { return };
        let style = if is_alert { self.theme.alert() } else { Style::new() };
        let room = pen.room();
        pen.put(&cut(message, room, self.theme), style);
    }

    /// The keys that matter here, or the filter that is typed.
    fn draw_footer(&self, pen: &mut Pen<'_>) {
        let theme = self.theme;
        if let Some(prompt) = &self.prompt {
            pen.put("/", theme.title());
            // The end of a long text is where one types.
            let room = pen.room().saturating_sub(24).max(8);
            let skip = prompt.text.chars().count().saturating_sub(room);
            let typed: String = prompt.text.chars().skip(skip).collect();
            pen.put(&fit(typed.as_bytes(), room, theme), Style::new());
            pen.put(" ", Style::new().add_modifier(Modifier::REVERSED));
            pen.put("  ", Style::new());
            match &prompt.error {
                Some(error) => pen.put(&cut(error.clone(), pen.room(), theme), theme.alert()),
                None => {
                    let hint = "Enter keeps it, Esc clears it; user: unit: port: remote: /regex/";
                    pen.put(&cut(hint.to_owned(), pen.room(), theme), theme.dim());
                }
            }
            return;
        }
        for (key, what) in help::footer(self) {
            let cells = key.chars().count() + 1 + what.len() + 2;
            if cells > pen.room() + 2 {
                break;
            }
            pen.put(key, theme.title());
            pen.put(" ", Style::new());
            pen.put(what, theme.dim());
            pen.put("  ", Style::new());
        }
    }
}
