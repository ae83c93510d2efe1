//! `runpipe`: forwards a local port to a remote host, and shows the forwarded bytes.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;

use super::forwarding::{PEEK, allow_descriptors, explain, say_cut};
use super::messages::Messages;
use super::run::{End, Program, Run, Unwritable};
use super::view::Grouped;
use super::{USAGE, say};
use crate::aggregator::{Aggregator, ChangeError, Plan, PlanError};
use crate::by::Names;
use crate::model::Snapshot;
use crate::monitor::{Options, following};
use crate::pipe::Config;
use crate::render::Frame;
use crate::render::classic::{Classic, Show};

pub use arguments::Arguments;
use arguments::is_wrong_count;

const PROGRAM: &str = "runpipe";

/// The forms of usage, as in the original's manual.
const FORMS: &str = "usage: runpipe [OPTIONS] PORT HOST\n       \
                     runpipe [OPTIONS] LOCALPORT HOST REMOTEPORT\n";

/// Runs the program with the arguments of the process.
///
/// # Errors
/// Those that end it at run time, to be shown as one line. Errors of usage are shown here.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if is_wrong_count(&error) => {
            let _ = io::stderr().write_all(FORMS.as_bytes());
            return Ok(ExitCode::from(USAGE));
        }
        Err(error) => return super::usage(PROGRAM, &error),
    };
    let Arguments { output, grouped, .. } = &arguments;
    let checked = output.check().map_err(|error| error.to_string());
    if let Err(error) = checked.and_then(|()| grouped.check(*output).map_err(|e| e.to_string())) {
        say(PROGRAM, &error);
        return Ok(ExitCode::from(USAGE));
    }
    let (show, units) = (Show::Traffic, arguments.output.units);
    let (format, is_screen) =
        arguments.output.format(|terminal| Classic { show, unattributed: false, units, terminal });
    let mut run = Run::start(PROGRAM, arguments.log, is_screen, Unwritable::Told, format)?;
    let outcome = forward(&arguments, &mut run);
    Ok(run.end(outcome))
}

/// Forwards until the end.
fn forward(arguments: &Arguments, run: &mut Run) -> anyhow::Result<()> {
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
    allow_descriptors();
    let mut aggregator = Aggregator::default();
    let plan = Plan { pipes: vec![config], ..Plan::default() };
    let mut options = Options::default();
    arguments.grouped.add_to(&mut options);
    let applied = aggregator.apply(&plan, &options, |_| ());
    applied.map_err(|error| match error {
        PlanError::Pipe(ChangeError::Start { error, .. }) => explain(PROGRAM, error),
        error => error.into(),
    })?;
    let messages = run.messages().clone();
    let grouped = arguments.grouped.clone();
    let names = grouped.names()?;
    let mut forwarded =
        Forwarded { aggregator, snapshot: Arc::default(), messages, grouped, names };
    let outcome = run.refresh(&mut forwarded, &arguments.refreshes, Instant::now(), false);
    let asked = matches!(outcome, Ok(End::Asked));
    // Now, and not after what may take long.
    if let Err(error) = outcome.and_then(|_| run.finish()) {
        run.fail(&error);
    }
    forwarded.drain(arguments, run, asked);
    Ok(())
}

/// A pipe, and the bytes that it has forwarded.
struct Forwarded {
    aggregator: Aggregator,
    /// The last refresh.
    snapshot: Arc<Snapshot>,
    messages: Messages,
    grouped: Grouped,
    names: Option<Arc<dyn Names>>,
}

impl Program for Forwarded {
    fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    fn aggregator_mut(&mut self) -> &mut Aggregator {
        &mut self.aggregator
    }

    fn group(&self, snapshot: &mut Snapshot) {
        self.grouped.group(snapshot, self.names.as_deref());
    }

    fn took(&mut self, snapshot: &Arc<Snapshot>) {
        self.snapshot = snapshot.clone();
    }

    fn frame(&self) -> Frame {
        let (above, alerts) = (self.messages.on_screen(), Vec::new());
        Frame { snapshot: self.snapshot.clone(), above, if_empty: None, alerts }
    }
}

impl Forwarded {
    /// Forwards open connections to their end, or until the timeout. If traffic is still `shown`,
    /// the last refresh has all forwarded bytes.
    fn drain(&mut self, arguments: &Arguments, run: &mut Run, shown: bool) {
        run.signals().stop();
        self.aggregator.pipes().close();
        self.messages.say_line("Waiting for threads to finish...".to_owned());
        let limit = arguments.drain_timeout.map(|timeout| Instant::now() + timeout);
        let mut next = Instant::now() + arguments.refreshes.interval;
        loop {
            let peek = Instant::now() + PEEK;
            if self.aggregator.pipes().wait(limit.map_or(peek, |at| at.min(peek))) {
                break;
            }
            let now = Instant::now();
            if limit.is_some_and(|at| at <= now) {
                say_cut(&self.messages, self.aggregator.pipes().open());
                break;
            }
            if shown && now >= next {
                next = following(next, arguments.refreshes.interval, now);
                self.show(run);
            }
        }
        if shown {
            self.show(run);
            // A reader who has left meanwhile is a normal end.
            let _ = run.finish();
        }
    }

    fn show(&mut self, run: &mut Run) {
        run.take(self, Instant::now());
        run.show(self.frame());
    }
}
