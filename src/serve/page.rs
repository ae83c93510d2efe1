//! The page: one document that needs nothing else, and reloads itself.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Instant;

use super::chart::{Line, STYLES, Words, chart};
use super::history::{Application, History, SPAN};
use crate::escape::{cut, visible_cut};
use crate::traffic::{Name, Rate};

/// Characters of a name that are shown.
const SHOWN: usize = 100;

/// Characters of a name that are said when it is pointed at.
const SAID: usize = 500;

/// Seconds until the page is asked for again.
const REFRESH: u32 = 5;

const STYLE: &str = include_str!("page.css");

/// An application as the page shows it.
struct Entry<'a> {
    name: &'a Name,
    application: &'a Application,
    /// Bytes of the last minute.
    sum: u64,
    /// Bytes per second.
    rate: Rate,
}

/// The last 60 s of `history` as an HTML document: two charts of the busiest applications, and a
/// table of all of them, the busiest now first.
///
/// It holds no script, fetches nothing, and asks to be fetched again after 5 s. Names are escaped:
/// none of them is ever part of the markup.
pub fn page(history: &History, now: Instant) -> String {
    let applications = history.applications(now).into_iter();
    let mut entries: Vec<Entry<'_>> = applications
        .map(|(name, application)| Entry {
            name,
            application,
            sum: application.sum(),
            rate: history.rate(application, now),
        })
        .collect();
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>bwmon: bandwidth by application</title>\n<style>\n{STYLE}{}</style>\n</head>\n\
         <body>\n<main>\n<h1>Bandwidth by application</h1>\n<p>The last {} s.</p>\n",
        dashes(),
        SPAN.as_secs(),
    );
    if entries.is_empty() {
        html.push_str("<p>Nothing was received or sent.</p>\n");
    } else {
        entries.sort_unstable_by(|a, b| b.sum.cmp(&a.sum).then_with(|| a.name.cmp(b.name)));
        charts(&mut html, history, now, &entries[..entries.len().min(STYLES)]);
        entries.sort_by(|a, b| both(b.rate).total_cmp(&both(a.rate)));
        table(&mut html, &entries);
    }
    if history.left_out() > 0 && !entries.is_empty() {
        let _ = writeln!(html, "<p>{} more carried less.</p>", history.left_out());
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// One direction of a rate.
type Way = fn(&Rate) -> f64;

/// The charts of both directions, and what their lines are.
fn charts(html: &mut String, history: &History, now: Instant, busiest: &[Entry<'_>]) {
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
    html.push_str("<div class=\"charts\">\n");
    for (words, way) in directions {
        let _ = write!(
            html,
            "<section>\n<h2>{}</h2>\n{}</section>\n",
            words.title,
            chart(&words, &ages, &lines(way))
        );
    }
    html.push_str("</div>\n<h2>Lines</h2>\n<ul class=\"legend\">\n");
    for (entry, style) in busiest.iter().zip(&styles) {
        let _ = writeln!(
            html,
            "<li><svg aria-hidden=\"true\" viewBox=\"0 0 48 12\"><path class=\"line s{style}\" \
             d=\"M1 6H47\"/></svg>{}</li>",
            named(entry.name)
        );
    }
    html.push_str("</ul>\n");
}

fn table(html: &mut String, entries: &[Entry<'_>]) {
    html.push_str(
        "<h2>All</h2>\n<div class=\"scroll\">\n<table>\n<caption>Newest rates, and bytes since the \
         start</caption>\n<thead><tr><th scope=\"col\">In, KiB/s</th><th scope=\"col\">Out, \
         KiB/s</th><th scope=\"col\">In, all</th><th scope=\"col\">Out, all</th><th scope=\"col\" \
         class=\"name\">Application</th></tr></thead>\n<tbody>\n",
    );
    for entry in entries {
        let total = entry.application.total;
        let _ = writeln!(
            html,
            "<tr><td>{:.1}</td><td>{:.1}</td><td>{}</td><td>{}</td><th scope=\"row\" \
             class=\"name\">{}</th></tr>",
            entry.rate.received / 1024.0,
            entry.rate.sent / 1024.0,
            amount(total.received),
            amount(total.sent),
            named(entry.name),
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

/// How each of the busiest is drawn. As far as possible an application keeps its style from page
/// to page, whatever its rank is; no two share one.
fn styles(busiest: &[Entry<'_>]) -> Vec<usize> {
    let mut taken = [false; STYLES];
    let mut order: Vec<usize> = (0..busiest.len()).collect();
    // Who was there first has the first choice.
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

/// The dashes of each style; the colours are the style sheet's.
fn dashes() -> String {
    let mut css = String::new();
    for (style, dashes) in super::chart::DASHES.iter().enumerate() {
        if !dashes.is_empty() {
            let _ = writeln!(css, ".s{style} {{ stroke-dasharray: {dashes} }}");
        }
    }
    css
}

/// A name as markup: cut, and in full (up to a limit) when it is pointed at.
fn named(name: &[u8]) -> String {
    if name.is_empty() {
        return "(no name)".to_owned();
    }
    let said = visible_cut(name, SAID);
    // The direction of its letters is its own matter: hence the isolation.
    match cut(&said, SHOWN) {
        Cow::Borrowed(all) => format!("<bdi>{}</bdi>", quoted(all)),
        Cow::Owned(shown) => {
            format!("<bdi title=\"{}\">{}</bdi>", quoted(&said), quoted(&shown))
        }
    }
}

/// `text` as characters of a document or of a quoted attribute.
fn quoted(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
    html
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
