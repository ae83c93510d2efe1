//! Roles that are told what to do and say when it is done, a line each.

use std::io::{self, BufRead, BufReader, Write};
use std::process::ChildStdout;

use anyhow::{Context, ensure};

use crate::common::Piped;

/// What roles say when they have done what they were asked for.
pub(crate) const READY: &str = "ready";

/// A role that answers.
pub(crate) struct Talking {
    pub(crate) piped: Piped,
    said: BufReader<ChildStdout>,
}

impl Talking {
    pub(crate) fn spawn(arguments: &[&str], namespace: &str) -> anyhow::Result<Talking> {
        let mut piped = Piped::spawn(arguments, Some(namespace))?;
        let said = BufReader::new(piped.child.stdout.take().context("no pipe")?);
        Ok(Talking { piped, said })
    }

    pub(crate) fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    pub(crate) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        ensure!(self.line()?.as_deref() == Some(READY), "somebody ended early");
        Ok(())
    }

    pub(crate) fn tell(&mut self) -> anyhow::Result<()> {
        self.piped.child.stdin.as_mut().context("no pipe")?.write_all(b"\n")?;
        Ok(())
    }
}

pub(crate) fn say(word: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}")?;
    stdout.flush()
}
