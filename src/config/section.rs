//! Turns the values of sections into settings, and collects the errors.

use std::collections::HashSet;

use regex::bytes::Regex;

use super::error::{ConfigError, Problem, shown};
use super::ini::{Document, Entry, Section, trim};
use super::keys::{Fallback, Format, Key, Kind};
use super::values::Expected;
use crate::filter;

/// Reads the sections of one file, and collects their errors.
pub(super) struct Reading<'d> {
    pub(super) document: &'d Document,
    format: &'static Format,
    /// The keys that values refer to.
    referred: HashSet<Vec<u8>>,
    errors: Vec<ConfigError>,
}

impl<'d> Reading<'d> {
    /// Starts with a document and the `errors` of its parsing.
    pub(super) fn new(
        document: &'d Document,
        errors: Vec<ConfigError>,
        format: &'static Format,
    ) -> Reading<'d> {
        let referred = document.references().collect();
        let mut reading = Reading { document, format, referred, errors };
        reading.check_defaults();
        reading
    }

    /// The result if there are no errors; else all errors, in the order of the lines.
    pub(super) fn finish<T>(self, read: T) -> Result<T, Vec<ConfigError>> {
        let mut errors = self.errors;
        if errors.is_empty() {
            return Ok(read);
        }
        // A line that can't be parsed may be the one that seems to be missing.
        if errors.iter().any(|error| error.key.is_none()) {
            errors.retain(|error| !matches!(error.problem, Problem::MissingKey(_)));
        }
        errors.sort_by_cached_key(|error| (error.line, error.to_string()));
        // An error in [DEFAULT] appears in each section.
        errors.dedup();
        Err(errors)
    }

    /// The settings of a section, after a check of its keys against those of its kind. `new` makes the
    /// settings of a section without keys. `None` if a value is wrong, which is collected.
    pub(super) fn read<S>(
        &mut self,
        section: &Section,
        kind: &Kind<S>,
        new: fn(&[u8]) -> S,
    ) -> Option<S> {
        for entry in section.entries() {
            let known = kind.keys.iter().any(|key| key.name() == entry.key);
            if !known && !self.referred.contains(entry.key.as_bytes()) {
                let hint = self.format.hint(Some(kind.name), &entry.key);
                self.wrong(section, &entry.key, Problem::UnknownKey(hint));
            }
        }
        let before = self.errors.len();
        let mut settings = new(&section.name);
        for key in kind.keys {
            key.read(self, section, &mut settings);
        }
        (self.errors.len() == before).then_some(settings)
    }

    /// Checks the keys of `[DEFAULT]` against those of all kinds. If keys are labels, all are
    /// valid.
    fn check_defaults(&mut self) {
        let (document, kinds) = (self.document, self.format.kinds());
        for entry in document.defaults().entries() {
            let known = kinds.is_empty() || kinds.iter().any(|kind| kind.has(&entry.key));
            if !known && !self.referred.contains(entry.key.as_bytes()) {
                let hint = self.format.hint(None, &entry.key);
                self.wrong(document.defaults(), &entry.key, Problem::UnknownKey(hint));
            }
        }
    }

    /// The value of a key in a section, or its default. `None` if there is none, or if it is wrong,
    /// which is collected.
    pub(super) fn get<S, T>(&mut self, section: &Section, key: &Key<S, T>) -> Option<T> {
        let text = self.text(section, key)?;
        match (key.value.parse)(&text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.wrong(section, key.name, key.problem(&text, wrong));
                None
            }
        }
    }

    /// The text of a value, or of its default.
    fn text<S, T>(&mut self, section: &Section, key: &Key<S, T>) -> Option<String> {
        let document = self.document;
        if let Some(entry) = document.entry(section, key.name) {
            let value = self.bytes(section, entry)?;
            if matches!(key.value.expected, Expected::Regex) && !trim(&value).is_empty() {
                return Some(pattern_text(&value));
            }
            // Only a continued value or a reference can bring surrounding blanks.
            match std::str::from_utf8(trim(&value)) {
                Ok("") => {}
                Ok(text) => return Some(text.to_owned()),
                Err(_) => {
                    self.wrong(section, key.name, Problem::ValueNotText(shown(&value)));
                    return None;
                }
            }
        }
        match key.default {
            Fallback::Value(value) => Some(value.to_owned()),
            Fallback::Nothing(_) => None,
            Fallback::Required => {
                // The names of sections are case-sensitive, and this one is special.
                let name = String::from_utf8_lossy(&section.name).to_lowercase();
                let mend = if strsim::osa_distance(&name, "default") <= 1 {
                    "did you mean [DEFAULT]?".to_owned()
                } else {
                    format!("add a line such as {}={}", key.name, key.value.example)
                };
                let expected = format!("{}; {mend}", key.value.expected());
                self.wrong(section, key.name, Problem::MissingKey(expected));
                None
            }
        }
    }

    /// Collects an error of a key, at the line of the key if the section has it.
    pub(super) fn wrong(&mut self, section: &Section, key: &str, problem: Problem) {
        let document = self.document;
        let entry = document.entry(section, key);
        let home = if document.is_default(section, key) { document.defaults() } else { section };
        self.errors.push(ConfigError {
            file: document.file().to_owned(),
            line: Some(entry.map_or(section.line, |entry| entry.line)),
            section: Some(home.name.clone()),
            key: Some(key.to_owned()),
            problem,
        });
    }

    /// The value of an entry with its references replaced. `None` if they can't be, which is
    /// collected.
    fn bytes(&mut self, section: &Section, entry: &Entry) -> Option<Vec<u8>> {
        match self.document.value(section, entry) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(section, &entry.key, error.into());
                None
            }
        }
    }

    /// The value of an entry as a regular expression; an empty one is valid. `None` if it is wrong,
    /// which is collected.
    pub(super) fn label(&mut self, section: &Section, entry: &Entry) -> Option<Regex> {
        let value = self.bytes(section, entry)?;
        match filter::compile(&pattern_text(&value)) {
            Ok(regex) => Some(regex),
            Err(error) => {
                self.wrong(section, &entry.key, error.into());
                None
            }
        }
    }
}

/// A pattern as text. Bytes that are not UTF-8 become escapes, which match those bytes.
fn pattern_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

/// Appends the escape of a byte to a pattern.
pub(super) fn push_hex(pattern: &mut String, byte: u8) {
    unescape(pattern);
    pattern.push_str(&format!("\\x{byte:02x}"));
}

/// Removes a backslash from the end of a pattern before an escape is appended.
pub(super) fn unescape(pattern: &mut String) {
    let backslashes = pattern.len() - pattern.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        pattern.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_match_themselves() {
        for (bytes, text) in [
            (&b"ssh"[..], "ssh"),
            (b"a\xffb", r"a\xffb"),
            // As in Python, a backslash before such a byte is the byte.
            (b"a\\\xff", r"a\xff"),
            (b"a\\\\\xff", r"a\\\xff"),
            (b"[\xe4\xb8]", r"[\xe4\xb8]"),
        ] {
            assert_eq!(pattern_text(bytes), text);
        }
        let regex = filter::compile(&pattern_text(b"^caf\xe9$")).unwrap();
        assert!(regex.is_match(b"caf\xe9") && !regex.is_match("caf\u{e9}".as_bytes()));
    }
}
