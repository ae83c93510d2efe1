//! Markdown tables.

use crate::common::summary;

pub(crate) fn print(title: &str, headings: &[String], rows: &[Vec<String>]) {
    println!("\n{title}\n\n| | {} |", headings.join(" | "));
    println!("|{}", " --- |".repeat(headings.len() + 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// The median, and the least and greatest if there are several.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>, decimals: usize) -> String {
    let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let (median, least, greatest) = summary(values.iter().copied());
    match values.len() {
        0 => "-".to_owned(),
        1 => format!("{median:.decimals$}"),
        _ => format!("{median:.decimals$} ({least:.decimals$} to {greatest:.decimals$})"),
    }
}
