//! `runmonitor`: what each process sends and receives.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;

use super::beat::{following, interval};
use super::notes::Notes;
use super::signals::{Signals, Woken};
use super::source::{self, SourceChoice};
use super::{USAGE, check, say};
use crate::conntrack::state;
use crate::filter::Filter;
use crate::ledger::{Ledger, Options, Show};
use crate::render::terminal::Terminal;
use crate::render::{Screen, classic};
use crate::traffic::Row;
use crate::view::arrange;
use crate::watch::{Source, Watch, WatchError};

const PROGRAM: &str = "runmonitor";

/// Where ends are not announced, the kernel keeps an ended connection's counters for ten seconds at
/// the least (TCP after a reset): who looks more often than that sees them, however seldom the screen
/// is refreshed.
const LOOK_AT_LEAST: Duration = Duration::from_secs(5);

/// How long announcements may wait to be taken together: the kernel's buffer has room for what
/// comes meanwhile.
const BREATH: Duration = Duration::from_millis(50);

/// Shows what each process on this host receives and sends.
///
/// Every refresh prints a line for each command line, the busiest last: bytes received / bytes
/// sent -- command line. Counting begins where the kernel's own counters do, before the program
/// was started; --bandwidth shows bytes per second instead.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM, version, infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// Show only processes in whose command line REGEX is found (may be given several times)
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub include: Vec<String>,

    /// Don't show processes in whose command line REGEX is found; wins over --include (may be
    /// given several times)
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub exclude: Vec<String>,

    /// Show bytes per second instead of accumulated bytes
    #[arg(long)]
    pub bandwidth: bool,

    /// Don't count what was sent and received before the start
    #[arg(long)]
    pub no_lookback: bool,

    /// Leave out traffic that never leaves this host
    #[arg(long)]
    pub ignore_local: bool,

    /// Where bytes are counted
    #[arg(long, value_enum, default_value_t)]
    pub source: SourceChoice,

    /// Seconds between two refreshes; fractions are allowed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "1",
        value_parser = interval,
        allow_hyphen_values = true
    )]
    pub interval: Duration,

    /// End after N refreshes
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_hyphen_values = true
    )]
    pub count: Option<u64>,

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
    let mut signals = Signals::new().context("signals can't be handled")?;
    let terminal = Terminal::of_stdout();
    let mut screen = Screen::new(io::stdout());
    let (mut monitor, start) = begin(arguments, filter, proc, &terminal)?;
    let lookback = !arguments.no_lookback;
    // Without a past there is nothing to show yet: neither a rate, nor bytes since the start.
    let mut ready = lookback && !arguments.bandwidth;
    let mut refreshes = 0u64;
    let mut next = start;
    loop {
        if ready {
            screen.show(&monitor.compose(&terminal)).context("standard output")?;
            refreshes += 1;
            if arguments.count.is_some_and(|count| refreshes >= count) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        ready = true;
        next = following(next, arguments.interval, Instant::now());
        let mut look = next.min(Instant::now() + LOOK_AT_LEAST);
        let mut listen = Instant::now();
        loop {
            // Between two pauses for breath whatever was announced is taken at once.
            let pausing = Instant::now() < listen;
            let events = monitor.watch.events().filter(|_| !pausing);
            let until = if pausing { look.min(listen) } else { look };
            match signals.wait(until, events).context("waiting failed")? {
                Woken::Stop => return Ok(ExitCode::SUCCESS),
                Woken::Resized => {
                    if refreshes > 0 && terminal.is_screen() {
                        screen.show(&monitor.compose(&terminal)).context("standard output")?;
                    }
                }
                Woken::Events => {
                    monitor.watch.drain();
                    listen = Instant::now() + BREATH;
                }
                Woken::Time if until < look => {}
                Woken::Time if look < next => {
                    monitor.look()?;
                    look = next.min(Instant::now() + LOOK_AT_LEAST);
                }
                Woken::Time => break,
            }
        }
        monitor.refresh(Instant::now())?;
    }
}

/// Takes the first look, which tells whether the source can be read at all; `auto` takes the next
/// one if it can't.
fn begin(
    arguments: &Arguments,
    filter: Filter,
    proc: &Path,
    terminal: &Terminal,
) -> anyhow::Result<(Monitor, Instant)> {
    let (source, note) = source::choose(arguments.source, proc);
    let lookback = !arguments.no_lookback;
    let mut monitor = Monitor {
        watch: Watch::open(source, lookback, proc)?,
        ledger: Ledger::new(Options {
            filter,
            ignore_local: arguments.ignore_local,
            ..Options::default()
        }),
        show: if arguments.bandwidth { Show::Bandwidth } else { Show::Traffic },
        unattributed: arguments.unattributed,
        rows: Vec::new(),
        notes: Notes::new(PROGRAM, terminal.is_screen()),
    };
    let start = Instant::now();
    match monitor.refresh(start) {
        Err(WatchError::Conntrack(error)) if arguments.source == SourceChoice::Auto => {
            let mend = if error.is_permission() {
                "run it as root (CAP_NET_ADMIN)"
            } else {
                source::MEND_MODULE
            };
            monitor.notes.say(&source::instead_of_conntrack(&error.to_string(), mend));
            monitor.watch = Watch::open(Source::Sockets, lookback, proc)?;
            let start = Instant::now();
            monitor.refresh(start)?;
            Ok((monitor, start))
        }
        first => {
            if let Some(note) = note {
                monitor.notes.say(&note);
            }
            first?;
            Ok((monitor, start))
        }
    }
}

struct Monitor {
    watch: Watch,
    ledger: Ledger,
    show: Show,
    unattributed: bool,
    /// What the last refresh shows.
    rows: Vec<Row>,
    notes: Notes,
}

impl Monitor {
    /// Looks and takes what there is to show.
    fn refresh(&mut self, at: Instant) -> Result<(), WatchError> {
        self.look()?;
        self.ledger.end(at);
        let mut rows = self.ledger.rows(self.show);
        if self.unattributed {
            rows.extend(self.ledger.unattributed(self.show));
        }
        self.rows = arrange(rows);
        self.ledger.begin();
        Ok(())
    }

    fn look(&mut self) -> Result<(), WatchError> {
        let looked = self.watch.look(&mut self.ledger)?;
        self.notes.tell(&looked, self.watch.source());
        Ok(())
    }

    fn compose(&self, terminal: &Terminal) -> Vec<u8> {
        classic::compose(
            &self.notes.on_screen(self.rows.is_empty()),
            &self.rows,
            &terminal.layout(),
        )
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
        assert_eq!(arguments.interval, Duration::from_millis(500));
        assert!(parse(&["--in", "a"]).is_err(), "--include, --interval: ambiguous");
    }
}
