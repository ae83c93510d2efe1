//! Forwards a local port to a remote host, and shows the forwarded bytes.

use std::process::ExitCode;

use bwmon::cli;

fn main() -> ExitCode {
    cli::finish("runpipe", cli::runpipe::run())
}
