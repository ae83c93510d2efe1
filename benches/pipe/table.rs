//! What is printed in the end.

use testbed::bench::figures::summary;

use crate::figures::{Figure, Group, Results, Section};
use crate::peers::DIRECT;

/// One column of one section, with the figures of any contestant.
struct Column<'a> {
    group: &'a Group,
    section: &'a Section,
    heading: &'static str,
    /// Its place among the group's.
    index: usize,
    results: &'a Results,
}

impl<'a> Column<'a> {
    fn all(groups: &[&'a Group], results: &'a Results) -> Vec<Column<'a>> {
        let columns = groups.iter().flat_map(|group| {
            let sections = group.sections.iter();
            let headings =
                sections.flat_map(|section| section.headings.iter().map(move |h| (section, *h)));
            headings.enumerate().map(|(index, (section, heading))| Column {
                group,
                section,
                heading,
                index,
                results,
            })
        });
        columns.collect()
    }

    /// One for each round.
    fn figures(&self, peer: &'static str) -> impl Iterator<Item = &'a Figure> {
        let rounds = self.results.get(&(self.group.name, peer)).map(Vec::as_slice);
        let index = self.index;
        rounds.unwrap_or_default().iter().flat_map(move |round| round.get(index))
    }

    fn summary(&self, peer: &'static str) -> (f64, f64, f64) {
        summary(self.figures(peer).map(|figure| figure.value).filter(|value| !value.is_nan()))
    }

    /// Of each round in which both were measured.
    fn ratios(&self, ours: &'static str, theirs: &'static str) -> (f64, f64, f64) {
        let rounds = self.figures(ours).zip(self.figures(theirs));
        summary(rounds.map(|(ours, theirs)| ours.value / theirs.value).filter(|r| r.is_finite()))
    }

    /// The best of those that are forwarders.
    fn best(&self, peers: &[&'static str], ours: &str) -> Option<&'static str> {
        let others = peers.iter().filter(|peer| **peer != ours && **peer != DIRECT);
        let known = others.filter(|peer| !self.summary(peer).0.is_nan());
        let goodness = |peer: &&&'static str| {
            let (median, ..) = self.summary(peer);
            if self.section.more_is_better { median } else { -median }
        };
        known.max_by(|a, b| goodness(a).total_cmp(&goodness(b))).copied()
    }
}

/// A table for each section, and what was wrong.
pub(crate) fn print(groups: &[&Group], peers: &[&'static str], results: &Results) {
    let columns = Column::all(groups, results);
    for section in groups.iter().flat_map(|group| group.sections) {
        let columns: Vec<&Column> =
            columns.iter().filter(|column| column.section.title == section.title).collect();
        print!("\n{}\n{:12}", section.title, "");
        for column in &columns {
            print!(" {:>19}", column.heading);
        }
        println!();
        for peer in peers {
            print!("{peer:12}");
            for column in &columns {
                print!(" {:>19}", cell(column, peer));
            }
            println!();
        }
    }
    println!();
    for (column, peer) in columns.iter().flat_map(|column| peers.iter().map(move |p| (column, p))) {
        let flaws: Vec<&String> = column.figures(peer).flat_map(|figure| &figure.flaw).collect();
        if let Some(last) = flaws.last() {
            let (title, heading) = (column.section.title, column.heading);
            println!("! {peer}, {title}, {heading}: in {} rounds: {last}", flaws.len());
        }
    }
}

/// As in `1.62 (1.31 to 1.80)`, but shorter; marked if something was wrong.
fn cell(column: &Column, peer: &'static str) -> String {
    let (median, least, greatest) = column.summary(peer);
    let mark = if column.figures(peer).any(|figure| figure.flaw.is_some()) { "!" } else { "" };
    if median.is_nan() {
        return format!("{mark}-");
    }
    let decimals = column.section.decimals;
    format!("{mark}{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
}

/// How far ahead or behind each other one we are, column by column.
pub(crate) fn ratios(
    groups: &[&Group],
    peers: &[&'static str],
    results: &Results,
    ours: &'static str,
) {
    if !peers.contains(&ours) {
        println!("Ratios: {ours} was not measured.");
        return;
    }
    let columns = Column::all(groups, results);
    println!("Ratios {ours} / other, the median of the rounds'");
    let others: Vec<&'static str> = peers.iter().copied().filter(|peer| *peer != ours).collect();
    for section in groups.iter().flat_map(|group| group.sections) {
        let better = if section.more_is_better { "more" } else { "less" };
        print!("\n{} ({better} is better)\n{:12}", section.title, "");
        for other in &others {
            print!(" {other:>11}");
        }
        println!(" | {:>11} {:22} place", "best other", "ratio to it");
        for column in columns.iter().filter(|column| column.section.title == section.title) {
            print!("{:12}", column.heading);
            for other in &others {
                let (median, ..) = column.ratios(ours, other);
                print!(
                    " {:>11}",
                    if median.is_nan() { "-".into() } else { format!("{median:.2}") }
                );
            }
            println!(" | {}", place(column, &others, ours));
        }
    }
}

fn place(column: &Column, others: &[&'static str], ours: &'static str) -> String {
    let Some(best) = column.best(others, ours) else { return "nobody to compare with".into() };
    let (median, least, greatest) = column.ratios(ours, best);
    let more = column.section.more_is_better;
    let word = match () {
        () if median.is_nan() => "not measured",
        () if (more && median >= 1.0) || (!more && median <= 1.0) => "first",
        () if least <= 1.0 && greatest >= 1.0 => "within the spread",
        () => "BEHIND",
    };
    let range = format!("{median:.2} ({least:.2} to {greatest:.2})");
    format!("{best:>11} {range:22} {word}")
}
