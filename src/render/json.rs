//! JSON Lines: each refresh is a line, a [`Snapshot`] with the format's version, the host and the source.
//!
//! The format is described in `doc/user-manual.md`, and by `doc/snapshot.schema.json`, which is
//! generated from the types.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::{Format, Frame};
use crate::escape;
use crate::model::{Snapshot, SourceKind};

/// The version of the format. It increases when a key is removed or changes its meaning, not when
/// one is added.
const SCHEMA: u32 = 1;

/// Writes a line for each refresh.
#[derive(Clone, Debug)]
pub(crate) struct Json {
    /// The name of this host.
    pub host: String,
    /// Whether all characters beyond ASCII are escaped, for a terminal of another character set than UTF-8.
    pub ascii: bool,
}

/// A line.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "What `--format json` prints for a refresh"))]
struct Line<'a> {
    /// The version of this format. It increases when a key is removed or changes its meaning, not
    /// when one is added.
    #[cfg_attr(test, schemars(range(min = SCHEMA, max = SCHEMA)))]
    schema: u32,
    /// The name of the host (uname(2)).
    host: &'a str,
    /// The source: `ebpf`, `conntrack` or `sockets`; the first one if there are several, and `null` if there are only
    /// pipes.
    source: Option<&'a str>,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

impl Format for Json {
    fn format(&mut self, frame: &Frame) -> Vec<u8> {
        let mut snapshot = Snapshot::clone(&frame.snapshot);
        // In the same order at each refresh.
        snapshot.rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for row in &mut snapshot.rows {
            row.processes.sort_unstable_by_key(|process| process.id());
        }
        let source = snapshot.source().map(SourceKind::name);
        let line = Line { schema: SCHEMA, host: &self.host, source, snapshot: &snapshot };
        let mut bytes = Vec::new();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut bytes, Visible { ascii: self.ascii });
        // Writing to memory doesn't fail, and all keys are strings.
        if line.serialize(&mut serializer).is_err() {
            return Vec::new();
        }
        bytes.push(b'\n');
        bytes
    }
}

/// Characters that control a terminal, or are hidden, are escaped as `\u009b`, so that nothing untrusted reaches a
/// terminal raw.
struct Visible {
    /// Whether all characters beyond ASCII are escaped.
    ascii: bool,
}

impl Formatter for Visible {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        let is_escaped = |c: char| escape::is_hidden(c) || self.ascii && !c.is_ascii();
        while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
            let (before, from) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, before)?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = from.get(hidden.len_utf8()..).unwrap_or_default();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::render::examples;

    fn text(snapshot: Snapshot) -> String {
        let mut json = Json { host: "example".to_owned(), ascii: false };
        String::from_utf8(json.format(&examples::frame(snapshot))).unwrap()
    }

    fn value(snapshot: Snapshot) -> serde_json::Value {
        let text = text(snapshot);
        assert_eq!(text.matches('\n').count(), 1, "a line, whatever is in it");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_has_all_there_is() {
        let expected = include_str!("../../tests/fixtures/formats/example.jsonl");
        assert_eq!(text(examples::snapshot()), expected);
    }

    /// The schema in `doc/` is generated from the types.
    #[test]
    fn the_schema_is_the_types() {
        let schema = schemars::schema_for!(Line<'static>);
        let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("doc/snapshot.schema.json");
        if std::env::var_os("BWMON_WRITE_PAGES").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == expected,
            "doc/snapshot.schema.json is not what the types say; write it anew: \
             BWMON_WRITE_PAGES=1 cargo test --lib render::json"
        );
    }

    #[test]
    fn nothing_reaches_a_terminal_raw() {
        let mut snapshot = examples::snapshot();
        let name = "a\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{e0001}\u{4e16}\"\\\n";
        snapshot.rows[0].name = name.as_bytes().into();
        let text = text(snapshot.clone());
        assert!(text.trim_end().chars().all(|c| !escape::is_hidden(c)), "{text:?}");
        assert!(
            text.contains(r#""a\u001b[2J\u007f\u009b31m\u202e\udb40\udc01世\"\\\n""#),
            "{text}"
        );
        let value = value(snapshot);
        let names = value["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str());
        assert!(names.flatten().any(|found| found == name));
    }

    #[test]
    fn a_terminal_that_is_not_utf8_gets_the_same_in_ascii() {
        let mut snapshot = examples::snapshot();
        snapshot.rows[0].name = "\u{db}2J \u{1f980}".as_bytes().into();
        let mut json = Json { host: "example".to_owned(), ascii: true };
        let ascii = json.format(&examples::frame(snapshot.clone()));
        assert!(ascii.is_ascii());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&ascii).unwrap(), value(snapshot));
    }

    #[test]
    fn the_order_is_the_same_at_each_refresh() {
        let mut snapshot = examples::snapshot();
        let before = text(snapshot.clone());
        snapshot.rows.reverse();
        snapshot.rows.iter_mut().for_each(|row| row.processes.reverse());
        assert_eq!(text(snapshot), before);
    }

    proptest! {
        /// A name is a string, or where it is no UTF-8 its bytes: the same comes back.
        #[test]
        fn names_survive(name in any::<Vec<u8>>()) {
            let mut snapshot = examples::snapshot();
            snapshot.rows.truncate(1);
            snapshot.rows[0].name = name.clone().into();
            let found = &value(snapshot)["rows"][0]["name"];
            let bytes = match found {
                serde_json::Value::String(text) => text.clone().into_bytes(),
                bytes => serde_json::from_value(bytes.clone()).unwrap(),
            };
            prop_assert_eq!(bytes, name);
        }
    }
}
