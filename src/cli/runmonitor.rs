//! `runmonitor`: what each process sends and receives.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use super::forwarding::allow_descriptors;
use super::messages::Messages;
use super::notices::Notices;
use super::run::{Program, Run, Unwritable};
use super::schedule::Refreshes;
use super::signals::AtOnce;
use super::source;
use super::{USAGE, check, say};
use crate::config::monitor::{EXCLUDE, IGNORELOCAL, INCLUDE, SOURCE};
use crate::conntrack::state;
use crate::filter::Filter;
use crate::ledger::{Ledger, Options, Show};
use crate::netns::NetnsChoice;
use crate::render::classic;
use crate::render::terminal::Terminal;
use crate::selection::{Selection, Selector};
use crate::traffic::Row;
use crate::view::arrange;
use crate::watch::{SourceChoice, Watch};

const PROGRAM: &str = "runmonitor";

/// Shows what each process on this host receives and sends.
///
/// Every refresh prints a line for each command line, the busiest last: bytes received / bytes
/// sent -- command line. Counting begins where the kernel's own counters do, before the program
/// was started; --bandwidth shows bytes per second instead.
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
    #[arg(long)]
    pub bandwidth: bool,

    /// Don't count what was sent and received before the start
    #[arg(long)]
    pub no_lookback: bool,

    /// As the key `ignorelocal`.
    #[arg(long, help = IGNORELOCAL.help)]
    pub ignore_local: bool,

    /// As the key `source`.
    #[arg(long, value_enum, default_value_t, help = SOURCE.help)]
    pub source: SourceChoice,

    /// Which network namespaces are watched
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub netns: NetnsChoice,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub refreshes: Refreshes,

    /// Show also the bytes for which no process can be named, a line for each reason
    #[arg(long)]
    pub unattributed: bool,

    /// Switch conntrack's accounting on in this network namespace, for flows that begin from now
    /// on
    #[arg(long)]
    pub enable_accounting: bool,

    /// Tell what each source can see here and what would mend what it can't, and end
    #[arg(long)]
    pub check: bool,
}

/// Runs the program with the arguments of the process.
///
/// # Errors
/// What ends it at run time, to be shown as one line. Usage errors are shown here.
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
    let proc = Path::new("/proc");
    if arguments.enable_accounting
        && let Err((path, error)) = state::enable_accounting(proc)
    {
        let mend = match error.kind() {
            io::ErrorKind::NotFound => source::MEND_MODULE,
            _ => "run it as root",
        };
        anyhow::bail!("accounting can't be switched on: {}: {error} ({mend})", path.display());
    }
    if arguments.check {
        return check::run(proc, &mut io::stdout().lock());
    }
    show(&arguments, filter, proc)
}

fn show(arguments: &Arguments, filter: Filter, proc: &Path) -> anyhow::Result<ExitCode> {
    // Each network namespace takes some, and each process that is watched closely one.
    allow_descriptors();
    let terminal = Terminal::of_stdout();
    let mut run = Run::start(PROGRAM, false, terminal.is_screen(), Unwritable::Fatal)?;
    let outcome = watch(arguments, filter, proc, terminal, &mut run);
    Ok(run.end(outcome))
}

/// Shows refresh after refresh.
fn watch(
    arguments: &Arguments,
    filter: Filter,
    proc: &Path,
    terminal: Terminal,
    run: &mut Run,
) -> anyhow::Result<()> {
    // Without a past there is nothing to show yet: neither a rate, nor bytes since the start.
    let ready = !arguments.no_lookback && !arguments.bandwidth;
    let at_once = run.signals().at_once();
    at_once.set(true);
    let (mut monitor, start) =
        begin(arguments, filter, proc, terminal, run.messages(), ready, at_once)?;
    monitor.at_once.set(false);
    run.refresh(&mut monitor, &arguments.refreshes, start, ready)?;
    run.finish()
}

/// Takes the first look, which tells whether the source can be read at all. It is over when the first refresh is
/// due, at once if there is a past to show (`ready`), else half an interval before. Returns when the first interval
/// began.
fn begin(
    arguments: &Arguments,
    filter: Filter,
    proc: &Path,
    terminal: Terminal,
    messages: &Messages,
    ready: bool,
    at_once: AtOnce,
) -> anyhow::Result<(Monitor, Instant)> {
    let selector = Selector { filter, ignore_local: arguments.ignore_local, here: true };
    let naming = Box::new(Selection::new(vec![selector]));
    let mut ledger = Ledger::new(Options { naming, ..Options::default() });
    let mut notices = Notices::new(PROGRAM, messages);
    let lookback = !arguments.no_lookback;
    let Arguments { source, netns, .. } = *arguments;
    let interval = arguments.refreshes.interval;
    let patience = if ready { interval } else { interval / 2 };
    let mut opened = Instant::now();
    let watch = source::open(source, netns, lookback, proc, &mut notices, |watch| {
        if arguments.unattributed {
            watch.count_passing();
        }
        opened = Instant::now();
        watch.look_until(&mut ledger, Some(opened + patience))
    })?;
    let now = Instant::now();
    let start = if watch.is_reading() && !ready { opened } else { now };
    let mut monitor = Monitor {
        watch,
        ledger,
        show: if arguments.bandwidth { Show::Bandwidth } else { Show::Traffic },
        unattributed: arguments.unattributed,
        rows: Vec::new(),
        notices,
        terminal,
        at_once,
    };
    monitor.conclude(now);
    Ok((monitor, start))
}

struct Monitor {
    watch: Watch,
    ledger: Ledger,
    show: Show,
    unattributed: bool,
    /// What the last refresh shows.
    rows: Vec<Row>,
    notices: Notices,
    terminal: Terminal,
    at_once: AtOnce,
}

impl Monitor {
    /// Takes what there is to show.
    fn conclude(&mut self, at: Instant) {
        self.ledger.end(at);
        let mut rows = self.ledger.rows(self.show);
        if self.unattributed {
            rows.extend(self.ledger.unattributed(self.show));
        }
        self.rows = arrange(rows);
        self.ledger.begin();
    }
}

impl Program for Monitor {
    fn events(&self) -> Vec<BorrowedFd<'_>> {
        self.watch.events().collect()
    }

    fn drain(&mut self) -> bool {
        self.watch.drain()
    }

    fn needs_glances(&self) -> bool {
        self.watch.needs_glances()
    }

    fn look(&mut self) -> anyhow::Result<()> {
        self.at_once.set(self.watch.is_reading());
        // What is not read by now is for the next look.
        let looked = self.watch.look_until(&mut self.ledger, Some(Instant::now()));
        self.at_once.set(false);
        let looked = looked?;
        self.notices.tell(&looked, self.watch.source());
        Ok(())
    }

    fn is_reading(&self) -> bool {
        self.watch.is_reading()
    }

    fn refresh(&mut self, _: Instant) -> anyhow::Result<()> {
        self.look()?;
        // Flows are read last: a look that was held up before has seen what came meanwhile.
        self.conclude(Instant::now());
        Ok(())
    }

    fn compose(&self) -> Vec<u8> {
        let empty = self.rows.is_empty().then_some("nothing was received or sent");
        classic::compose(&self.notices.on_screen(empty), &self.rows, &self.terminal.layout())
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
