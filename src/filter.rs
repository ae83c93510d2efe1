//! The processes that the user wants to see.
//!
//! Patterns are written as for Python's `re` on byte strings, and most of them have the same
//! meaning here; [`compile`] documents the differences.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::ast::{self, ErrorKind};

use crate::escape::visible;

/// Selects command lines by regular expressions.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Compiled by [`compile`]: one of them has to match, if there are any.
    pub include: Vec<Regex>,
    /// Compiled by [`compile`]: none of them may match.
    pub exclude: Vec<Regex>,
}

impl Filter {
    /// A filter from the values of `--include` and `--exclude`.
    ///
    /// # Errors
    /// The first pattern that [`compile`] refuses, and its option.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Filter, FilterError> {
        Ok(Filter {
            include: compile_all("--include", include)?,
            exclude: compile_all("--exclude", exclude)?,
        })
    }

    /// Whether a process with this command line is selected: some `include` matches anywhere in it,
    /// or there is none, and no `exclude` matches.
    ///
    /// Takes the raw command line: neither cut nor escaped.
    pub fn selects(&self, command_line: &[u8]) -> bool {
        let found_in = |patterns: &[Regex]| patterns.iter().any(|p| p.is_match(command_line));
        (self.include.is_empty() || found_in(&self.include)) && !found_in(&self.exclude)
    }
}

/// An unusable pattern and its option, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {problem}")]
pub struct FilterError {
    /// The option, such as `--include`.
    pub option: &'static str,
    /// The error of its value.
    pub problem: PatternError,
}

/// An unusable regular expression. One line, safe to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad regular expression '{pattern}': {reason}")]
pub struct PatternError {
    /// The pattern, made [`visible`].
    pub pattern: String,
    /// The error, and for what this engine does not support, the alternative.
    pub reason: String,
}

fn compile_all(option: &'static str, patterns: &[String]) -> Result<Vec<Regex>, FilterError> {
    patterns
        .iter()
        .map(|pattern| compile(pattern).map_err(|problem| FilterError { option, problem }))
        .collect()
}

/// A regular expression over raw bytes.
///
/// A command line consists of bytes and need not be UTF-8. So `.` is any byte but a newline, and
/// `\w`, `\d`, `\s`, `\b` and `(?i)` are ASCII only, all as in Python 2. (If `.` were a Unicode
/// character, one stray byte in its command line would hide a process from `ssh.+host`.) A letter
/// beyond ASCII matches its UTF-8 bytes. `(?u)` at the start of a pattern makes it match characters
/// instead; a pattern that is valid only that way (`[äö]`, `\p{Greek}`) is read so automatically.
///
/// Unlike Python: no look-around, no back-references, no `(?#comments)`; `\z` instead of `\Z`; `$`
/// does not match before a newline at the end; a plain `{`, and a `[` inside `[...]`, need a
/// backslash; and `&&`, `--`, `~~` inside `[...]` are set operations.
///
/// # Errors
/// The pattern is malformed, uses what this engine lacks, or is too big.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    let build = |unicode| RegexBuilder::new(pattern).unicode(unicode).build();
    build(false)
        .or_else(|error| match error {
            regex::Error::Syntax(_) => build(true),
            error => Err(error),
        })
        .map_err(|error| PatternError {
            pattern: visible(pattern.as_bytes()),
            reason: reason(pattern, &error),
        })
}

/// A pattern that matches everything.
#[allow(clippy::expect_used, reason = "the pattern is known")]
pub(crate) fn anything() -> Regex {
    Regex::new("").expect("an empty pattern is one")
}

const ENGINE: &str = "not supported by this regular expression engine";

/// The error of `pattern`, in one line.
fn reason(pattern: &str, error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("it is too big, it would take more than {limit} bytes of memory");
    }
    // `regex` only has a drawing of the pattern with its message below. Its parser has the kind and
    // the position of the error; the options are those of the last attempt in [`compile`].
    let parsed = ParserBuilder::new().utf8(false).unicode(true).build().parse(pattern);
    match parsed {
        Err(regex_syntax::Error::Parse(error)) => malformed(&error),
        Err(regex_syntax::Error::Translate(error)) => error.kind().to_string(),
        _ => visible(error.to_string().as_bytes()),
    }
}

/// The error of a pattern that the parser refuses, and what to write instead.
fn malformed(error: &ast::Error) -> String {
    let place = error.pattern().get(error.span().start.offset..).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnsupportedLookAround => format!(
            "look-around such as (?=...), (?!...) or (?<!...) is {ENGINE}; \
             leave it out and use an exclude pattern for what must not match"
        ),
        ErrorKind::UnsupportedBackreference => no_references(),
        // The engine parses Python's (?P=name) as flags.
        ErrorKind::FlagUnrecognized if place.starts_with("P=") => no_references(),
        ErrorKind::EscapeUnrecognized if place.starts_with("\\Z") => {
            format!("\\Z is {ENGINE}; write \\z for the end of the text")
        }
        // Both are plain characters in Python in positions where they are not here.
        kind @ ErrorKind::ClassUnclosed => format!("{kind}; a [ of its own wants a backslash"),
        kind @ (ErrorKind::RepetitionCountUnclosed | ErrorKind::RepetitionCountDecimalEmpty) => {
            format!("{kind}; a {{ of its own wants a backslash")
        }
        // Fixed sentences of the crate, and numbers.
        kind => kind.to_string(),
    }
}

fn no_references() -> String {
    format!(
        "back-references such as \\1 or (?P=name) are {ENGINE}; write the repeated part out again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Result<Filter, FilterError> {
        let owned = |patterns: &[&str]| patterns.iter().map(|p| p.to_string()).collect::<Vec<_>>();
        Filter::new(&owned(include), &owned(exclude))
    }

    fn finds(pattern: &str, bytes: &[u8]) -> bool {
        compile(pattern).unwrap().is_match(bytes)
    }

    #[test]
    fn include_first_and_exclude_overrides() {
        type Case = (&'static [&'static str], &'static [&'static str], &'static [u8], bool);
        let cases: &[Case] = &[
            (&[], &[], b"anything", true),
            (&[], &[], b"", true),
            (&["ssh"], &[], b"/usr/bin/ssh host", true),
            (&["ssh"], &[], b"wget", false),
            (&["ssh", "wget"], &[], b"wget", true),
            (&[], &["ssh"], b"sshd", false),
            (&[], &["ssh"], b"wget", true),
            (&["ssh"], &["host2"], b"ssh host1", true),
            (&["ssh"], &["host2"], b"ssh host2", false),
            (&["ssh"], &["ssh"], b"ssh", false),
            (&["^ssh$"], &[], b"sshd", false),
            // An empty pattern is found everywhere.
            (&[""], &[], b"x", true),
            (&[], &[""], b"x", false),
        ];
        for (include, exclude, command_line, expected) in cases {
            let filter = filter(include, exclude).unwrap();
            assert_eq!(filter.selects(command_line), *expected, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn patterns_of_existing_files() {
        assert!(finds(r"ssh.+host\.example\.com", b"ssh -v user@host.example.com"));
        assert!(!finds(r"ssh.+host\.example\.com", b"ssh hostXexampleXcom"));
        assert!(finds("firefox|chrom(e|ium)", b"/opt/chromium/chrome"));
        assert!(finds(r"(?i)\bFIREFOX\b", b"/usr/lib/firefox -new"));
        assert!(finds(r"(?P<what>wget|curl)", b"curl -O"));
        assert!(finds("-p 22", b"ssh -p 22"));
    }

    #[test]
    fn bytes_that_are_not_utf8_hide_nothing() {
        assert!(finds("ssh.+host", b"ssh \xff\xfe host"));
        assert!(finds("ssh[^x]+host", b"ssh\xffhost"));
        assert!(finds(r"\xff", b"\xff"));
        assert!(!finds(r"\xff", "\u{ff}".as_bytes()));
    }

    #[test]
    fn letters_beyond_ascii() {
        assert!(finds("caf\u{e9}?$", "caf\u{e9}".as_bytes()));
        assert!(finds("^caf\u{e9}?$", b"caf"));
        // Two bytes, one character.
        assert!(finds("^..$", "\u{e9}".as_bytes()));
        assert!(finds("(?u)^.$", "\u{e9}".as_bytes()));
        // Only as characters do these mean anything.
        assert!(finds("^[\u{e4}\u{f6}]$", "\u{f6}".as_bytes()));
        assert!(finds(r"^\p{Greek}+$", "\u{3b1}\u{3b2}".as_bytes()));
        assert!(!finds("(?i)\u{e9}", "\u{c9}".as_bytes()));
        assert!(finds("(?iu)\u{e9}", "\u{c9}".as_bytes()));
    }

    #[test]
    fn newlines_are_as_in_python() {
        assert!(!finds("a.b", b"a\nb"));
        assert!(finds("(?s)a.b", b"a\nb"));
        assert!(!finds("^b", b"a\nb"));
        assert!(finds("(?m)^b", b"a\nb"));
    }

    #[test]
    fn errors_are_one_line_that_says_what_to_do() {
        let cases = [
            ("a(b", "'a(b': unclosed group"),
            ("*", "'*': repetition operator missing expression"),
            ("[z-a]", "'[z-a]': invalid character class range, the start must be <= the end"),
            (
                "(\n\x1b[2J",
                r"'(\n\x1b[2J': unclosed character class; a [ of its own wants a backslash",
            ),
            ("[[]", "'[[]': unclosed character class; a [ of its own wants a backslash"),
            ("a{", "'a{': unclosed counted repetition; a { of its own wants a backslash"),
            (r"x\q", r"'x\q': unrecognized escape sequence"),
            (
                r"x\Z",
                concat!(
                    r"'x\Z': \Z is not supported by this regular expression engine; ",
                    r"write \z for the end of the text",
                ),
            ),
        ];
        for (pattern, expected) in cases {
            let error = compile(pattern).unwrap_err().to_string();
            assert_eq!(error, format!("bad regular expression {expected}"));
        }
    }

    #[test]
    fn what_the_engine_lacks_is_named() {
        for pattern in ["a(?=b)", "a(?!b)", "(?<=a)b", "(?<!a)b"] {
            let error = compile(pattern).unwrap_err().to_string();
            assert!(error.contains("look-around") && error.contains("not supported"), "{error}");
            assert!(error.contains("exclude"), "{error}");
        }
        for pattern in [r"(a)\1", "(?P<q>a)(?P=q)"] {
            let error = compile(pattern).unwrap_err().to_string();
            assert!(error.contains("back-references"), "{error}");
        }
        let error = compile("(x{1000}){1000}").unwrap_err().to_string();
        assert!(error.contains("too big"), "{error}");
    }

    /// What to do about one thing is not said where something else is wrong.
    #[test]
    fn advice_is_about_the_place_of_the_error() {
        for (pattern, expected) in [
            (r"\q|x\Z", r"'\q|x\Z': unrecognized escape sequence"),
            (r"\\Z\q", r"'\\Z\q': unrecognized escape sequence"),
            ("(?y)(?P<q>a)(?P=q)", "'(?y)(?P<q>a)(?P=q)': unrecognized flag"),
            (r"\p{Nowhere}", r"'\p{Nowhere}': Unicode property not found"),
        ] {
            let error = compile(pattern).unwrap_err().to_string();
            assert_eq!(error, format!("bad regular expression {expected}"));
        }
    }

    #[test]
    fn the_option_is_named() {
        let error = filter(&["ok"], &["ok", "(?!x)"]).unwrap_err();
        assert_eq!(error.option, "--exclude");
        assert!(error.to_string().starts_with("--exclude: bad regular expression '(?!x)': look"));
        assert!(filter(&["("], &["("]).unwrap_err().to_string().starts_with("--include: "));
    }

    proptest! {
        #[test]
        fn never_panics(
            include in proptest::collection::vec(any::<String>(), 0..3),
            exclude in proptest::collection::vec(r"[a(\[)\]{}?*+|\\\\\n^$.PZ=<!1-9-]{0,12}", 0..3),
            command_line in any::<Vec<u8>>(),
        ) {
            match Filter::new(&include, &exclude) {
                Ok(filter) => drop(filter.selects(&command_line)),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }

        #[test]
        fn a_quoted_literal_is_found(
            before in any::<Vec<u8>>(), text in any::<String>(), after in any::<Vec<u8>>()
        ) {
            let command_line = [before.as_slice(), text.as_bytes(), &after].concat();
            prop_assert!(finds(&regex::escape(&text), &command_line));
        }
    }
}
