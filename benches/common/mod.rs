//! What the benches have in common: this program in other roles, a namespace, and medians.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How often what is left in a namespace is asked to end, and how long it has between.
const KILLS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// The path of this program.
pub(crate) fn this_program() -> anyhow::Result<String> {
    let path = std::env::current_exe()?;
    path.to_str().map(str::to_owned).context("this program has no name in UTF-8")
}

/// `ip netns exec` would mount another `/sys` as well.
pub(crate) fn inside(path: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={path}")).arg(program);
    command
}

pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(drop)
}

pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?} can't be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// This program in another role, until its standard input is closed.
pub(crate) struct Piped {
    pub(crate) child: Child,
}

impl Piped {
    pub(crate) fn spawn(arguments: &[&str], namespace: Option<&str>) -> anyhow::Result<Piped> {
        let this = this_program()?;
        let mut command = namespace.map_or_else(|| Command::new(&this), |n| inside(n, &this));
        // A group of its own: Ctrl-C is for the bench, whose end is the others'.
        command.args(arguments).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("{command:?} can't be run"))?;
        Ok(Piped { child })
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Waits until the bench that has the other end of the standard input is gone, or wants no more.
pub(crate) fn until_closed() -> io::Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

/// Ends whatever runs in a namespace, and deletes it, if there is one of that name.
pub(crate) fn delete_namespace(name: &str) -> anyhow::Result<()> {
    if !Path::new("/run/netns").join(name).exists() {
        return Ok(());
    }
    for attempt in 0..KILLS {
        let left = output(Command::new("ip").args(["netns", "pids", name]))?;
        let left: Vec<i32> = left.split_whitespace().flat_map(str::parse).collect();
        if left.is_empty() {
            break;
        }
        let signal = if attempt < KILLS / 2 { Signal::TERM } else { Signal::KILL };
        for pid in left.into_iter().flat_map(Pid::from_raw) {
            // It may have ended since.
            let _ = kill_process(pid, signal);
        }
        sleep(PAUSE);
    }
    run(Command::new("ip").args(["netns", "delete", name]))
}

/// Median, least and greatest; not numbers, if there are none.
pub(crate) fn summary(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let (half, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
    // The middle one, or the two in the middle.
    let median = (at(last / 2) + at(half)) / 2.0;
    (median, at(0), at(last))
}
