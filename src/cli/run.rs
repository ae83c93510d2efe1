//! The loop of all three programs: it waits for time, signals and the kernel, refreshes, and shows.

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::FAILURE;
use super::messages::Messages;
use super::schedule::{Due, Refreshes, look, wait};
use super::signals::Signals;
use crate::aggregator::Aggregator;
use crate::model::Snapshot;
use crate::monitor::{Moment, Schedule, following};
use crate::render::sink::Sink;
use crate::render::{Format, Frame};

/// How long nothing may be read of what is still to be written when the program is asked to end.
const PATIENCE: Duration = Duration::from_millis(250);

/// What the three programs do at the loop's steps.
pub(super) trait Program {
    /// What is measured.
    fn aggregator(&self) -> &Aggregator;

    /// The same, to read it.
    fn aggregator_mut(&mut self) -> &mut Aggregator;

    /// Whether the first signal ends the program at once while it reads everything for the first time.
    fn ends_at_once(&self) -> bool {
        false
    }

    /// The kernel was read.
    fn looked(&mut self) {}

    /// A refresh was taken.
    fn took(&mut self, snapshot: &Arc<Snapshot>);

    /// What is shown of the last refresh.
    fn frame(&self) -> Frame;

    /// Reads the configuration again.
    fn reload(&mut self) {}
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A signal asked for it.
    Asked,
    /// There were as many refreshes as were asked for.
    Counted,
    /// Who read it has read enough.
    Unread,
}

/// What a program does where standard output can't be written, apart from a reader who left, which is a normal end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// It ends: it is for its output.
    Fatal,
    /// It goes on, since it does more than that, and says so once; it will have failed.
    Told,
}

/// Where the loop gets its signals, and where it shows.
#[derive(Debug)]
pub(super) struct Run {
    signals: Signals,
    output: Sink<Frame>,
    is_screen: bool,
    messages: Messages,
    unwritable: Unwritable,
    told_unwritable: bool,
    told_left_out: bool,
    failed: bool,
}

impl Run {
    /// Signals are handled, and what is said and shown is written by threads of its own, from now on. `every`: a line
    /// for each connection of a pipe. `format`: what a refresh looks like.
    ///
    /// # Errors
    /// Signals can't be handled, or there is no thread to be had.
    pub(super) fn start(
        program: &'static str,
        every: bool,
        is_screen: bool,
        unwritable: Unwritable,
        mut format: impl Format,
    ) -> anyhow::Result<Run> {
        let messages = Messages::start(program, every, is_screen)
            .context("no thread for messages can be had")?;
        let signals = Signals::new().context("signals can't be handled")?;
        let failed = signals.on_unwritten().context("signals can't be handled")?;
        let format = move |frame: Frame| format.format(&frame);
        let output = Sink::start(io::stdout(), is_screen, format, failed)
            .context("no thread for standard output can be had")?;
        Ok(Run {
            signals,
            output,
            is_screen,
            messages,
            unwritable,
            told_unwritable: false,
            told_left_out: false,
            failed: false,
        })
    }

    /// What says things.
    pub(super) fn messages(&self) -> &Messages {
        &self.messages
    }

    /// The signals.
    pub(super) fn signals(&mut self) -> &mut Signals {
        &mut self.signals
    }

    /// Shows refresh after refresh until the end. The first one is due an interval after `start`, or is there already
    /// (`ready`). The last one waits until everything was read.
    ///
    /// # Errors
    /// What a refresh meets; standard output can't be written, where that is fatal.
    pub(super) fn refresh(
        &mut self,
        program: &mut impl Program,
        refreshes: &Refreshes,
        start: Instant,
        ready: bool,
    ) -> anyhow::Result<End> {
        let mut schedule = Schedule::new(Instant::now());
        let (mut next, mut count) = (start, 0);
        let mut waits = ready && refreshes.waits(0, program.aggregator().is_reading());
        if ready && !waits {
            self.show(program.frame());
            count = 1;
        }
        loop {
            if refreshes.are_done(count) {
                return Ok(End::Counted);
            }
            next = following(next, refreshes.pause(waits), Instant::now());
            loop {
                match wait(&mut schedule, &mut self.signals, program, next)? {
                    Due::Stop => return Ok(End::Asked),
                    Due::Refresh => break,
                    Due::Reload => program.reload(),
                    Due::Redraw if count > 0 && self.is_screen => self.show(program.frame()),
                    Due::Redraw => {}
                    Due::Unwritten => {
                        if self.is_unread()? {
                            return Ok(End::Unread);
                        }
                    }
                }
            }
            look(program, &self.signals)?;
            self.take(program, next);
            waits = refreshes.waits(count, program.aggregator().is_reading());
            if !waits {
                self.show(program.frame());
                count += 1;
            }
        }
    }

    /// Takes the refresh that was due at this time. Flows are read last: a look that was held up before has seen what
    /// came meanwhile.
    pub(super) fn take(&mut self, program: &mut impl Program, due: Instant) {
        let snapshot = program.aggregator_mut().snapshot(Moment::now(), due);
        program.took(&Arc::new(snapshot));
    }

    /// Shows one refresh; doesn't wait until it is read.
    pub(super) fn show(&mut self, frame: Frame) {
        self.output.show(frame);
        // A screen shows the newest: nothing is missing there.
        if !self.is_screen && self.output.take_left_out() > 0 && !self.told_left_out {
            self.told_left_out = true;
            self.messages.say(
                "standard output is not read fast enough: refreshes are left out, each as a whole",
            );
        }
    }

    /// Whether the reader has left, if a refresh could not be written.
    ///
    /// # Errors
    /// It can't be written for another reason, where that is fatal.
    fn is_unread(&mut self) -> anyhow::Result<bool> {
        let Some(error) = self.output.take_error() else { return Ok(false) };
        match (error.kind(), self.unwritable) {
            (ErrorKind::BrokenPipe, _) => return Ok(true),
            (_, Unwritable::Fatal) => return Err(error).context("standard output"),
            (_, Unwritable::Told) if self.told_unwritable => {}
            (_, Unwritable::Told) => {
                self.told_unwritable = true;
                self.failed = true;
                self.messages.say(&format!(
                    "standard output: {error}; what can't be written is left out, and all else goes on"
                ));
            }
        }
        Ok(false)
    }

    /// Waits until what was shown is written. Where the end was asked for, not for a reader who doesn't read.
    ///
    /// # Errors
    /// It can't be written, where that is fatal.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        loop {
            let asked = self.signals.stopped();
            if self.output.wait(PATIENCE) || asked {
                return self.is_unread().map(drop);
            }
        }
    }

    /// Says what the program fails of; what is left to do may take long.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        self.failed = true;
        self.messages.say(&format!("{error:#}"));
    }

    /// Ends the program: says what it failed of, if it did, and waits until all that was said is written. Where the
    /// end was asked for, not for a standard error that nobody reads.
    pub(super) fn end(mut self, outcome: anyhow::Result<()>) -> ExitCode {
        if let Err(error) = outcome {
            self.fail(&error);
        }
        while !self.messages.finish(PATIENCE) && !self.signals.stopped() {}
        if self.failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS }
    }
}
