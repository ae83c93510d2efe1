//! The page: one self-contained document that reloads itself.
//!
//! `maud` writes the markup, and escapes everything that is not markup.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Instant;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Line, STYLES, Words, chart};
use super::history::{History, SPAN, Series};
use crate::escape::{cut, visible_cut};
use crate::model::traffic::{Name, Rate};

/// Maximum characters of a name in the table.
const SHOWN: usize = 100;

/// Maximum characters of a name in its tooltip.
const SAID: usize = 500;

/// Seconds until the page is reloaded.
const REFRESH: u32 = 5;

const STYLE: &str = include_str!("page.css");

/// An application as the page shows it.
struct Listed<'a> {
    name: &'a Name,
    application: &'a Series,
    /// Bytes of the last minute.
    sum: u64,
    /// Bytes per second.
    rate: Rate,
}

/// The last 60 s of `history` as an HTML document: two charts of the busiest applications, and a
/// table of all of them, the busiest now first.
///
/// It runs no script, fetches nothing, and reloads after 5 s. Names are escaped: none of them is
/// ever part of the markup.
pub(crate) fn page(history: &History, now: Instant) -> String {
    let applications = history.applications(now).into_iter();
    let mut entries: Vec<Listed<'_>> = applications
        .map(|(name, application)| Listed {
            name,
            application,
            sum: application.sum(),
            rate: history.rate(application, now),
        })
        .collect();
    entries.sort_unstable_by(|a, b| b.sum.cmp(&a.sum).then_with(|| a.name.cmp(b.name)));
    let charts = charts(history, now, &entries[..entries.len().min(STYLES)]);
    entries.sort_by(|a, b| both(b.rate).total_cmp(&both(a.rate)));
    let left_out = history.left_out();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content=(REFRESH);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "bwmon: bandwidth by application" }
                // Its text is fixed.
                style { (PreEscaped(STYLE)) (PreEscaped(dashes())) }
            }
            body {
                main {
                    h1 { "Bandwidth by application" }
                    p { "The last " (SPAN.as_secs()) " s." }
                    @if entries.is_empty() {
                        p { "Nothing was received or sent." }
                    } @else {
                        (charts)
                        (table(&entries))
                        @if left_out > 0 { p { (left_out) " more carried less." } }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// One direction of a rate.
type Way = fn(&Rate) -> f64;

/// The charts of both directions, and the legend of their lines.
fn charts(history: &History, now: Instant, busiest: &[Listed<'_>]) -> Markup {
    let ages = history.ages(now);
    let styles = styles(busiest);
    let rates: Vec<Vec<Rate>> =
        busiest.iter().map(|entry| history.rates(entry.application, now)).collect();
    let lines = |way: Way| -> Vec<Line> {
        let lines = styles.iter().zip(&rates);
        lines
            .map(|(&style, rates)| Line { style, rates: rates.iter().map(way).collect() })
            .collect()
    };
    let directions: [(Words<'_>, Way); 2] = [
        (Words { id: "in", title: "In", verb: "received" }, |rate| rate.received),
        (Words { id: "out", title: "Out", verb: "sent" }, |rate| rate.sent),
    ];
    html! {
        div class="charts" {
            @for (words, way) in directions {
                section { h2 { (words.title) } (chart(&words, &ages, &lines(way))) }
            }
        }
        h2 { "Lines" }
        ul class="legend" {
            @for (entry, style) in busiest.iter().zip(&styles) {
                li {
                    svg aria-hidden="true" viewBox="0 0 48 12" {
                        path class={ "line s" (style) } d="M1 6H47" {}
                    }
                    (named(entry.name))
                }
            }
        }
    }
}

fn table(entries: &[Listed<'_>]) -> Markup {
    let kib = |rate: f64| html! { td { (format_args!("{:.1}", rate / 1024.0)) } };
    let heading = |text: &str| html! { th scope="col" { (text) } };
    html! {
        h2 { "All" }
        div class="scroll" {
            table {
                caption { "Newest rates, and bytes since the start" }
                thead {
                    tr {
                        (heading("In, KiB/s"))
                        (heading("Out, KiB/s"))
                        (heading("In, all"))
                        (heading("Out, all"))
                        th scope="col" class="name" { "Application" }
                    }
                }
                tbody {
                    @for Listed { name, application, rate, .. } in entries {
                        tr {
                            (kib(rate.received))
                            (kib(rate.sent))
                            td { (amount(application.total.received)) }
                            td { (amount(application.total.sent)) }
                            th scope="row" class="name" { (named(name)) }
                        }
                    }
                }
            }
        }
    }
}

/// The style of each of the busiest. As far as possible an application keeps its style from page to
/// page, whatever its rank; no two share one.
fn styles(busiest: &[Listed<'_>]) -> Vec<usize> {
    let mut taken = [false; STYLES];
    let mut order: Vec<usize> = (0..busiest.len()).collect();
    // The application that was added first chooses first.
    order.sort_unstable_by_key(|&n| busiest[n].application.born);
    let mut styles = vec![0; busiest.len()];
    for n in order {
        let wish = (busiest[n].application.born % STYLES as u64) as usize;
        let free = (0..STYLES).map(|n| (wish + n) % STYLES).find(|&style| !taken[style]);
        let style = free.unwrap_or(wish);
        taken[style] = true;
        styles[n] = style;
    }
    styles
}

/// The dashes of each style; the colours are in the style sheet.
fn dashes() -> String {
    let mut css = String::new();
    for (style, dashes) in super::chart::DASHES.iter().enumerate() {
        if !dashes.is_empty() {
            let _ = writeln!(css, ".s{style} {{ stroke-dasharray: {dashes} }}");
        }
    }
    css
}

/// A name as markup: cut, and longer in the tooltip.
fn named(name: &[u8]) -> Markup {
    if name.is_empty() {
        return html! { "(no name)" };
    }
    let said = visible_cut(name, SAID);
    // The isolation keeps the direction of its letters inside it.
    match cut(&said, SHOWN) {
        Cow::Borrowed(all) => html! { bdi { (all) } },
        Cow::Owned(shown) => html! { bdi title=(said) { (shown) } },
    }
}

/// Bytes in the largest unit of which there is at least one.
fn amount(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}\u{a0}B");
    }
    let power = bytes.ilog2() / 10;
    let value = bytes as f64 / (1u64 << (10 * power)) as f64;
    let unit = UNITS.get(power as usize - 1).unwrap_or(&"EiB");
    format!("{value:.1}\u{a0}{unit}")
}

fn both(rate: Rate) -> f64 {
    rate.received + rate.sent
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
