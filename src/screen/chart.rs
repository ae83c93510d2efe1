//! The history of a row as a chart.

use ratatui::text::Line;

use super::detail::span;
use super::rates::POINTS;
use super::rows::Key;
use super::state::State;
use super::text::{duration, per_second};
use crate::model::traffic::Rate;

/// Lines of a direction.
const CHART: usize = 4;

impl State {
    /// The history of a row, in and out on the same scale.
    pub(super) fn chart(&self, key: &Key, width: usize, lines: &mut Vec<Line<'static>>) {
        let cells = width.saturating_sub(16).min(POINTS);
        if cells < 4 {
            return;
        }
        let history = self.meters.history(key, cells, 1);
        let each = |rate: &Rate| [rate.received, rate.sent];
        let most = history.iter().flat_map(each).fold(0.0, f64::max);
        let span_of = self.meters.span(cells) as u64;
        let title = format!("last {}, up to {}", duration(span_of), per_second(self.units, most));
        lines.push(Line::from(span(title, self.theme.title())));
        for (direction, name, style) in
            [(0, "in", self.theme.received()), (1, "out", self.theme.sent())]
        {
            let figures: Vec<f64> = history.iter().map(|rate| each(rate)[direction]).collect();
            for line in (0..CHART).rev() {
                let eighths = |figure: &f64| {
                    let all = if most > 0.0 { figure / most * (CHART * 8) as f64 } else { 0.0 };
                    // What is not nothing can be seen.
                    let all = if *figure > 0.0 { (all.round() as usize).max(1) } else { 0 };
                    all.saturating_sub(line * 8).min(8)
                };
                let signs: String =
                    figures.iter().map(|figure| self.theme.height(eighths(figure))).collect();
                let label = if line == 0 { name } else { "" };
                lines.push(Line::from(vec![
                    span(format!("{label:>4} "), self.theme.dim()),
                    span(format!("{signs:>cells$}"), style),
                ]));
            }
        }
        lines.push(Line::default());
    }
}
