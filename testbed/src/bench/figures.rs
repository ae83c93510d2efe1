//! Medians, and Markdown tables of them.

/// Median, least and greatest; not numbers, if there are none.
pub fn summary(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (half, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
    // The middle one, or the two in the middle.
    let median = (at(last / 2) + at(half)) / 2.0;
    (median, at(0), at(last))
}

/// The median, and the least and greatest if there are several.
pub fn spread(values: impl IntoIterator<Item = f64>, decimals: usize) -> String {
    let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let (median, least, greatest) = summary(values.iter().copied());
    match values.len() {
        0 => "-".to_owned(),
        1 => format!("{median:.decimals$}"),
        _ => format!("{median:.decimals$} ({least:.decimals$} to {greatest:.decimals$})"),
    }
}

/// Prints a table with a title; the first column has no heading.
pub fn print(title: &str, headings: &[String], rows: &[Vec<String>]) {
    println!("\n{title}\n\n| | {} |", headings.join(" | "));
    println!("|{}", " --- |".repeat(headings.len() + 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}
