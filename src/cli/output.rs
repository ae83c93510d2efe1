//! What standard output is written in: the flags `--format` and `--units` of all three programs.

use clap::{Args, ValueEnum};

use crate::render::Format;
use crate::render::csv::Csv;
use crate::render::json::Json;
use crate::render::terminal::Terminal;
use crate::render::units::Units;

// A comment for documentation would take the place of the program's description in its help.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// What a refresh is written as
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: FormatChoice,

    /// In what units text shows bytes, instead of plain numbers
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub units: Option<Units>,
}

/// What a refresh is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// Lines for people, as they always were
    #[default]
    Text,
    /// JSON Lines: a line with everything there is for each refresh
    Json,
    /// CSV: a record for each row of each refresh, and a header
    Csv,
}

/// Why flags of output don't go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--units {units} is for --format text: {format} has plain numbers of bytes; leave one of them out", units = .0.name(), format = .1.name())]
pub(super) struct OutputError(Units, FormatChoice);

impl FormatChoice {
    fn name(self) -> &'static str {
        match self {
            FormatChoice::Text => "text",
            FormatChoice::Json => "json",
            FormatChoice::Csv => "csv",
        }
    }
}

impl Output {
    /// Whether the flags go together.
    ///
    /// # Errors
    /// They don't.
    pub(super) fn check(self) -> Result<(), OutputError> {
        match (self.units, self.format) {
            (Some(units), FormatChoice::Json | FormatChoice::Csv) => {
                Err(OutputError(units, self.format))
            }
            _ => Ok(()),
        }
    }

    /// Whether it has facts of processes.
    pub(super) fn has_facts(self) -> bool {
        self.format == FormatChoice::Json
    }

    /// What writes refreshes, `text` for a terminal or a stream, and whether each one takes the place of the one
    /// before.
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
            FormatChoice::Json => (Box::new(Json { host: host() }), false),
            FormatChoice::Csv => (Box::new(Csv::new(host())), false),
        }
    }
}

/// What this host is called (uname(2)).
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
