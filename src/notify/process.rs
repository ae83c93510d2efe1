//! One run of a command, from its start to its end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::placeholders::Texts;
use super::queue::Job;
use crate::escape::visible;

/// Runs it and waits for its end. After the timeout its process group is killed; children that have
/// left the group are not.
///
/// # Errors
/// It can't be started, fails, or takes too long: one line that continues a sentence.
pub(super) fn run(job: &Job) -> Result<(), String> {
    let mut child = start(job).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such program".to_owned(),
            io::ErrorKind::PermissionDenied => "no permission to run it".to_owned(),
            _ => visible(error.to_string().as_bytes()),
        };
        format!("cannot be started: {why}")
    })?;
    let (status, problem) = match has_ended(&child, job.timeout) {
        Ok(true) => (child.wait(), None),
        Ok(false) => {
            kill(&mut child);
            let seconds = job.timeout.as_secs_f64();
            (child.wait(), Some(format!("killed because it ran longer than {seconds} s")))
        }
        // Killing it would be worse: most commands end.
        Err(errno) => {
            let problem = format!("ran without a limit, its end cannot be waited for: {errno}");
            (child.wait(), Some(problem))
        }
    };
    let status = status.map_err(|error| format!("lost sight of it: {error}"))?;
    match problem {
        Some(problem) => Err(problem),
        None => described(status),
    }
}

fn start(job: &Job) -> io::Result<Child> {
    let (program, arguments) =
        job.command.words().split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let texts = Texts::new(&job.facts);
    // Standard output is for the list of applications.
    let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    process::Command::new(program)
        .args(arguments.iter().map(|word| texts.fill(word)))
        .envs(texts.environment())
        // A group of its own: Ctrl-C is not meant for it, and it can be killed with all its
        // children.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stderr()?)
        .stderr(stderr()?)
        .spawn()
}

/// Waits for the end of `child`, without reaping it; returns false after the timeout.
fn has_ended(child: &Child, timeout: Duration) -> Result<bool, Errno> {
    // A time beyond the clock's range is no limit.
    let deadline = Instant::now().checked_add(timeout);
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Neither is a time beyond the range of poll(2).
        let timespec = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timespec.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Kills its process group. The child must not have been reaped: until then its pid, which is the
/// group's id, can't be reused.
fn kill(child: &mut Child) {
    // It fails if no process is left, and then nothing needs to be done.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    // It may have left its own group for another one of the session.
    let _ = child.kill();
}

fn described(status: ExitStatus) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit status {code}")),
        (None, Some(signal)) => Err(format!("killed by signal {signal}")),
        (None, None) => Err(status.to_string()),
    }
}
