//! One line chart as inline SVG: rates over the last 60 s.
//!
//! It contains only numbers and fixed words: names are in the legend, which the page writes.

use std::fmt::Write;
use std::time::Duration;

use maud::{Markup, html};

use super::history::SPAN;

/// Number of lines that can be distinguished by colour and dashes.
pub(super) const STYLES: usize = 10;

/// The size of the drawing and the position of its axes, in SVG units.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 508.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 208.0;

/// Dashes and gaps of each style; no dashes mean a solid line.
pub(super) const DASHES: [&str; STYLES] =
    ["", "8 4", "2 3", "10 3 2 3", "5 3", "16 5", "1 5", "10 3 2 3 2 3", "4 8", "16 3 5 3"];

/// One line.
pub(super) struct Line {
    /// The index of one of the [`STYLES`].
    pub(super) style: usize,
    /// Bytes per second at each of the chart's points; finite and not negative.
    pub(super) rates: Vec<f64>,
}

/// The texts of a chart.
pub(super) struct Words<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    /// The heading.
    pub(super) title: &'a str,
    /// "received" or "sent".
    pub(super) verb: &'a str,
}

/// Draws `lines` with points of these `ages`, the oldest first.
pub(super) fn chart(words: &Words<'_>, ages: &[Duration], lines: &[Line]) -> Markup {
    let peak = lines.iter().flat_map(|line| &line.rates).fold(0.0, |a: f64, &b| a.max(b)) / 1024.0;
    let scale = Scale::up_to(peak);
    let Words { id, title, verb } = words;
    let carried = lines.iter().filter(|line| line.rates.iter().any(|rate| *rate > 0.0));
    html! {
        svg role="img" aria-labelledby={ (id) "-title " (id) "-desc" }
            viewBox=(format_args!("0 0 {WIDTH} {HEIGHT}"))
        {
            title id={ (id) "-title" } { (title) ", KiB/s" }
            desc id={ (id) "-desc" } {
                "Lines of the KiB/s " (verb) " by the busiest applications over the last "
                (SPAN.as_secs()) " s; the highest point is " (kib(peak))
                ". The table below has the newest figures."
            }
            (values(&scale))
            (times())
            @for line in carried {
                polyline class={ "line s" (line.style % STYLES) }
                    points=(points(ages, &line.rates, &scale)) {}
            }
        }
    }
}

/// The points of a line in SVG's syntax.
fn points(ages: &[Duration], rates: &[f64], scale: &Scale) -> String {
    let mut points = String::new();
    for (x, y) in thinned(ages, rates, scale) {
        // Writing to a string does not fail.
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    points
}

/// The vertical axis: a horizontal line for each round value.
fn values(scale: &Scale) -> Markup {
    html! {
        text x=(LEFT) y="14" { "KiB/s" }
        @for value in scale.ticks() {
            @let y = scale.y(value * 1024.0);
            path class="grid" d=(format_args!("M{LEFT} {y:.1}H{RIGHT}")) {}
            text class="end" x=(format_args!("{:.1}", LEFT - 6.0))
                y=(format_args!("{:.1}", y + 5.0))
            {
                (scale.label(value))
            }
        }
    }
}

/// The horizontal axis: a mark for each ten seconds.
fn times() -> Markup {
    let whole = SPAN.as_secs();
    html! {
        @for ago in (0..=whole).rev().step_by(10) {
            @let x = x(Duration::from_secs(ago));
            path class="grid" d=(format_args!("M{x:.1} {BOTTOM}V{}", BOTTOM + 5.0)) {}
            text class=(if ago == 0 { "end" } else { "middle" }) x=(format_args!("{x:.1}"))
                y=(BOTTOM + 22.0)
            {
                @if ago == 0 { "now" } @else { "\u{2212}" (ago) " s" }
            }
        }
    }
}

/// The x coordinate of a point of this age.
fn x(age: Duration) -> f64 {
    let share = (age.as_secs_f64() / SPAN.as_secs_f64()).clamp(0.0, 1.0);
    RIGHT - share * (RIGHT - LEFT)
}

/// The points of a line without those that equal both neighbours.
fn thinned(ages: &[Duration], rates: &[f64], scale: &Scale) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (age, rate) in ages.iter().zip(rates) {
        let (x, y) = (x(*age), scale.y(*rate));
        if let [.., (_, before), (last, level)] = &mut points[..] {
            // With the precision that the page writes.
            if (*before - y).abs() < 0.05 && (*level - y).abs() < 0.05 {
                *last = x;
                continue;
            }
        }
        points.push((x, y));
    }
    // A line of one point would be invisible.
    if let [(x, y)] = points[..] {
        points.insert(0, (x - 4.0, y));
    }
    points
}

/// The vertical axis: from 0 to a round number of KiB/s.
#[derive(Debug)]
struct Scale {
    /// KiB/s between two ticks: 1, 2 or 5 times a power of ten.
    step: f64,
    steps: u32,
}

impl Scale {
    /// The scale for up to `peak` KiB/s, with at most 5 steps.
    fn up_to(peak: f64) -> Scale {
        // The steps of an idle line would be infinitely small; 0.1 KiB/s is the smallest rate worth
        // drawing.
        let peak = if peak.is_finite() { peak.clamp(0.1, 1e15) } else { 0.1 };
        let power = 10f64.powf((peak / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| step * 5.0 >= peak)
            .unwrap_or(power * 10.0);
        // The quotient is at most 5, except for rounding.
        let steps = ((peak / step - 1e-9).ceil() as u32).clamp(1, 5);
        Scale { step, steps }
    }

    fn top(&self) -> f64 {
        self.step * f64::from(self.steps)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|n| self.step * f64::from(n))
    }

    /// The y coordinate of a rate in bytes per second.
    fn y(&self, rate: f64) -> f64 {
        let share = (rate / 1024.0 / self.top()).clamp(0.0, 1.0);
        BOTTOM - share * (BOTTOM - TOP)
    }

    /// A tick, with as many decimals as the step needs; short enough to fit beside the axis.
    fn label(&self, value: f64) -> String {
        if value >= 1e7 {
            return format!("{value:.1e}");
        }
        let decimals = (-self.step.log10().floor()).clamp(0.0, 3.0) as usize;
        format!("{value:.decimals$}")
    }
}

/// A rate in KiB/s, in words.
fn kib(value: f64) -> String {
    format!("{value:.1} KiB/s")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(peak: f64) -> Vec<String> {
        let scale = Scale::up_to(peak);
        scale.ticks().map(|value| scale.label(value)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(0.0), ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]);
        assert_eq!(labels(1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(7.0), ["0", "2", "4", "6", "8"]);
        assert_eq!(labels(100.0), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(1024.1), ["0", "500", "1000", "1500"]);
        assert_eq!(labels(3e7).last().map(String::as_str), Some("3.0e7"));
        assert_eq!(labels(f64::NAN), labels(0.0));
    }

    #[test]
    fn a_level_needs_two_points_and_a_lone_point_too() {
        let ages: Vec<Duration> = (0..9).rev().map(Duration::from_secs).collect();
        let scale = Scale::up_to(1.0);
        let rates = [0.0, 0.0, 0.0, 0.0, 1024.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(thinned(&ages, &rates, &scale).len(), 5);
        assert_eq!(thinned(&ages[..1], &rates[..1], &scale).len(), 2);
        assert!(thinned(&[], &[], &scale).is_empty());
    }

    #[test]
    fn what_never_carried_has_no_line() {
        let words = Words { id: "in", title: "In", verb: "received" };
        let ages = [Duration::from_secs(1), Duration::ZERO];
        let lines = [
            Line { style: 3, rates: vec![0.0, 0.0] },
            Line { style: 12, rates: vec![0.0, 2048.0] },
        ];
        let svg = chart(&words, &ages, &lines).into_string();
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(svg.contains("class=\"line s2\" points=\"500.6,208.0 508.0,26.0 \""), "{svg}");
        assert!(svg.contains("the highest point is 2.0 KiB/s"));
    }

    proptest! {
        #[test]
        fn every_rate_has_a_place(rates in prop::collection::vec(0.0..1e15f64, 1..20), age in 0u64..99) {
            let peak = rates.iter().fold(0.0, |a: f64, b| a.max(*b)) / 1024.0;
            let scale = Scale::up_to(peak);
            prop_assert!(scale.top() >= peak * 0.999_999 && scale.top() <= peak.max(0.1) * 2.5);
            for rate in rates {
                prop_assert!((TOP..=BOTTOM).contains(&scale.y(rate)));
            }
            prop_assert!((LEFT..=RIGHT).contains(&x(Duration::from_secs(age))));
        }
    }
}
