//! Reads INI files as the `ConfigParser` of Python 2.7 does: files of 2010 are still in use.
//!
//! Each line is the first of these that fits:
//!
//! - A blank line, a line whose first character is `#` or `;`, or a line whose first word is `rem`:
//!   skipped.
//! - An indented line: continues the value before it, as a line of its own. A comment sign in it is
//!   part of the value.
//! - `[name]`: starts a section, or continues the one of that name. What follows the `]` is skipped.
//!   `[DEFAULT]` holds values for all sections.
//! - `key=value` or `key: value`. Keys are converted to lower case. If a key is given twice, the last
//!   value applies. A `;` after a blank starts a comment, if it is the first `;` of the line; a `#`
//!   doesn't. A value of two quotation marks is empty. All other quotation marks, and backslashes,
//!   are plain characters.
//!
//! Unlike in Python, a byte order mark at the very start is skipped.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::error::{ConfigError, InterpolationError, Problem, shown};
use super::interpolate;

#[cfg(test)]
mod tests;

/// The key that refers to the name of the section: `%(__name__)s`.
const NAME: &str = "__name__";

/// An INI file as it was read.
#[derive(Clone, Debug)]
pub struct Document {
    file: PathBuf,
    defaults: Section,
    sections: IndexMap<Vec<u8>, Section>,
}

/// A section of a file.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name. Raw bytes.
    pub name: Vec<u8>,
    /// The line where it starts first; the first line is 1.
    pub line: usize,
    entries: IndexMap<String, Entry>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key in lower case.
    pub key: String,
    /// The line of the key; the first line is 1.
    pub line: usize,
    /// The value without comments and surrounding blanks; references are not replaced. Raw bytes.
    /// Lines of a continued value are separated by newlines.
    pub value: Vec<u8>,
}

impl Section {
    fn new(name: &[u8], line: usize) -> Section {
        Section { name: name.to_vec(), line, entries: IndexMap::new() }
    }

    /// The entries of the section itself, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        // Python hides it from the list of keys too.
        self.entries.values().filter(|entry| entry.key != NAME)
    }
}

impl Document {
    /// The file's path, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The section `[DEFAULT]`, which may be empty.
    pub fn defaults(&self) -> &Section {
        &self.defaults
    }

    /// All other sections, in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.values()
    }

    /// All entries that apply to a section: its own, then those of `[DEFAULT]` that it does not
    /// override.
    pub fn entries<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a Entry> {
        let more = self.defaults.entries();
        section.entries().chain(more.filter(|entry| !section.entries.contains_key(&entry.key)))
    }

    /// The entry that applies to a section for a key in lower case.
    pub fn entry<'a>(&'a self, section: &'a Section, key: &str) -> Option<&'a Entry> {
        section.entries.get(key).or_else(|| self.defaults.entries.get(key))
    }

    /// Whether a section has a key, given in lower case, only from `[DEFAULT]`.
    pub fn is_default(&self, section: &Section, key: &str) -> bool {
        !section.entries.contains_key(key) && self.defaults.entries.contains_key(key)
    }

    /// The value of an entry. Each `%(key)s` in it is replaced by the value of that key in
    /// `section`. Raw bytes.
    ///
    /// # Errors
    /// A reference is malformed, names no key, or is nested too deeply.
    pub fn value(&self, section: &Section, entry: &Entry) -> Result<Vec<u8>, InterpolationError> {
        interpolate::interpolate(&entry.value, &|key| {
            let key = std::str::from_utf8(key).ok()?;
            match section.entries.get(key) {
                Some(entry) => Some(entry.value.as_slice()),
                None if key == NAME => Some(section.name.as_slice()),
                None => self.defaults.entries.get(key).map(|entry| entry.value.as_slice()),
            }
        })
    }

    /// Every key that a value of the file refers to.
    pub fn references(&self) -> impl Iterator<Item = Vec<u8>> {
        let sections = std::iter::once(&self.defaults).chain(self.sections());
        sections
            .flat_map(|section| section.entries.values())
            .flat_map(|entry| interpolate::references(&entry.value))
    }
}

/// Parses the bytes of a file. `file` is the path for messages. An error in one line doesn't
/// prevent reading the others.
pub fn parse(file: &Path, bytes: &[u8]) -> (Document, Vec<ConfigError>) {
    let mut reader = Reader {
        document: Document {
            file: file.to_owned(),
            defaults: Section::new(b"DEFAULT", 0),
            sections: IndexMap::new(),
        },
        place: Place::BeforeSections,
        option: Opened::None,
        complained: false,
        errors: Vec::new(),
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        reader.line(index + 1, line);
    }
    (reader.document, reader.errors)
}

/// The section of a line.
#[derive(Clone, Copy)]
enum Place {
    BeforeSections,
    Defaults,
    /// The index of the section.
    Section(usize),
}

/// The value that an indented line continues.
#[derive(Clone, Copy)]
enum Opened {
    None,
    /// The index of the entry in its section.
    Entry(usize),
    /// The value of a key that was refused.
    Lost,
}

struct Reader {
    document: Document,
    place: Place,
    option: Opened,
    /// Whether a line before the first section was reported.
    complained: bool,
    errors: Vec<ConfigError>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &[u8]) {
        if says_nothing(line) {
            return;
        }
        let indented = line.first().is_some_and(|byte| is_space(*byte));
        if indented && self.goes_on(trim(line)) {
            return;
        }
        if let Some(name) = header(line) {
            self.begin(number, name);
            return;
        }
        let Some(section) = self.section() else {
            if !std::mem::replace(&mut self.complained, true) {
                let text = shown(trim(line));
                self.wrong(
                    number,
                    match line.first() {
                        Some(b'[') => Problem::NoHeader(text),
                        _ => Problem::BeforeSection(text),
                    },
                );
            }
            return;
        };
        let Some((key, value)) = option(line) else {
            let text = shown(trim(line));
            self.wrong(
                number,
                match line.first() {
                    Some(b'[') => Problem::NoHeader(text),
                    _ if indented => Problem::NothingToContinue(text),
                    _ => Problem::Malformed(text),
                },
            );
            return;
        };
        let Ok(key) = String::from_utf8(key.to_ascii_lowercase()) else {
            self.wrong(number, Problem::KeyNotText(shown(key)));
            self.option = Opened::Lost;
            return;
        };
        let entry = Entry { key: key.clone(), line: number, value: value.to_vec() };
        let (index, _) = section.entries.insert_full(key, entry);
        self.option = Opened::Entry(index);
    }

    /// The section that the next line belongs to.
    fn section(&mut self) -> Option<&mut Section> {
        match self.place {
            Place::BeforeSections => None,
            Place::Defaults => Some(&mut self.document.defaults),
            Place::Section(index) => {
                self.document.sections.get_index_mut(index).map(|(_, section)| section)
            }
        }
    }

    /// Appends a line to the value before it. Returns whether there is one.
    fn goes_on(&mut self, text: &[u8]) -> bool {
        match self.option {
            Opened::None => return false,
            Opened::Lost => {}
            Opened::Entry(index) => {
                let section = self.section();
                if let Some((_, entry)) = section.and_then(|s| s.entries.get_index_mut(index)) {
                    entry.value.push(b'\n');
                    entry.value.extend_from_slice(text);
                }
            }
        }
        true
    }

    fn begin(&mut self, number: usize, name: &[u8]) {
        self.option = Opened::None;
        if name == b"DEFAULT" {
            self.place = Place::Defaults;
            if self.document.defaults.line == 0 {
                self.document.defaults.line = number;
            }
            return;
        }
        let entry = self.document.sections.entry(name.to_vec());
        self.place = Place::Section(entry.index());
        entry.or_insert_with(|| Section::new(name, number));
    }

    fn wrong(&mut self, line: usize, problem: Problem) {
        let section = self.section().map(|section| section.name.clone());
        self.errors.push(ConfigError {
            file: self.document.file.clone(),
            line: Some(line),
            section,
            key: None,
            problem,
        });
    }
}

/// Whether a line is blank or a comment.
fn says_nothing(line: &[u8]) -> bool {
    let text = trim(line);
    let Some(first) = text.first() else { return true };
    // Only in the first column; `rem` only as a whole word.
    let word = line.split(|byte| is_space(*byte)).next().unwrap_or_default();
    line.first() == Some(first)
        && (matches!(first, b'#' | b';') || word.eq_ignore_ascii_case(b"rem"))
}

/// The name in a line that starts a section.
fn header(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"[")?;
    let end = rest.iter().position(|byte| *byte == b']')?;
    rest.get(..end).filter(|name| !name.is_empty())
}

/// The key and the value of a line that has them.
fn option(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|byte| matches!(byte, b'=' | b':'))?;
    let (key, value) = (&line[..end], &line[end + 1..]);
    if key.first().is_none_or(|byte| is_space(*byte)) {
        return None;
    }
    let value = trim(uncommented(trim_start(value)));
    Some((trim(key), if value == b"\"\"" { b"" } else { value }))
}

/// A value without the comment after it.
fn uncommented(value: &[u8]) -> &[u8] {
    let Some(at) = value.iter().position(|byte| *byte == b';') else { return value };
    // Python checks the character before the first `;`; for a `;` at the start, that is index -1, the
    // last character. So a value can start with a `;`, but not if it ends in a blank.
    let before = if at > 0 { value.get(at - 1) } else { value.last() };
    match before {
        Some(byte) if is_space(*byte) => &value[..at],
        _ => value,
    }
}

/// Whether Python's `isspace` and `strip` treat the byte as a blank.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

/// `bytes` without the blanks around them.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = trim_start(bytes);
    let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    &bytes[..end]
}
