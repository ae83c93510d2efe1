//! Shows what each process on this host sends and receives.

use std::process::ExitCode;

use bwmon::cli;

fn main() -> ExitCode {
    cli::finish("runmonitor", cli::runmonitor::run())
}
