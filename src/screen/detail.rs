//! One row: its processes, its remote ends with their rates, and its history.

use std::collections::BTreeMap;

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::parents;
use super::rates::Meters;
use super::rows::{Entry, Fact, Key, explanation, place};
use super::state::State;
use super::text::{figure, fit, in_words, per_second, wrapped};
use crate::by::Names;
use crate::model::traffic::{Name, Rate, Traffic};
use crate::model::{Process, ProcessId, Remote, Row, Snapshot};

/// Processes that are listed.
const PROCESSES: usize = 50;
/// Cells of a line of text, at most.
const LINE: usize = 100;

/// What is known of the row that is open.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    /// The row.
    pub key: Key,
    ends: Meters<Option<Remote>>,
    /// The ancestors of its processes, the nearest first; empty if they are gone.
    pub parents: BTreeMap<u32, Vec<(u32, Name)>>,
}

impl Detail {
    /// Nothing is known yet.
    pub(super) fn new(key: Key) -> Detail {
        Detail { key, ends: Meters::default(), parents: BTreeMap::new() }
    }

    /// Begins the rates of the remote ends anew.
    pub(super) fn restart(&mut self) {
        self.ends = Meters::default();
    }

    /// Adds a refresh.
    pub(super) fn feed(&mut self, snapshot: &Snapshot, rows: &[Row]) {
        if snapshot.elapsed.is_zero() {
            return;
        }
        self.ends.begin(snapshot.elapsed);
        let Key::Row(name) = &self.key else { return };
        let row = rows.iter().find(|row| row.name == *name);
        for detail in row.iter().flat_map(|row| &row.details) {
            self.ends.add(&detail.remote, detail.account.recent);
        }
    }
}

/// A part of a line, safe to print.
pub(super) fn span(text: impl Into<String>, style: Style) -> Span<'static> {
    Span::styled(text.into(), style)
}

impl State {
    /// Processes of the open row whose ancestors are not known yet.
    pub(super) fn wanted_parents(&self) -> Vec<ProcessId> {
        let Some(detail) = &self.detail else { return Vec::new() };
        let row = self.open_entry(detail).and_then(|entry| self.row(entry));
        let processes = row.iter().flat_map(|row| sorted(&row.processes)).take(PROCESSES);
        let unknown = processes.filter(|process| !detail.parents.contains_key(&process.pid));
        unknown.map(|process| process.id()).collect()
    }

    /// Takes the ancestors of a process.
    pub(super) fn learn_parents(&mut self, pid: u32, parents: Vec<(u32, Name)>) {
        if let Some(detail) = &mut self.detail {
            detail.parents.insert(pid, parents);
        }
    }

    fn open_entry(&self, detail: &Detail) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == detail.key)
    }

    /// The text of the open row.
    pub(super) fn detail_lines(&self, width: usize) -> Vec<Line<'static>> {
        let (theme, mut lines) = (self.theme, Vec::new());
        let Some(detail) = &self.detail else { return lines };
        let heading = |text: &str| Line::from(span(text.to_owned(), theme.title()));
        match &detail.key {
            Key::Row(name) => lines.push(Line::from(span(fit(name, width, theme), theme.title()))),
            Key::Reason(reason) => {
                lines.push(heading(&format!("({reason})")));
                let text = wrapped(explanation(*reason), width.min(LINE));
                lines.extend(text.into_iter().map(Line::from));
            }
        }
        let Some(entry) = self.open_entry(detail) else {
            lines.push(Line::from(span("It is not in the list any more.", theme.dim())));
            return lines;
        };
        let words = |bytes: u64| in_words(self.units, bytes as f64);
        lines.push(Line::from(vec![
            span("in ", theme.received()),
            span(per_second(self.units, entry.rate.received), theme.received()),
            span("  out ", theme.sent()),
            span(per_second(self.units, entry.rate.sent), theme.sent()),
            span(format!("  {}", self.window.name()), theme.dim()),
            span("   total ", theme.dim()),
            span(
                format!("{} in, {} out", words(entry.total.received), words(entry.total.sent)),
                Style::new(),
            ),
        ]));
        lines.push(Line::default());
        self.chart(&detail.key, width, &mut lines);
        if let Some(row) = self.row(entry) {
            self.ends(detail, row, width, &mut lines);
            self.interfaces(detail, row, &mut lines);
            self.processes(detail, row, width, &mut lines);
        }
        lines
    }

    /// The remote ends, the busiest first.
    fn ends(&self, detail: &Detail, row: &Row, width: usize, lines: &mut Vec<Line<'static>>) {
        let theme = self.theme;
        let mut ends: Vec<_> =
            row.details.iter().filter(|detail| self.filter.matches_remote(detail)).collect();
        let hidden = row.details.len() - ends.len();
        let rate =
            |remote: &Option<Remote>| detail.ends.rate(remote, self.window).unwrap_or_default();
        let key = |of: &&crate::model::Detail| {
            let rate = rate(&of.remote);
            let total = of.account.total.total() as f64;
            (rate.received + rate.sent, total)
        };
        ends.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
        let mut title = format!("remote ends ({})", ends.len());
        if hidden > 0 {
            title += &format!(", {hidden} more that the filter leaves out");
        }
        lines.push(Line::from(span(title, theme.title())));
        let narrow = width < 60;
        let cells = if narrow { 5 } else { super::columns::figure_width(self.units, 10) };
        let wide = if narrow { 5 } else { super::columns::figure_width(self.units, 13) };
        let titles = format!(
            "{:>cells$}  {:>cells$}  {:>wide$}  {:>wide$}  {:<6} {:<10} remote end",
            "IN/s", "OUT/s", "TOT IN", "TOT OUT", "PROTO", "INTERFACE"
        );
        lines.push(Line::from(span(titles, theme.dim())));
        for of in ends {
            let rate = rate(&of.remote);
            let shown = |bytes: f64, cells: usize| {
                format!("{:>cells$}  ", figure(self.units, bytes, narrow))
            };
            let figure = |bytes: f64, style: Style| {
                span(shown(bytes, cells), if bytes < 0.5 { theme.dim() } else { style })
            };
            let Traffic { received, sent } = of.account.total;
            let mut parts = vec![
                figure(rate.received, theme.received()),
                figure(rate.sent, theme.sent()),
                span(shown(received as f64, wide), Style::new()),
                span(shown(sent as f64, wide), Style::new()),
            ];
            match &of.remote {
                None => parts.push(span("all others, and those that are not known", theme.dim())),
                Some(remote) => {
                    let interface = fit(remote.interface.name().unwrap_or_default(), 10, theme);
                    let kind = format!("{:<6} {interface:<10} ", remote.protocol.to_string());
                    parts.push(span(kind, theme.dim()));
                    parts.push(span(end_text(remote, self.setup.names.as_deref()), Style::new()));
                }
            }
            lines.push(Line::from(parts));
        }
        lines.push(Line::default());
    }

    /// The bytes of each interface.
    fn interfaces(&self, detail: &Detail, row: &Row, lines: &mut Vec<Line<'static>>) {
        let mut sums: BTreeMap<_, (Traffic, Rate)> = BTreeMap::new();
        for of in &row.details {
            let Some(name) =
                of.remote.and_then(|remote| remote.interface.name().map(<[u8]>::to_vec))
            else {
                continue;
            };
            let rate = detail.ends.rate(&of.remote, self.window).unwrap_or_default();
            let (total, sum) = sums.entry(name).or_default();
            *total += of.account.total;
            sum.received += rate.received;
            sum.sent += rate.sent;
        }
        if sums.is_empty() {
            return;
        }
        lines.push(Line::from(span("interfaces", self.theme.title())));
        for (name, (total, rate)) in sums {
            let words = |bytes: u64| in_words(self.units, bytes as f64);
            lines.push(Line::from(vec![
                span(format!("{:<16}", fit(&name, 15, self.theme)), Style::new()),
                span(
                    format!("in {:<14}", per_second(self.units, rate.received)),
                    self.theme.received(),
                ),
                span(format!("out {:<14}", per_second(self.units, rate.sent)), self.theme.sent()),
                span(
                    format!("total {} in, {} out", words(total.received), words(total.sent)),
                    self.theme.dim(),
                ),
            ]));
        }
        lines.push(Line::default());
    }

    /// The processes, each with its ancestors.
    fn processes(&self, detail: &Detail, row: &Row, width: usize, lines: &mut Vec<Line<'static>>) {
        let theme = self.theme;
        let all = sorted(&row.processes);
        let mut title = format!("processes ({})", all.len());
        if all.len() > PROCESSES {
            title += &format!(", the first {PROCESSES}");
        }
        lines.push(Line::from(span(title, theme.title())));
        if all.is_empty() {
            lines.push(Line::from(span("None of them runs any more.", theme.dim())));
        }
        for process in all.into_iter().take(PROCESSES) {
            let mut parts = vec![span(format!("{:>8} ", process.pid), theme.title())];
            let facts =
                [("", Fact::User.of(process)), ("", place(process)), ("", Fact::Exe.of(process))];
            let facts = facts.into_iter().filter_map(|(_, name)| name);
            let facts: Vec<String> = facts.map(|name| fit(name, 60, theme)).collect();
            parts.push(span(facts.join(theme.dot()), Style::new()));
            let Traffic { received, sent } = process.account.total;
            let words = |bytes: u64| in_words(self.units, bytes as f64);
            let bytes = format!("   {} in, {} out", words(received), words(sent));
            parts.push(span(bytes, theme.dim()));
            lines.push(Line::from(parts));
            let parents = detail.parents.get(&process.pid).filter(|parents| !parents.is_empty());
            if let Some(parents) = parents {
                let arrow = if theme.is_ascii() { " < " } else { " ← " };
                let each = parents.iter().map(|(pid, comm)| {
                    format!("{} ({pid})", fit(parents::shown(comm).as_bytes(), 40, theme))
                });
                let chain: Vec<String> = each.collect();
                let chain = super::text::cut(chain.join(arrow), width.saturating_sub(10), theme);
                lines.push(Line::from(vec![
                    span(format!("{:9}", ""), Style::new()),
                    span(chain, theme.dim().add_modifier(Modifier::ITALIC)),
                ]));
            }
        }
    }
}

/// The other end of a connection, and the port at this end.
fn end_text(remote: &Remote, names: Option<&dyn Names>) -> String {
    let (address, port) = (remote.remote.address.to_ip(), remote.remote.port);
    let host = names.and_then(|names| names.host(address));
    let service = names.and_then(|names| names.service(remote.protocol.0, port));
    let end = match (host, service, port) {
        (None, None, 1..) => remote.remote.to_string(),
        (host, service, port) => {
            let host = match host {
                Some(host) => host.to_string(),
                None if address.is_ipv6() && port != 0 => format!("[{address}]"),
                None => address.to_string(),
            };
            match (service, port) {
                (Some(service), _) => format!("{host}:{service}"),
                (None, 0) => host,
                (None, port) => format!("{host}:{port}"),
            }
        }
    };
    match remote.local_port {
        0 => end,
        port => format!("{end}  (port {port} here)"),
    }
}

/// The processes by their pids.
fn sorted(processes: &[Process]) -> Vec<&Process> {
    let mut sorted: Vec<&Process> = processes.iter().collect();
    sorted.sort_by_key(|process| (process.pid, process.start));
    sorted
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::*;
    use crate::model::Interface;
    use crate::model::flow::{Endpoint, Protocol};

    #[derive(Debug)]
    struct Known;

    impl Names for Known {
        fn host(&self, address: IpAddr) -> Option<Arc<str>> {
            (address.to_string() == "192.0.2.1").then(|| "example.org".into())
        }

        fn service(&self, _: u8, port: u16) -> Option<&str> {
            (port == 443).then_some("https")
        }
    }

    #[test]
    fn a_remote_end_has_the_names_that_are_known() {
        for (address, port, plain, named) in [
            ("192.0.2.1", 443, "192.0.2.1:443", "example.org:https"),
            ("192.0.2.1", 8443, "192.0.2.1:8443", "example.org:8443"),
            ("192.0.2.1", 0, "192.0.2.1", "example.org"),
            ("192.0.2.2", 443, "192.0.2.2:443", "192.0.2.2:https"),
            ("2001:db8::1", 22, "[2001:db8::1]:22", "[2001:db8::1]:22"),
            ("2001:db8::1", 443, "[2001:db8::1]:443", "[2001:db8::1]:https"),
            ("2001:db8::1", 0, "2001:db8::1", "2001:db8::1"),
        ] {
            let remote = Endpoint::new(address.parse::<IpAddr>().unwrap().into(), port);
            let interface = Interface::UNKNOWN;
            let remote = Remote { protocol: Protocol::TCP, local_port: 0, remote, interface };
            assert_eq!(end_text(&remote, None), plain);
            assert_eq!(end_text(&remote, Some(&Known)), named);
        }
        let remote = Endpoint::new("192.0.2.1".parse::<IpAddr>().unwrap().into(), 22);
        let interface = Interface::UNKNOWN;
        let remote = Remote { protocol: Protocol::TCP, local_port: 5, remote, interface };
        assert_eq!(end_text(&remote, None), "192.0.2.1:22  (port 5 here)");
    }
}
