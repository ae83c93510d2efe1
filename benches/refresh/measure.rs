//! CPU time and peak memory of one program, exactly.

use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What one run of a program took: milliseconds of CPU time, and megabytes (10⁶ bytes).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) peak: f64,
}

impl FromStr for Cost {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Cost> {
        let numbers: Vec<f64> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [user, system, peak] = numbers[..] else {
            anyhow::bail!("three numbers were expected, not {line:?}");
        };
        Ok(Cost { user, system, peak })
    }
}

/// Runs one program to its end and prints its [`Cost`].
///
/// A process of its own, and a small one: `RUSAGE_CHILDREN` is then that one program's, and a
/// child's peak memory, which begins with what its parent had, is its own.
pub(crate) fn child(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Shown if it fails; `conntrack -L` says how many entries there were.
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("{program} can't be run"))?;
    let said = String::from_utf8_lossy(&status.stderr);
    ensure!(status.status.success(), "{program}: {}: {}", status.status, said.trim());
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    println!(
        "{} {} {}",
        usage.user_time().num_microseconds() as f64 / 1e3,
        usage.system_time().num_microseconds() as f64 / 1e3,
        usage.max_rss() as f64 * 1024.0 / 1e6,
    );
    Ok(())
}
