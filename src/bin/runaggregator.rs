//! Shows how much each application receives and sends, and notifies when it is too much.

use std::process::ExitCode;

use bwmon::cli;

fn main() -> ExitCode {
    cli::finish("runaggregator", cli::runaggregator::run())
}
