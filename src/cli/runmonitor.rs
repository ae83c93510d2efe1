//! `runmonitor`: the bytes that each process sends and receives.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;

use super::forwarding::allow_descriptors;
use super::notices::Notices;
use super::output::Output;
use super::run::{Program, Run, Unwritable};
use super::schedule::Refreshes;
use super::terminal::Escaping;
use super::top::Top;
use super::view::{Grouped, View};
use super::{USAGE, check, say};
use crate::aggregator::{Aggregator, Plan, PlanError, Selected};
use crate::by::Names;
use crate::config::monitor::{EXCLUDE, IGNORELOCAL, INCLUDE, SOURCE};
use crate::conntrack::sysctls;
use crate::filter::Filter;
use crate::model::Snapshot;
use crate::model::SourceChoice;
use crate::monitor::{MEND_MODULE, Moment, Options};
use crate::netns::NetnsChoice;
use crate::render::Frame;
use crate::render::classic::{Classic, Show};

const PROGRAM: &str = "runmonitor";

/// Shows what each process on this host receives and sends.
///
/// Every refresh prints a line for each command line, the busiest last: bytes received / bytes
/// sent -- command line. Totals include bytes that the kernel counted before the program started;
/// --bandwidth shows bytes per second instead.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM, version, infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// As the key `include`.
    #[arg(
        long,
        value_name = INCLUDE.value.name,
        help = INCLUDE.repeated_help(),
        allow_hyphen_values = true
    )]
    pub include: Vec<String>,

    /// As the key `exclude`.
    #[arg(
        long,
        value_name = EXCLUDE.value.name,
        help = EXCLUDE.repeated_help(),
        allow_hyphen_values = true
    )]
    pub exclude: Vec<String>,

    /// Show bytes per second instead of accumulated bytes
    #[arg(long, alias = "b")]
    pub bandwidth: bool,

    /// Don't count bytes that were received and sent before the start
    #[arg(long)]
    pub no_lookback: bool,

    /// As the key `ignorelocal`.
    #[arg(long, help = IGNORELOCAL.help)]
    pub ignore_local: bool,

    /// As the key `source`.
    #[arg(long, value_enum, default_value_t, help = SOURCE.help)]
    pub source: SourceChoice,

    /// Network namespaces to watch
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub netns: NetnsChoice,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub refreshes: Refreshes,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: Output,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: View,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub top: Top,

    /// Also show bytes without a known process, a line for each reason
    #[arg(long)]
    pub unattributed: bool,

    /// Switch conntrack's accounting on in this network namespace, for flows that start later
    #[arg(long)]
    pub enable_accounting: bool,

    /// Record the input of attribution and ledger in a file, for tests
    #[arg(
        long,
        hide = true,
        value_name = "FILE",
        conflicts_with_all = ["include", "exclude", "ignore_local"]
    )]
    pub record: Option<PathBuf>,

    /// Report what each source can count here and how to fix what it can't, and exit
    #[arg(long)]
    pub check: bool,
}

/// Runs the program with the arguments of the process.
///
/// # Errors
/// Those that end it at run time, to be shown as one line. Errors of usage are shown here.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return super::usage(PROGRAM, &error),
    };
    let filter = match Filter::new(&arguments.include, &arguments.exclude) {
        Ok(filter) => filter,
        Err(error) => {
            say(PROGRAM, &error.to_string());
            return Ok(ExitCode::from(USAGE));
        }
    };
    if let Err(error) = arguments.top.check_with(arguments.output, &arguments.view) {
        say(PROGRAM, &error);
        return Ok(ExitCode::from(USAGE));
    }
    let proc = Path::new("/proc");
    if arguments.enable_accounting
        && let Err((path, error)) = sysctls::enable_accounting(proc)
    {
        let mend = match error.kind() {
            io::ErrorKind::NotFound => MEND_MODULE,
            _ => "run it as root",
        };
        anyhow::bail!("accounting can't be switched on: {}: {error} ({mend})", path.display());
    }
    if arguments.check {
        return check::run(proc, &mut Escaping::on(io::stdout().lock()));
    }
    show(&arguments, filter, proc)
}

fn show(arguments: &Arguments, filter: Filter, proc: &Path) -> anyhow::Result<ExitCode> {
    // Each network namespace needs some descriptors, and each process that is watched closely one.
    allow_descriptors();
    let show = if arguments.bandwidth { Show::Bandwidth } else { Show::Traffic };
    let Arguments { unattributed, output, .. } = arguments;
    let unattributed = *unattributed;
    let units = output.units;
    let mut run = match arguments.top.setup(PROGRAM, output, &arguments.view, false)? {
        Some(setup) => Run::start_screen(setup, true)?,
        None => {
            let (format, is_screen) =
                output.format(|terminal| Classic { show, unattributed, units, terminal });
            Run::start(PROGRAM, false, is_screen, Unwritable::Fatal, format)?
        }
    };
    let outcome = watch(arguments, filter, proc, &mut run);
    Ok(run.end(outcome))
}

/// Shows refresh after refresh.
fn watch(arguments: &Arguments, filter: Filter, proc: &Path, run: &mut Run) -> anyhow::Result<()> {
    // Without lookback there is nothing to show yet: neither a rate, nor bytes since the start.
    let ready = !arguments.no_lookback && !arguments.bandwidth;
    let interval = arguments.refreshes.interval;
    let selected =
        Selected { source: arguments.source, filter, ignore_local: arguments.ignore_local };
    let plan = Plan { monitors: vec![selected], ..Plan::default() };
    let mut options = Options {
        netns: arguments.netns,
        lookback: !arguments.no_lookback,
        forwarded: arguments.unattributed,
        // The first look ends when the first refresh is due: at once if there is a past to show.
        patience: Some(if ready { interval } else { interval / 2 }),
        proc: proc.to_owned(),
        record: arguments.record.clone(),
        facts: arguments.output.has_facts() || arguments.top.top,
        attributes: arguments.top.top,
        details: arguments.top.top,
        ..Options::default()
    };
    arguments.view.add_to(&mut options);
    let at_once = run.signals().at_once();
    at_once.set(true);
    let (mut aggregator, mut opened) = (Aggregator::default(), None);
    let mut notices = Notices::new(PROGRAM, run.messages());
    let applied = aggregator.apply(&plan, &options, |monitor| {
        notices.tell_opened(monitor);
        opened = Some(monitor.opened());
    });
    match applied {
        // It was the only one that was asked for.
        Err(PlanError::Source { error, .. }) => return Err(notices.tell_refused(error).into()),
        applied => applied?,
    }
    let now = Instant::now();
    let start = opened.filter(|_| aggregator.is_reading() && !ready).unwrap_or(now);
    // The screen groups by itself.
    let grouped =
        if arguments.top.top { Grouped::default() } else { arguments.view.grouped.clone() };
    let names = grouped.names()?;
    let mut list = List { aggregator, notices, snapshot: Arc::default(), grouped, names };
    if ready {
        run.take(&mut list, now);
    } else {
        list.aggregator.begin(Moment::now());
    }
    at_once.set(false);
    run.refresh(&mut list, &arguments.refreshes, start, ready)?;
    run.finish()
}

/// The list of processes.
struct List {
    aggregator: Aggregator,
    notices: Notices,
    /// The last refresh.
    snapshot: Arc<Snapshot>,
    grouped: Grouped,
    names: Option<Arc<dyn Names>>,
}

impl Program for List {
    fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    fn aggregator_mut(&mut self) -> &mut Aggregator {
        &mut self.aggregator
    }

    fn group(&self, snapshot: &mut Snapshot) {
        self.grouped.group(snapshot, self.names.as_deref());
    }

    fn ends_at_once(&self) -> bool {
        true
    }

    fn looked(&mut self) {
        self.notices.tell_all(&self.aggregator);
    }

    fn took(&mut self, snapshot: &Arc<Snapshot>) {
        self.snapshot = snapshot.clone();
    }

    fn frame(&self) -> Frame {
        self.notices.frame(&self.snapshot, "nothing was received or sent")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_flag_may_be_abbreviated_repeated_and_have_a_value_with_a_hyphen() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["runmonitor"], words].concat());
        let arguments =
            parse(&["--band", "--inc", "-x", "--include=a", "--exc=b", "--band", "--interval=.5"])
                .unwrap();
        assert!(arguments.bandwidth);
        assert_eq!(arguments.include, ["-x", "a"]);
        assert_eq!(arguments.exclude, ["b"]);
        assert_eq!(arguments.refreshes.interval, std::time::Duration::from_millis(500));
        assert!(parse(&["--in", "a"]).is_err(), "--include, --interval: ambiguous");
    }
}
