//! The loop of all three programs: it waits for time, signals and the kernel, refreshes, and shows.

use std::io::{self, ErrorKind, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::FAILURE;
use super::messages::Messages;
use super::schedule::{Due, Refreshes, look, wait};
use super::signals::Signals;
use super::top::Guard;
use crate::aggregator::Aggregator;
use crate::model::Snapshot;
use crate::monitor::{Moment, Schedule, following};
use crate::render::sink::Sink;
use crate::render::{Format, Frame};
use crate::screen::{Screen, Setup};

/// Maximum time without progress in writing the remaining output when the program has to end.
const PATIENCE: Duration = Duration::from_millis(250);

/// The steps of the loop that differ between the three programs.
pub(super) trait Program {
    /// The aggregator that measures.
    fn aggregator(&self) -> &Aggregator;

    /// The aggregator, to read it.
    fn aggregator_mut(&mut self) -> &mut Aggregator;

    /// Groups the rows of a snapshot, if that is asked for.
    fn group(&self, snapshot: &mut Snapshot) {
        let _ = snapshot;
    }

    /// Whether the first signal ends the program at once during the first reading.
    fn ends_at_once(&self) -> bool {
        false
    }

    /// Called after each look at the kernel.
    fn looked(&mut self) {}

    /// Called with each snapshot.
    fn took(&mut self, snapshot: &Arc<Snapshot>);

    /// The frame of the last snapshot.
    fn frame(&self) -> Frame;

    /// Reads the configuration again.
    fn reload(&mut self) {}
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A signal was received.
    Asked,
    /// `--count` refreshes were taken.
    Counted,
    /// The reader of standard output has left.
    Unread,
}

/// What a program does if standard output can't be written. A reader who has left is a normal end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// It ends.
    Fatal,
    /// It reports the error once and continues, since output is not its only purpose; its exit
    /// status is that of a failure.
    Told,
}

/// Where refreshes go.
#[derive(Debug)]
enum Target {
    /// Standard output, as text.
    Sink(Sink<Frame>),
    /// The interactive screen.
    Screen(Screen),
}

impl Target {
    fn take_error(&self) -> Option<io::Error> {
        match self {
            Target::Sink(sink) => sink.take_error(),
            Target::Screen(screen) => screen.take_error(),
        }
    }

    /// Waits until all is written, or nothing was for `patience`.
    fn wait(&self, patience: Duration) -> bool {
        match self {
            Target::Sink(sink) => sink.wait(patience),
            Target::Screen(screen) => screen.wait(patience),
        }
    }
}

/// The signals, messages and output of the loop.
#[derive(Debug)]
pub(super) struct Run {
    signals: Signals,
    output: Target,
    is_screen: bool,
    messages: Messages,
    unwritable: Unwritable,
    told_unwritable: bool,
    told_left_out: bool,
    failed: bool,
}

impl Run {
    /// Handles signals from now on, and starts the threads that write messages and refreshes. `every` gives each
    /// connection of a pipe a line. `format` gives the bytes of a refresh.
    ///
    /// # Errors
    /// Signals can't be handled, or a thread can't be started.
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
        Ok(Run::of(signals, Target::Sink(output), is_screen, messages, unwritable))
    }

    /// As [`Run::start`], with the interactive screen. `hangup` says that SIGHUP ends the program.
    ///
    /// # Errors
    /// Signals can't be handled, or a thread can't be started.
    pub(super) fn start_screen(setup: Setup, hangup: bool) -> anyhow::Result<Run> {
        const SIGNALS: &str = "signals can't be handled";
        let messages =
            Messages::start_screen(setup.program).context("no thread for messages can be had")?;
        let signals = Signals::without_ends().context(SIGNALS)?;
        let guard = Guard::new(hangup).context(SIGNALS)?;
        let (quit, stopper) =
            (signals.stopper().context(SIGNALS)?, signals.stopper().context(SIGNALS)?);
        let ended = move || {
            // The screen has restored the terminal already.
            let _ = quit.stop();
        };
        let screen = Screen::start(setup, ended).context("no thread for the screen can be had")?;
        let waker = screen.waker().context("no thread for the screen can be had")?;
        guard.start(stopper, waker).context(SIGNALS)?;
        Ok(Run::of(signals, Target::Screen(screen), true, messages, Unwritable::Fatal))
    }

    fn of(
        signals: Signals,
        output: Target,
        is_screen: bool,
        messages: Messages,
        unwritable: Unwritable,
    ) -> Run {
        let (told_unwritable, told_left_out, failed) = (false, false, false);
        Run {
            signals,
            output,
            is_screen,
            messages,
            unwritable,
            told_unwritable,
            told_left_out,
            failed,
        }
    }

    /// The messages.
    pub(super) fn messages(&self) -> &Messages {
        &self.messages
    }

    /// The signals.
    pub(super) fn signals(&mut self) -> &mut Signals {
        &mut self.signals
    }

    /// Shows refreshes until the end. The first one is due an interval after `start`, or at once (`ready`). The last
    /// one waits until everything was read.
    ///
    /// # Errors
    /// Those of a refresh; standard output can't be written, if that is fatal.
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

    /// Takes the refresh that was due at `due`.
    pub(super) fn take(&mut self, program: &mut impl Program, due: Instant) {
        let mut snapshot = program.aggregator_mut().snapshot(Moment::now(), due);
        program.group(&mut snapshot);
        program.took(&Arc::new(snapshot));
    }

    /// Queues one refresh; doesn't wait until it is written.
    pub(super) fn show(&mut self, frame: Frame) {
        let output = match &self.output {
            Target::Screen(screen) => {
                // The screen appears now, on a terminal that may be that of the messages.
                if io::stderr().is_terminal() {
                    self.messages.hold();
                }
                return screen.show(frame);
            }
            Target::Sink(sink) => sink,
        };
        output.show(frame);
        // A screen shows the newest: nothing is missing there.
        if !self.is_screen && output.take_left_out() > 0 && !self.told_left_out {
            self.told_left_out = true;
            self.messages.say(
                "standard output is not read fast enough: refreshes are left out, each as a whole",
            );
        }
    }

    /// Whether the reader has left, if a refresh could not be written.
    ///
    /// # Errors
    /// It can't be written for another reason, if that is fatal.
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

    /// Waits until all refreshes are written; after a signal only as long as writing progresses.
    ///
    /// # Errors
    /// A refresh can't be written, if that is fatal.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        loop {
            let asked = self.signals.stopped();
            if self.output.wait(PATIENCE) || asked {
                if let Target::Screen(screen) = &self.output {
                    screen.end(PATIENCE);
                    self.messages.release();
                }
                return self.is_unread().map(drop);
            }
        }
    }

    /// Reports the error that ends the program; the rest of its end may take long.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        self.failed = true;
        self.messages.say(&format!("{error:#}"));
    }

    /// Ends the program: reports its error, if any, and waits until all messages are written; after a signal only
    /// as long as writing progresses.
    pub(super) fn end(mut self, outcome: anyhow::Result<()>) -> ExitCode {
        if let Target::Screen(screen) = &self.output {
            screen.end(PATIENCE);
            self.messages.release();
        }
        if let Err(error) = outcome {
            self.fail(&error);
        }
        while !self.messages.finish(PATIENCE) && !self.signals.stopped() {}
        if self.failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS }
    }
}
