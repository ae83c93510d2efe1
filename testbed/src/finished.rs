//! A program that has ended, and what it has left.

use std::fmt;
use std::process::ExitStatus;

use crate::lines::{self, Refresh};

/// A run and what it left.
pub struct Finished {
    pub(crate) program: &'static str,
    pub(crate) command: String,
    /// None while it runs.
    pub(crate) status: Option<ExitStatus>,
    pub stdout: Vec<u8>,
    /// But for what depends on how busy the host is: see below.
    pub stderr: String,
    /// What was said because not everything was read in time.
    pub still_reading: String,
}

impl Finished {
    pub fn expect_status(&self, code: i32) {
        if self.status.and_then(|status| status.code()) != Some(code) {
            self.fail(&format!("expected exit status {code}"));
        }
    }

    pub fn refreshes(&self) -> Vec<Refresh> {
        lines::parse(&self.stdout).unwrap_or_else(|why| self.fail(&why))
    }

    /// The refresh of a successful run with `--count 1`.
    pub fn single_refresh(&self) -> Refresh {
        self.expect_status(0);
        match <[Refresh; 1]>::try_from(self.refreshes()) {
            Ok([refresh]) => refresh,
            Err(other) => self.fail(&format!("expected one refresh, got {}", other.len())),
        }
    }

    /// Every line of stderr is a message of the program; those that hold this, in either case.
    pub fn messages(&self, part: &str) -> Vec<&str> {
        let beginning = format!("{}: ", self.program);
        if let Some(odd) = self.stderr.lines().find(|line| !line.starts_with(&beginning)) {
            self.fail(&format!("not a message of the program: {odd:?}"));
        }
        let part = part.to_lowercase();
        self.stderr.lines().filter(|line| line.to_lowercase().contains(&part)).collect()
    }

    /// Exactly one message holds this.
    pub fn expect_one_message(&self, part: &str) {
        let count = self.messages(part).len();
        if count != 1 {
            self.fail(&format!("expected one message with {part:?} on stderr, got {count}"));
        }
    }

    pub fn expect<T: PartialEq + fmt::Display>(&self, what: &str, got: T, expected: T) {
        if got != expected {
            self.differ(what, &got, &expected);
        }
    }

    pub fn differ(&self, what: &str, got: &dyn fmt::Display, expected: &dyn fmt::Display) -> ! {
        self.fail(&format!("{what}\n  expected  {expected}\n  got       {got}"))
    }

    pub fn fail(&self, what: &str) -> ! {
        let status = self.status.map_or("still running".to_owned(), |status| status.to_string());
        let stdout = tail(&String::from_utf8_lossy(&self.stdout).escape_debug_lines());
        let stderr = tail(&self.stderr.escape_debug_lines());
        panic!(
            "{what}\n  command   {}\n  status    {status}\n--- stdout ---\n{stdout}\n\
             --- stderr ---\n{stderr}\n",
            self.command
        )
    }
}

/// The last lines of a stream: where it went wrong.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A report must not do to the terminal what the program failed to prevent.
trait EscapeLines {
    fn escape_debug_lines(&self) -> String;
}

impl EscapeLines for str {
    fn escape_debug_lines(&self) -> String {
        let lines: Vec<String> =
            self.lines().map(|line| line.escape_debug().collect::<String>()).collect();
        lines.join("\n")
    }
}
