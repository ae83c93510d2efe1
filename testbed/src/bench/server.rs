//! A program that listens, for as long as it is wanted.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};

use crate::command::try_output;
use crate::netns::Namespace;
use crate::streams::is_listening;

/// Nothing here takes longer than this unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// A program with all of its children, in a group of processes of their own.
pub struct Server {
    child: Child,
    said: PathBuf,
}

impl Server {
    /// Starts it, and returns as soon as it listens on `port`, in a namespace that is not this
    /// program's own if there is one. What goes wrong is written to a file in `directory`.
    ///
    /// # Errors
    ///
    /// If it can't be started, ends, or doesn't listen in time.
    pub fn start(
        command: &mut Command,
        directory: &Path,
        namespace: Option<&Namespace>,
        port: u16,
    ) -> anyhow::Result<Server> {
        let said = directory.join(format!("said-{port}"));
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()
            .with_context(|| format!("{command:?} can't be run"))?;
        let mut server = Server { child, said };
        let begin = Instant::now();
        while !listens(namespace, port)? {
            let ended = server.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > PATIENCE {
                bail!("{command:?} doesn't listen: {ended:?}: {}", server.last_words());
            }
            sleep(PAUSE);
        }
        Ok(server)
    }

    /// The number of its first process, and of the group.
    pub fn group(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn last_words(&self) -> String {
        let said = fs::read(&self.said).unwrap_or_default();
        String::from_utf8_lossy(&said).lines().rev().take(3).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(self.group()) else { return };
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        // Its children are this process's now.
        let begin = Instant::now();
        while let Ok(ended) = waitpgid(group, WaitOptions::NOHANG) {
            if begin.elapsed() > PATIENCE {
                break;
            }
            if ended.is_none() {
                sleep(PAUSE);
            }
        }
    }
}

/// Whether somebody in a namespace listens there. Asked of the kernel, since a server would notice a
/// connection.
fn listens(namespace: Option<&Namespace>, port: u16) -> anyhow::Result<bool> {
    const TABLE: &str = "/proc/self/net/tcp";
    let table = match namespace {
        Some(namespace) => namespace.run(&format!("cat {TABLE}")),
        None => fs::read_to_string(TABLE)?,
    };
    Ok(is_listening(&table, port))
}

/// What a client prints, in a namespace if there is one. It is ended if it takes much longer than it should.
///
/// # Errors
///
/// If it fails or is ended.
pub fn client(
    namespace: Option<&Namespace>,
    command: &str,
    more: &[&str],
    seconds: u64,
) -> anyhow::Result<String> {
    let limited = "timeout";
    let mut limited = namespace.map_or_else(|| Command::new(limited), |n| n.command(limited));
    limited.args(["--kill-after=1", &(seconds + 10).to_string()]);
    try_output(limited.args(command.split(' ')).args(more))
}
