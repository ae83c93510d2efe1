//! The list: titles, and the rows that are on the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr;

use super::columns::{Column, Columns, Placed};
use super::rows::{Entry, Fact, Key, places};
use super::state::State;
use super::text::{Pen, cut, figure, fit, fit_name};
use crate::model::traffic::Name;
use crate::model::{Kind, Row};

impl State {
    /// Draws the titles and the list from this line on.
    pub(super) fn draw_table(&self, buffer: &mut Buffer, titles: bool, mut y: u16, lines: u16) {
        let width = buffer.area.width;
        let placed = self.columns.placed(width, self.units, self.totals);
        if titles {
            self.draw_titles(buffer, y, &placed);
            y += 1;
        }
        let most = self.most();
        for line in 0..lines {
            let Some(at) = self.listed.get(self.offset + usize::from(line)) else { break };
            let selected = self.offset + usize::from(line) == self.cursor;
            self.draw_entry(buffer, y + line, &placed, &self.entries[*at], most);
            if selected {
                let row = Rect { x: 0, y: y + line, width, height: 1 };
                let row = row.intersection(buffer.area);
                buffer.set_style(row, self.theme.selected());
            }
        }
        if self.listed.is_empty() && lines > 0 {
            let room = usize::from(width);
            let text = cut(self.empty_text(), room, self.theme);
            Pen::new(buffer, y).put(&text, self.theme.dim());
        }
    }

    /// Why the list is empty.
    fn empty_text(&self) -> String {
        if self.entries.is_empty() {
            return self.frame.if_empty.clone().unwrap_or_else(|| "no traffic yet".to_owned());
        }
        match (self.filter.is_empty(), self.shows_idle || self.totals) {
            (false, true) => "nothing matches the filter; Esc clears it".to_owned(),
            (false, false) => {
                "no busy row matches the filter; a shows idle ones, Esc clears it".to_owned()
            }
            (true, _) => "no traffic in the last 40 s; a shows idle rows".to_owned(),
        }
    }

    fn draw_titles(&self, buffer: &mut Buffer, y: u16, placed: &[Placed]) {
        let width = buffer.area.width;
        let bar = Rect { x: 0, y, width, height: 1 }.intersection(buffer.area);
        buffer.set_style(bar, self.theme.bar());
        for Placed { column, x, width } in placed {
            let sorted = *column == self.sort;
            let mut title = match (column, sorted) {
                (Column::Place, _) => "UNIT, CONTAINER".to_owned(),
                (Column::Graph, _) => format!("LAST {width}"),
                (column, _) => column.title().to_owned(),
            };
            if sorted {
                title.push(self.theme.arrow(self.reversed));
            }
            let cells = usize::from(*width);
            let title = cut(title, cells, self.theme);
            let title = match column.is_figure() {
                true => format!("{}{title}", " ".repeat(cells.saturating_sub(title.width()))),
                false => title,
            };
            let style = if sorted { self.theme.title() } else { Style::new() };
            let mut pen = Pen::new(buffer, y);
            pen.x = *x;
            pen.put(&title, style);
        }
    }

    /// The whole of which a row's share is a part: everything that is on the screen's account.
    fn most(&self) -> f64 {
        if self.totals {
            return self.frame.snapshot.counted.total.total() as f64;
        }
        self.entries.iter().map(|entry| entry.rate.received + entry.rate.sent).sum()
    }

    fn draw_entry(&self, buffer: &mut Buffer, y: u16, placed: &[Placed], entry: &Entry, most: f64) {
        let narrow = Columns::are_narrow(buffer.area.width, self.units);
        let row = self.row(entry);
        let theme = self.theme;
        for Placed { column, x, width } in placed {
            let cells = usize::from(*width);
            let (text, style) = match column {
                Column::In => self.rate_cell(entry.rate.received, theme.received(), narrow),
                Column::Out => self.rate_cell(entry.rate.sent, theme.sent(), narrow),
                Column::TotalIn => self.total_cell(entry.total.received, narrow),
                Column::TotalOut => self.total_cell(entry.total.sent, narrow),
                Column::Share => {
                    let part = match self.totals {
                        true => entry.total.total() as f64,
                        false => entry.rate.received + entry.rate.sent,
                    };
                    (theme.share(part / most, cells), theme.both())
                }
                Column::Graph => {
                    let history = self.meters.history(&entry.key, cells, 1);
                    let sums: Vec<f64> = history.iter().map(|of| of.received + of.sent).collect();
                    let scale = sums.iter().copied().fold(0.0, f64::max);
                    (format!("{:>cells$}", theme.heights(&sums, scale)), theme.both())
                }
                Column::Name => self.name_cell(entry, row, cells),
                column => {
                    let text = row.map(|row| self.text_cell(*column, row, cells));
                    (text.unwrap_or_default(), theme.dim())
                }
            };
            let text = match column.is_figure() {
                true => format!("{}{text}", " ".repeat(cells.saturating_sub(text.width()))),
                false => text,
            };
            let mut pen = Pen::new(buffer, y);
            pen.x = *x;
            pen.end = pen.end.min(*x + *width);
            pen.put(&text, style);
        }
    }

    fn rate_cell(&self, bytes: f64, style: Style, narrow: bool) -> (String, Style) {
        let text = figure(self.units, bytes, narrow);
        if bytes < 0.5 { (text, self.theme.dim()) } else { (text, style) }
    }

    fn total_cell(&self, bytes: u64, narrow: bool) -> (String, Style) {
        let style = if bytes == 0 { self.theme.dim() } else { Style::new() };
        (figure(self.units, bytes as f64, narrow), style)
    }

    fn name_cell(&self, entry: &Entry, row: Option<&Row>, cells: usize) -> (String, Style) {
        match &entry.key {
            Key::Row(name) => {
                let known = !matches!(row, Some(Row { kind: Kind::Folded, .. }));
                let style = if known { Style::new() } else { self.theme.dim() };
                (fit_name(name, cells, self.theme), style)
            }
            Key::Reason(reason) => {
                (cut(format!("({reason})"), cells, self.theme), self.theme.dim())
            }
        }
    }

    fn text_cell(&self, column: Column, row: &Row, cells: usize) -> String {
        let names = |names: Vec<&Name>| match names[..] {
            [] => String::new(),
            [name] => fit(name, cells, self.theme),
            [first, ..] => {
                let more = format!(" +{}", names.len() - 1);
                fit(first, cells.saturating_sub(more.len()), self.theme) + &more
            }
        };
        match column {
            Column::Pid => match &row.processes[..] {
                [] => String::new(),
                [process] => process.pid.to_string(),
                all => {
                    let first = all.iter().map(|process| process.pid).min().unwrap_or_default();
                    cut(format!("{first} +{}", all.len() - 1), cells, self.theme)
                }
            },
            Column::User => names(Fact::User.all(row)),
            Column::Place => names(places(row)),
            Column::Program => names(Fact::Program.all(row)),
            Column::Ends => row.details.len().to_string(),
            _ => String::new(),
        }
    }
}
