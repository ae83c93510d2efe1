//! The lines above the list: the host and its source, all bytes, and how the list is made.

use ratatui::buffer::Buffer;
use ratatui::style::{Modifier, Style};

use super::columns::Column;
use super::rates::Window;
use super::state::State;
use super::text::{Pen, cut, duration, fit, in_words, per_second};
use crate::model::traffic::Rate;
use crate::model::{Account, Looked};

/// Cells of the graph of all bytes, at most, and points of a cell.
const GRAPH: usize = 60;
const PER_CELL: u64 = 2;

impl State {
    /// Draws the header in its lines.
    pub(super) fn draw_header(&self, buffer: &mut Buffer, lines: u16) {
        match lines {
            0 => {}
            1 => self.draw_rates_in_a_line(&mut Pen::new(buffer, 0)),
            2 | 3 => {
                self.draw_host(&mut Pen::new(buffer, 0));
                self.draw_rates_in_a_line(&mut Pen::new(buffer, 1));
            }
            _ => {
                self.draw_host(&mut Pen::new(buffer, 0));
                let graph = usize::from(buffer.area.width).saturating_sub(51).min(GRAPH);
                let history = self.sums.history(&(), graph, PER_CELL);
                self.draw_direction(&mut Pen::new(buffer, 1), true, &history, graph);
                self.draw_direction(&mut Pen::new(buffer, 2), false, &history, graph);
                self.draw_order(&mut Pen::new(buffer, 3));
            }
        }
    }

    /// The rate of everything over the chosen window.
    fn sum_rate(&self) -> Rate {
        let raw = || self.frame.snapshot.rate(&self.frame.snapshot.counted);
        match self.window {
            Window::Raw => raw(),
            window => self.sums.rate(&(), window).unwrap_or_else(raw),
        }
    }

    fn draw_host(&self, pen: &mut Pen<'_>) {
        let (theme, snapshot) = (self.theme, &self.frame.snapshot);
        pen.put(self.setup.program, theme.title());
        pen.put(" ", Style::new());
        pen.put(&fit(self.setup.host.as_bytes(), 30, theme), Style::new());
        if self.live.is_some() {
            pen.put("  ", Style::new());
            pen.put(" FROZEN ", theme.alert().add_modifier(Modifier::REVERSED));
        }
        let up = self
            .begun
            .map_or(0, |begun| snapshot.instant.saturating_duration_since(begun).as_secs());
        for (at, health) in snapshot.health.iter().enumerate() {
            let problem = health_problem(&health.looked);
            let (text, style) = match problem {
                None => (" ok".to_owned(), theme.received()),
                Some(problem) => (format!(" {problem}"), theme.alert()),
            };
            let before = if at == 0 { "   source " } else { ", " };
            let name = health.source.name();
            if before.len() + name.len() + text.len() > pen.room() {
                break;
            }
            pen.put(before, theme.dim());
            pen.put(name, Style::new());
            pen.put(&text, style);
        }
        pen.put_last(&format!("up {}", duration(up)), theme.dim());
    }

    /// A direction of all bytes: its rate, its total, its graph; then one of two further facts.
    fn draw_direction(&self, pen: &mut Pen<'_>, received: bool, history: &[Rate], graph: usize) {
        let theme = self.theme;
        let of = |rate: &Rate| if received { rate.received } else { rate.sent };
        let counted = self.frame.snapshot.counted.total;
        let total = if received { counted.received } else { counted.sent };
        let (name, style) = match received {
            true => ("in  ", theme.received()),
            false => ("out ", theme.sent()),
        };
        pen.put(name, style.add_modifier(Modifier::BOLD));
        let rate = per_second(self.units, of(&self.sum_rate()));
        pen.put(&format!("{rate:>14}"), style.add_modifier(Modifier::BOLD));
        pen.put("   total ", theme.dim());
        pen.put(&format!("{:<9}", in_words(self.units, total as f64)), Style::new());
        let figures: Vec<f64> = history.iter().map(of).collect();
        let most = figures.iter().copied().fold(0.0, f64::max);
        if graph >= 8 {
            pen.put(" ", Style::new());
            let heights = theme.heights(&figures, most);
            pen.put(&format!("{heights:>graph$}"), style);
            pen.put_whole(&format!(" max {}", per_second(self.units, most)), theme.dim());
        }
    }

    fn draw_rates_in_a_line(&self, pen: &mut Pen<'_>) {
        let (theme, rate) = (self.theme, self.sum_rate());
        let bold = |style: Style| style.add_modifier(Modifier::BOLD);
        let narrow = pen.room() < 36;
        let figure = |bytes: f64| match narrow {
            true => crate::render::short(bytes),
            false => per_second(self.units, bytes),
        };
        pen.put("in ", bold(theme.received()));
        pen.put(&figure(rate.received), bold(theme.received()));
        pen.put("  out ", bold(theme.sent()));
        pen.put(&figure(rate.sent), bold(theme.sent()));
        if self.live.is_some() {
            pen.put(" FROZEN", theme.alert());
        }
        let counted = self.frame.snapshot.counted.total;
        let (received, sent) = (counted.received as f64, counted.sent as f64);
        let totals =
            format!("   total {} / {}", in_words(self.units, received), in_words(self.units, sent));
        pen.put_whole(&totals, theme.dim());
        pen.put_whole(&format!("   {}", self.window.name()), theme.dim());
    }

    /// How the list is made, and what is not on it.
    fn draw_order(&self, pen: &mut Pen<'_>) {
        let theme = self.theme;
        let dot = theme.dot();
        let shown = match self.totals {
            true => "totals".to_owned(),
            false => self.window.name(),
        };
        pen.put(&shown, theme.title());
        let steady = match (self.is_steady(), self.window) {
            (true, Window::Raw | Window::Seconds(2)) => ", steady, by 10 s",
            (true, _) => ", steady",
            (false, _) => "",
        };
        let by = match self.sort {
            Column::Share => "in+out",
            column => column.name(),
        };
        let arrow = theme.arrow(self.reversed);
        pen.put(&format!("{dot}order {by}{arrow}{steady}"), Style::new());
        if !self.by().is_empty() {
            let by: Vec<&str> = self.by().iter().map(|by| by.name()).collect();
            pen.put(dot, Style::new());
            pen.put(&format!("by {}", by.join(", ")), theme.title());
        }
        let (listed, all) = (self.listed.len(), self.entries.len());
        pen.put(&format!("{dot}{listed} of {all} rows"), theme.dim());
        if !self.filter.is_empty() {
            let room = pen.room().min(40).saturating_sub(12);
            let filter = fit(self.filter_text.as_bytes(), room, theme);
            pen.put(&format!("{dot}filter "), Style::new());
            pen.put(&filter, theme.title());
        }
        let unattributed = self.unattributed();
        if !unattributed.is_empty() {
            let room = pen.room();
            let text = cut(format!("{dot}{unattributed}"), room, theme);
            pen.put(&text, Style::new());
        }
    }

    /// The bytes without a process, and those that are left out, in words.
    fn unattributed(&self) -> String {
        let snapshot = &self.frame.snapshot;
        let words = |account: &Account| in_words(self.units, account.total.total() as f64);
        let mut reasons: Vec<_> = snapshot.unattributed.iter().collect();
        reasons.retain(|of| !of.account.is_zero());
        reasons.sort_by_key(|of| std::cmp::Reverse(of.account.total.total()));
        let sum: Account = reasons.iter().map(|of| of.account).sum();
        let mut parts = Vec::new();
        if !sum.is_zero() {
            let each = reasons.iter().take(2).map(|of| match reasons.len() {
                1 => of.reason.to_string(),
                _ => format!("{} {}", of.reason, words(&of.account)),
            });
            let each: Vec<String> = each.collect();
            parts.push(format!("no process {} ({})", words(&sum), each.join(", ")));
        }
        if !snapshot.left_out.is_zero() {
            parts.push(format!("left out {}", words(&snapshot.left_out)));
        }
        parts.join(", ")
    }
}

/// What is wrong with a source, in a few words; the messages say the rest.
fn health_problem(looked: &Looked) -> Option<String> {
    let events = looked.lost_ends + looked.lost_new_flows + looked.lost_processes;
    Some(match looked {
        of if of.unread.is_anything() => "still reading".to_owned(),
        Looked { failed: Some(errno), .. } => format!("descriptors: {errno}"),
        of if of.overflow.is_some() => "table of sockets is full".to_owned(),
        of if of.denied > 0 => format!("no permission: {} processes", of.denied),
        of if of.refused > 0 => format!("no permission: {} namespaces", of.refused),
        of if of.uncounted > 0 => format!("{} flows without counters", of.uncounted),
        _ if events > 0 => format!("{events} events lost"),
        of if of.malformed > 0 => format!("{} entries unreadable", of.malformed),
        of if of.incomplete => "changing too fast".to_owned(),
        of if of.forwarded_error.is_some() => "forwarded traffic unreadable".to_owned(),
        _ => return None,
    })
}
