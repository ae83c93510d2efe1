//! The edge: flags, messages, signals and exit statuses. Each program's `main` only calls its
//! `run` here and maps the result to an exit status.

pub mod check;
mod notes;
pub mod runmonitor;
mod signals;
mod source;

pub use source::SourceChoice;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::escape::visible;

/// The exit status of bad usage or configuration.
pub const USAGE: u8 = 2;
/// The exit status of a failure at run time.
pub const FAILURE: u8 = 1;

/// Writes one line to standard error: the program's name, a colon, the message. The message is
/// made safe to print; a standard error that is closed is nobody's problem.
pub fn say(program: &str, message: &str) {
    let _ = writeln!(io::stderr(), "{program}: {}", visible(message.as_bytes()));
}

/// Ends a program as its result says: a broken pipe is a normal end, an error one line.
pub fn finish(program: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(program, &format!("{error:#}"));
            ExitCode::from(FAILURE)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
