//! The flag `--top`: the interactive screen, and the signals that a program with a screen handles in a thread.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Args;
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};

use super::output::{FormatChoice, Output, flag_name};
use super::signals::Stopper;
use super::view::View;
use crate::render::units::Units;
use crate::screen::{Column, Setup, Waker, terminal};

// A doc comment would replace the program's description in its help.
#[allow(missing_docs)]
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Show an interactive screen instead of lines; press ? there for its keys
    #[arg(long)]
    pub top: bool,

    /// Columns of the screen, in this order; those that have no room are left out
    #[arg(long, value_enum, value_delimiter = ',', value_name = "COLUMNS", requires = "top")]
    pub columns: Vec<Column>,
}

impl Top {
    /// Checks that there can be a screen, if one is wanted.
    ///
    /// # Errors
    /// There can't be one, or another format is wanted.
    fn check(&self, output: &Output) -> Result<(), String> {
        if !self.top {
            return Ok(());
        }
        if output.format != FormatChoice::Text {
            let format = flag_name(&output.format);
            return Err(format!(
                "--top is a screen for people, and --format {format} is for programs; leave one of them out"
            ));
        }
        terminal::check()
    }

    /// Checks that the flags of the output don't exclude each other, and that there can be a screen, if one is wanted.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub(super) fn check_with(&self, output: Output, view: &View) -> Result<(), String> {
        output.check().map_err(|error| error.to_string())?;
        self.check(&output)?;
        view.grouped.check(output).map_err(|error| error.to_string())
    }

    /// What the screen begins with; none if no screen is wanted.
    ///
    /// # Errors
    /// Those of [`Grouped::names`](super::view::Grouped::names).
    pub(super) fn setup(
        &self,
        program: &'static str,
        output: &Output,
        view: &View,
        totals: bool,
    ) -> anyhow::Result<Option<Setup>> {
        if !self.top {
            return Ok(None);
        }
        let units = output.units.or(Some(Units::BinBytes));
        let (by, names) = (view.grouped.by.clone(), view.grouped.names()?);
        let (host, columns) = (super::output::host(), self.columns.clone());
        Ok(Some(Setup { program, host, units, totals, by, columns, names }))
    }
}

/// Handles the signals that end the program or stop it. Each needs the terminal restored first, which no signal
/// handler may do.
#[derive(Debug)]
pub(super) struct Guard {
    wake: UnixStream,
    ends: Arc<AtomicBool>,
    stops: Arc<AtomicBool>,
    continues: Arc<AtomicBool>,
}

impl Guard {
    /// Catches the signals from now on. `hangup` says that SIGHUP ends the program too.
    ///
    /// # Errors
    /// Signals can't be handled.
    pub(super) fn new(hangup: bool) -> io::Result<Guard> {
        let (wake, waker) = UnixStream::pair()?;
        let [ends, stops, continues] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let ending = [SIGINT, SIGTERM].into_iter().chain(hangup.then_some(SIGHUP));
        let all =
            ending.map(|signal| (signal, &ends)).chain([(SIGTSTP, &stops), (SIGCONT, &continues)]);
        for (signal, set) in all {
            flag::register(signal, set.clone())?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Guard { wake, ends, stops, continues })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(self, stopper: Stopper, screen: Waker) -> io::Result<()> {
        let work = move || self.work(&stopper, &screen);
        thread::Builder::new().name("signals".to_owned()).spawn(work).map(drop)
    }

    fn work(mut self, stopper: &Stopper, screen: &Waker) {
        let mut bytes = [0; 64];
        let mut has_left = false;
        while matches!(self.wake.read(&mut bytes), Ok(1..)) {
            if self.ends.swap(false, Ordering::Relaxed) && !stopper.stop() {
                terminal::leave();
                // As the shell expects of a program that was asked to end, and has.
                low_level::exit(0);
            }
            // What was continued before it is stopped again.
            if self.continues.swap(false, Ordering::Relaxed) && (has_left || terminal::is_entered())
            {
                has_left = false;
                // Without a terminal the screen's thread ends the program.
                let _ = terminal::enter();
                screen.redraw();
            }
            if self.stops.swap(false, Ordering::Relaxed) {
                has_left |= terminal::is_entered();
                terminal::leave();
                // SIGTSTP itself is caught.
                let _ = kill_process(getpid(), Signal::STOP);
            }
        }
    }
}
