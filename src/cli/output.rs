//! The format of standard output: the flags `--format` and `--units` of all three programs.

use std::io;

use clap::{Args, ValueEnum};

use crate::escape::ascii;
use crate::locale::is_ascii_terminal;
use crate::render::csv::Csv;
use crate::render::json::Json;
use crate::render::terminal::Terminal;
use crate::render::units::Units;
use crate::render::{Format, Frame};

// A doc comment would replace the program's description in its help.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Format of the refreshes
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: FormatChoice,

    /// Units of bytes in text, instead of plain numbers
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub units: Option<Units>,
}

/// The format of the refreshes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// Lines of text for people
    #[default]
    Text,
    /// JSON Lines: one line with all data for each refresh
    Json,
    /// CSV: a header, and a record for each row of each refresh
    Csv,
}

/// Why flags of output exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--units {units} is for --format text: {format} has plain numbers of bytes; leave one of them out", units = flag_name(.0), format = flag_name(.1))]
pub(super) struct OutputError(Units, FormatChoice);

/// What a flag calls a value.
pub(super) fn flag_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Output {
    /// Checks that the flags don't exclude each other.
    ///
    /// # Errors
    /// They do.
    pub(super) fn check(self) -> Result<(), OutputError> {
        match (self.units, self.format) {
            (Some(units), FormatChoice::Json | FormatChoice::Csv) => {
                Err(OutputError(units, self.format))
            }
            _ => Ok(()),
        }
    }

    /// Whether the format has facts of processes.
    pub(super) fn has_facts(self) -> bool {
        self.format == FormatChoice::Json
    }

    /// The writer of refreshes, with `text` for a terminal or a stream, and whether each refresh replaces the
    /// one before.
    pub(super) fn format<F: Format>(
        self,
        text: impl FnOnce(Terminal) -> F,
    ) -> (Box<dyn Format>, bool) {
        match self.format {
            FormatChoice::Text => {
                let terminal = Terminal::of_stdout();
                let is_screen = terminal.is_screen();
                (Box::new(text(terminal)), is_screen)
            }
            FormatChoice::Json => {
                let ascii = is_ascii_terminal(&io::stdout());
                (Box::new(Json { host: host(), ascii }), false)
            }
            FormatChoice::Csv => {
                let csv = Csv::new(host());
                match is_ascii_terminal(&io::stdout()) {
                    true => (Box::new(Ascii(csv)), false),
                    false => (Box::new(csv), false),
                }
            }
        }
    }
}

/// CSV for a terminal of another character set than UTF-8: its names have escapes of this form already.
struct Ascii<F>(F);

impl<F: Format> Format for Ascii<F> {
    fn format(&mut self, frame: &Frame) -> Vec<u8> {
        ascii(&String::from_utf8_lossy(&self.0.format(frame))).into_owned().into_bytes()
    }
}

/// The name of this host (uname(2)).
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn csv_for_a_terminal_that_is_not_utf8_has_the_same_escapes_everywhere() {
        struct Names;
        impl Format for Names {
            fn format(&mut self, _: &Frame) -> Vec<u8> {
                "name\r\n\u{db}2J\\u{9b}\r\n".into()
            }
        }
        let frame = Frame {
            snapshot: Arc::default(),
            above: Vec::new(),
            if_empty: None,
            alerts: Vec::new(),
        };
        assert_eq!(Ascii(Names).format(&frame), b"name\r\n\\u{db}2J\\u{9b}\r\n");
    }

    #[test]
    fn units_are_for_text() {
        let output = |format, units| Output { format, units }.check().map_err(|e| e.to_string());
        for units in [None, Some(Units::SiBits)] {
            assert_eq!(output(FormatChoice::Text, units), Ok(()));
        }
        assert_eq!(output(FormatChoice::Csv, None), Ok(()));
        assert_eq!(
            output(FormatChoice::Json, Some(Units::SiBits)),
            Err(
                "--units si-bits is for --format text: json has plain numbers of bytes; leave one \
                 of them out"
                    .to_owned()
            )
        );
    }
}
