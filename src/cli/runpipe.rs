//! `runpipe`: a local port forwarded to a remote host, and what goes through it.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;

use super::beat::following;
use super::forwarding::{GLANCE, allow_descriptors, explain, say_cut};
use super::pipe_log::Log;
use super::signals::{Signals, Woken};
use super::{USAGE, is_broken_pipe};
use crate::pipe::{Config, Pipe};
use crate::render::terminal::Terminal;
use crate::render::{Screen, classic};
use crate::traffic::Row;
use crate::view::arrange;

pub use arguments::Arguments;
use arguments::is_wrong_count;

const PROGRAM: &str = "runpipe";

/// As the original's manual has it.
const FORMS: &str = "usage: runpipe [OPTIONS] PORT HOST\n       \
                     runpipe [OPTIONS] LOCALPORT HOST REMOTEPORT\n";

/// Runs the program with the arguments of the process.
///
/// # Errors
/// What ends it at run time, to be shown as one line. Usage errors are shown here.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if is_wrong_count(&error) => {
            let _ = io::stderr().write_all(FORMS.as_bytes());
            return Ok(ExitCode::from(USAGE));
        }
        Err(error) => return super::usage(PROGRAM, &error),
    };
    let terminal = Terminal::of_stdout();
    let log = Log::start(PROGRAM, arguments.log, terminal.is_screen())
        .context("no thread for messages can be had")?;
    let Arguments { port, ref host, remote_port, .. } = arguments;
    let mut config = Config::new(port, host, remote_port.unwrap_or(port));
    config.bind = arguments.bind;
    config.connect_timeout = arguments.connect_timeout;
    config.idle_timeout = arguments.idle_timeout;
    config.max_connections = arguments.max_connections;
    config.shape = arguments.shape;
    config.send_proxy = arguments.send_proxy;
    config.workers = arguments.workers.unwrap_or(config.workers);
    config.report = Some(log.report(None));
    config.report_ends = arguments.log;
    let name = config.name();
    allow_descriptors();
    let signals = Signals::new().context("signals can't be handled")?;
    let pipe = Pipe::start(config).map_err(|error| explain(PROGRAM, error))?;
    let mut show = Show { name, terminal, screen: Screen::new(io::stdout()), log, signals };
    let ended = show.run(&arguments, pipe);
    show.log.finish();
    ended
}

/// What shows the pipe's traffic until the end.
struct Show {
    name: String,
    terminal: Terminal,
    screen: Screen<io::Stdout>,
    log: Log,
    signals: Signals,
}

impl Show {
    fn run(&mut self, arguments: &Arguments, pipe: Pipe) -> anyhow::Result<ExitCode> {
        let mut next = Instant::now() + arguments.refreshes.interval;
        let mut refreshes = 0;
        let outcome = loop {
            match self.signals.wait(next, &[]).context("waiting failed") {
                Ok(Woken::Stop) => break Ok(()),
                Ok(Woken::Resized) if refreshes == 0 || !self.terminal.is_screen() => continue,
                Ok(Woken::Resized) => {}
                Ok(Woken::Time | Woken::Events | Woken::Reload) => {
                    refreshes += 1;
                    next = following(next, arguments.refreshes.interval, Instant::now());
                }
                Err(error) => break Err(error),
            }
            if let Err(error) = self.refresh(&pipe) {
                break Err(error);
            }
            if arguments.refreshes.are_done(refreshes) {
                break Ok(());
            }
        };
        let counted = arguments.refreshes.are_done(refreshes);
        self.drain(arguments, &pipe, next, outcome.is_ok() && !counted);
        pipe.stop();
        match outcome {
            // Who read it has read enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            outcome => outcome.map(|()| ExitCode::SUCCESS),
        }
    }

    fn refresh(&mut self, pipe: &Pipe) -> anyhow::Result<()> {
        let rows = arrange(vec![Row::new(pipe.traffic(), self.name.as_str())]);
        let frame = classic::compose(&self.log.on_screen(), &rows, &self.terminal.layout());
        self.screen.show(&frame).context("standard output")
    }

    /// Lets the open connections run to their end, unless that takes too long. If it is still
    /// `shown` what they do, the last refresh is what was forwarded in all.
    fn drain(&mut self, arguments: &Arguments, pipe: &Pipe, mut next: Instant, mut shown: bool) {
        self.signals.stop();
        pipe.close();
        self.log.say("Waiting for threads to finish...");
        let limit = arguments.drain_timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let glance = Instant::now() + GLANCE;
            if pipe.wait(Some(limit.map_or(glance, |at| at.min(glance)))) {
                break;
            }
            let now = Instant::now();
            if limit.is_some_and(|at| at <= now) {
                say_cut(PROGRAM, pipe.open());
                break;
            }
            if now >= next {
                next = following(next, arguments.refreshes.interval, now);
                shown = shown && self.refresh(pipe).is_ok();
            }
        }
        if shown {
            let _ = self.refresh(pipe);
        }
    }
}
