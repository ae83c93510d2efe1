//! `runpipe`: a local port forwarded to a remote host, and what goes through it.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use super::USAGE;
use super::forwarding::{GLANCE, allow_descriptors, explain, say_cut};
use super::messages::Messages;
use super::run::{End, Program, Run, Unwritable};
use super::schedule::following;
use crate::pipe::{Config, Pipe};
use crate::render::classic;
use crate::render::terminal::Terminal;
use crate::traffic::{Row, Traffic};
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
    let mut run = Run::start(PROGRAM, arguments.log, terminal.is_screen(), Unwritable::Told)?;
    let outcome = forward(&arguments, terminal, &mut run);
    Ok(run.end(outcome))
}

/// Forwards until the end.
fn forward(arguments: &Arguments, terminal: Terminal, run: &mut Run) -> anyhow::Result<()> {
    let Arguments { port, host, remote_port, .. } = arguments;
    let mut config = Config::new(*port, host, remote_port.unwrap_or(*port));
    config.bind = arguments.bind;
    config.connect_timeout = arguments.connect_timeout;
    config.idle_timeout = arguments.idle_timeout;
    config.max_connections = arguments.max_connections;
    config.shape = arguments.shape;
    config.send_proxy = arguments.send_proxy;
    config.workers = arguments.workers.unwrap_or(config.workers);
    config.report = Some(run.messages().report(None));
    config.report_ends = arguments.log;
    let name = config.name();
    allow_descriptors();
    let pipe = Pipe::start(config).map_err(|error| explain(PROGRAM, error))?;
    let messages = run.messages().clone();
    let mut shown = Forwarded { pipe, name, traffic: Traffic::default(), terminal, messages };
    let outcome = run.refresh(&mut shown, &arguments.refreshes, Instant::now(), false);
    let asked = matches!(outcome, Ok(End::Asked));
    // Now, and not after what may take long.
    if let Err(error) = outcome.and_then(|_| run.finish()) {
        run.fail(&error);
    }
    shown.drain(arguments, run, asked);
    shown.pipe.stop();
    Ok(())
}

/// A pipe, and what it has forwarded at the last refresh.
struct Forwarded {
    pipe: Pipe,
    name: String,
    traffic: Traffic,
    terminal: Terminal,
    messages: Messages,
}

impl Program for Forwarded {
    fn refresh(&mut self, _: Instant) -> anyhow::Result<()> {
        self.traffic = self.pipe.traffic();
        Ok(())
    }

    fn compose(&self) -> Vec<u8> {
        let rows = arrange(vec![Row::new(self.traffic, self.name.as_str())]);
        classic::compose(&self.messages.on_screen(), &rows, &self.terminal.layout())
    }
}

impl Forwarded {
    /// Lets the open connections run to their end, unless that takes too long. If what they do is
    /// still `shown`, the last refresh is what was forwarded in all.
    fn drain(&mut self, arguments: &Arguments, run: &mut Run, shown: bool) {
        run.signals().stop();
        self.pipe.close();
        self.messages.say_line("Waiting for threads to finish...".to_owned());
        let limit = arguments.drain_timeout.map(|timeout| Instant::now() + timeout);
        let mut next = Instant::now() + arguments.refreshes.interval;
        loop {
            let glance = Instant::now() + GLANCE;
            if self.pipe.wait(Some(limit.map_or(glance, |at| at.min(glance)))) {
                break;
            }
            let now = Instant::now();
            if limit.is_some_and(|at| at <= now) {
                say_cut(&self.messages, self.pipe.open());
                break;
            }
            if shown && now >= next {
                next = following(next, arguments.refreshes.interval, now);
                self.show(run);
            }
        }
        if shown {
            self.show(run);
            // A reader who left meanwhile has read enough.
            let _ = run.finish();
        }
    }

    fn show(&mut self, run: &mut Run) {
        self.traffic = self.pipe.traffic();
        run.show(self.compose());
    }
}
