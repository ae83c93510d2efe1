//! The filter of the list: `key:value`, `/regex/` and plain text, all of which have to match.

use regex::bytes::{Regex, RegexBuilder};

use super::rows::{Fact, Key, places};
use crate::model::{Detail, Row};

/// Bytes that a compiled regular expression may take.
const SIZE: usize = 1 << 20;

/// The keys, in the order of the help.
pub(super) const KEYS: [&str; 10] =
    ["name", "program", "user", "unit", "container", "pod", "pid", "port", "remote", "interface"];

/// A term of a filter.
#[derive(Clone, Debug)]
enum Term {
    /// Text in the name or in any fact, in lower case.
    Text(Vec<u8>),
    /// A regular expression that matches the name.
    Regex(Regex),
    /// Text in what a key stands for, in lower case.
    Key(&'static str, Vec<u8>),
    /// A pid or a port.
    Number(&'static str, u32),
}

/// A filter; without terms everything matches.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    terms: Vec<Term>,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(super) fn parse(text: &str) -> Result<Filter, String> {
        let (mut rest, mut terms) = (text.trim_start(), Vec::new());
        while !rest.is_empty() {
            let term;
            (term, rest) = split(rest);
            rest = rest.trim_start();
            terms.push(Term::parse(term)?);
        }
        Ok(Filter { terms })
    }

    /// Whether everything matches.
    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a line matches. `row` is its row, if it has one.
    pub(super) fn matches(&self, key: &Key, row: Option<&Row>) -> bool {
        let name: &[u8] = match key {
            Key::Row(name) => name,
            Key::Reason(reason) => reason.name().as_bytes(),
        };
        self.terms.iter().all(|term| term.matches(name, row))
    }

    /// Whether a remote end matches the terms about remote ends.
    pub(super) fn matches_remote(&self, detail: &Detail) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Number("port", port) => has_port(detail, *port),
            Term::Key("remote", text) => has_remote(detail, text),
            Term::Key("interface", text) => has_interface(detail, text),
            _ => true,
        })
    }
}

/// The first term, and the rest. A term that begins with `/` ends at the next one.
fn split(text: &str) -> (&str, &str) {
    let end = match text.strip_prefix('/') {
        Some(pattern) => pattern.find('/').map_or(text.len(), |at| at + 2),
        None => text.find(' ').unwrap_or(text.len()),
    };
    text.split_at(end)
}

impl Term {
    fn parse(term: &str) -> Result<Term, String> {
        if let Some(pattern) = term.strip_prefix('/') {
            let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
            let regex = RegexBuilder::new(pattern).case_insensitive(true).size_limit(SIZE).build();
            // The last line says what is wrong, those before show where.
            let reason = |error: regex::Error| {
                let text = error.to_string();
                let line = text.lines().last().unwrap_or_default().trim();
                line.trim_start_matches("error: ").to_owned()
            };
            return regex.map(Term::Regex).map_err(|error| format!("/regex/: {}", reason(error)));
        }
        let split = term.split_once(':');
        let key =
            split.and_then(|(key, value)| Some((KEYS.into_iter().find(|of| *of == key)?, value)));
        Ok(match key {
            // It is still being typed.
            Some((_, "")) => Term::Text(Vec::new()),
            Some((key @ ("pid" | "port"), value)) => {
                let number =
                    value.parse().map_err(|_| format!("{key}: is a number, not {value}"))?;
                Term::Number(key, number)
            }
            Some((key, value)) => Term::Key(key, lower(value.as_bytes())),
            None => Term::Text(lower(term.as_bytes())),
        })
    }

    fn matches(&self, name: &[u8], row: Option<&Row>) -> bool {
        match self {
            Term::Regex(regex) => regex.is_match(name),
            Term::Text(text) => contains(name, text) || row.is_some_and(|row| in_facts(row, text)),
            Term::Key("name", text) => contains(name, text),
            Term::Key(key, text) => row.is_some_and(|row| in_key(row, key, text)),
            Term::Number("pid", pid) => {
                row.is_some_and(|row| row.processes.iter().any(|process| process.pid == *pid))
            }
            Term::Number(_, port) => {
                row.is_some_and(|row| row.details.iter().any(|detail| has_port(detail, *port)))
            }
        }
    }
}

fn in_key(row: &Row, key: &str, text: &[u8]) -> bool {
    let fact = match key {
        "remote" => return row.details.iter().any(|detail| has_remote(detail, text)),
        "interface" => return row.details.iter().any(|detail| has_interface(detail, text)),
        "program" => Fact::Program,
        "user" => Fact::User,
        "unit" => Fact::Unit,
        "container" => Fact::Container,
        _ => Fact::Pod,
    };
    fact.all(row).into_iter().any(|name| contains(name, text))
}

fn in_facts(row: &Row, text: &[u8]) -> bool {
    let facts = [Fact::Program, Fact::User].into_iter().flat_map(|fact| fact.all(row));
    facts.chain(places(row)).any(|name| contains(name, text))
}

fn has_port(detail: &Detail, port: u32) -> bool {
    let is = |of: u16| u32::from(of) == port;
    detail.remote.is_some_and(|of| is(of.local_port) || is(of.remote.port))
}

fn has_remote(detail: &Detail, text: &[u8]) -> bool {
    detail.remote.is_some_and(|of| contains(of.remote.to_string().as_bytes(), text))
}

fn has_interface(detail: &Detail, text: &[u8]) -> bool {
    let interface = detail.remote.as_ref().and_then(|of| of.interface.name());
    interface.is_some_and(|name| contains(name, text))
}

fn lower(text: &[u8]) -> Vec<u8> {
    text.to_ascii_lowercase()
}

/// Whether `text` contains `part`, which is in lower case.
fn contains(text: &[u8], part: &[u8]) -> bool {
    let same = |window: &[u8]| window.eq_ignore_ascii_case(part);
    part.is_empty() || text.windows(part.len()).any(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::owner::Reason;
    use crate::screen::examples;

    /// The names of the example that match.
    fn matching(filter: &str) -> Vec<String> {
        let snapshot = examples::snapshot();
        let filter = Filter::parse(filter).unwrap();
        let rows = snapshot.rows.iter();
        let names = rows.filter(|row| filter.matches(&Key::Row(row.name.clone()), Some(row)));
        names.map(|row| String::from_utf8_lossy(&row.name).chars().take(8).collect()).collect()
    }

    #[test]
    fn terms() {
        assert_eq!(matching("").len(), examples::snapshot().rows.len());
        assert_eq!(matching("POSTGRES"), ["postgres"]);
        assert_eq!(matching("user:www-data"), ["nginx: w"]);
        assert_eq!(matching("user:jo pid:4711"), ["wget -q "]);
        assert_eq!(matching("pid:471"), [""; 0]);
        assert_eq!(matching("port:443 user:jo"), ["wget -q "]);
        assert_eq!(matching("remote:198.51.100.7 wget"), ["wget -q "]);
        assert_eq!(matching("interface:wg0"), ["postgres", "ssh -N b"]);
        assert_eq!(matching("unit:postgresql"), ["postgres"]);
        assert_eq!(matching("container:4f1c"), ["redis-se"]);
        assert_eq!(matching("/^(wget|ssh) /"), ["wget -q ", "ssh -N b"]);
        assert_eq!(matching("/ -N /"), ["ssh -N b"]);
        // What is still being typed.
        assert_eq!(matching("user:").len(), matching("").len());
        // A colon does not make a key.
        assert_eq!(matching("nginx:"), ["nginx: w"]);
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        assert_eq!(Filter::parse("pid:x").unwrap_err(), "pid: is a number, not x");
        let error = Filter::parse("/(/").unwrap_err();
        assert!(error.starts_with("/regex/: ") && !error.contains('\n'), "{error}");
        assert!(Filter::parse("/(a{999}){999}/").unwrap_err().contains("size limit"));
    }

    #[test]
    fn a_reason_has_a_name_only() {
        let matches =
            |text: &str| Filter::parse(text).unwrap().matches(&Key::Reason(Reason::Kernel), None);
        assert!(matches("kern") && matches("name:kernel") && !matches("user:root"));
    }
}
