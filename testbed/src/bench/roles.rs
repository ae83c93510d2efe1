//! A bench's program in other roles, which are told what to do and say when it is done, a line each.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};

use crate::netns::Namespace;

/// What roles say when they have done what they were asked for.
pub const READY: &str = "ready";

/// The path of this program.
pub fn this_program() -> String {
    let path = std::env::current_exe().unwrap();
    path.into_os_string().into_string().expect("this program has a name in UTF-8")
}

/// This program in another role, until its standard input is closed.
pub struct Piped {
    /// Its process.
    pub child: Child,
}

impl Piped {
    /// Starts it, in a namespace if there is one.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn spawn(arguments: &[&str], namespace: Option<&Namespace>) -> anyhow::Result<Piped> {
        let this = this_program();
        let mut command = namespace.map_or_else(|| Command::new(&this), |n| n.command(&this));
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

/// A role that answers.
pub struct Talking {
    /// Its process.
    pub piped: Piped,
    said: BufReader<ChildStdout>,
}

impl Talking {
    /// Starts it in a namespace.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn spawn(arguments: &[&str], namespace: &Namespace) -> anyhow::Result<Talking> {
        let mut piped = Piped::spawn(arguments, Some(namespace))?;
        let said = BufReader::new(piped.child.stdout.take().context("no pipe")?);
        Ok(Talking { piped, said })
    }

    /// What it says next; nothing if it has ended.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    /// Waits until it says that it is.
    ///
    /// # Errors
    ///
    /// If it says something else, or ends.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        ensure!(self.line()?.as_deref() == Some(READY), "somebody ended early");
        Ok(())
    }

    /// Asks for what it does once a line.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn tell(&mut self) -> anyhow::Result<()> {
        self.piped.child.stdin.as_mut().context("no pipe")?.write_all(b"\n")?;
        Ok(())
    }
}

/// Says a word to the bench, as a role.
///
/// # Errors
///
/// If the bench is gone.
pub fn say(word: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}")?;
    stdout.flush()
}

/// Waits until the bench that has the other end of the standard input is gone, or wants no more.
///
/// # Errors
///
/// If the standard input can't be read.
pub fn until_closed() -> io::Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}
