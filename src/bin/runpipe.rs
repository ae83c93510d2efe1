//! Forwards a local port to a remote host, and shows what went through it.

use std::process::ExitCode;

use bwmon::cli;

fn main() -> ExitCode {
    cli::finish("runpipe", cli::runpipe::run())
}
