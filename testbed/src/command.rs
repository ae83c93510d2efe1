//! Commands that run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// What a command prints.
///
/// # Errors
///
/// If it can't be started, fails (with what it says), or prints something else than UTF-8.
pub fn try_output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?} can't be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// What a command prints that has to work.
pub fn output(command: &mut Command) -> String {
    try_output(command).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Whether a program is in the search path.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
