//! Messages on standard error, in order of time. A thread of its own writes them, so that a standard error without a
//! reader delays nothing.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::pipe_words::{INTERVAL, Words};
use super::terminal::Escaping;
use super::{is_wiped, line};
use crate::pipe::{Event, OnEvent};
use crate::render::sink::wait_while;

/// Messages that may wait to be written. Further ones are dropped, counted, and reported as lost.
const WAITING: usize = 65_536;

/// Messages that stay on a screen that is cleared.
const KEPT: usize = 20;

/// Lines that are held back while standard error is an interactive screen; the last ones are written after it.
const HELD: usize = 100;

/// Queues lines for standard error; clones share the queue. Nothing here waits, except
/// [`Messages::finish`].
#[derive(Clone, Debug)]
pub(super) struct Messages {
    program: &'static str,
    shared: Arc<Shared>,
}

/// An item that waits to be written.
#[derive(Debug)]
enum Item {
    Line(String),
    /// An event of a connection, with the name of its pipe if there are several.
    Event(Option<Arc<str>>, Event),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Queue>,
    /// Signals that something was queued or written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whether the next refresh wipes messages off the screen.
    wiped: bool,
    waiting: VecDeque<Item>,
    /// Whether something is being written.
    writing: bool,
    /// Number of lines so far.
    written: u64,
    /// Number of items dropped.
    lost: u64,
    /// Whether failures that were held back are written at once, because the program ends.
    ended: bool,
    kept: VecDeque<String>,
    /// Whether lines are held back.
    holds: bool,
    held: VecDeque<String>,
    /// Number of lines that there was no room to hold back.
    dropped: u64,
}

impl Messages {
    /// Starts the thread. `every` gives each connection of a pipe a line. `is_screen` says that each refresh clears
    /// standard output.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(super) fn start(
        program: &'static str,
        every: bool,
        is_screen: bool,
    ) -> io::Result<Messages> {
        Messages::start_on(Escaping::on(io::stderr()), program, every, is_wiped(is_screen))
    }

    /// As [`Messages::start`], for the interactive screen, which shows messages wherever standard error goes.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(super) fn start_screen(program: &'static str) -> io::Result<Messages> {
        Messages::start_on(Escaping::on(io::stderr()), program, false, true)
    }

    /// As [`Messages::start`], on any writer.
    pub(super) fn start_on(
        out: impl Write + Send + 'static,
        program: &'static str,
        every: bool,
        wiped: bool,
    ) -> io::Result<Messages> {
        let state = Mutex::new(Queue { wiped, ..Queue::default() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let writer = shared.clone();
        let words = Words::new(program, every);
        thread::Builder::new()
            .name("messages".to_owned())
            .spawn(move || write_all(out, words, &writer))?;
        Ok(Messages { program, shared })
    }

    /// Queues a message as a line: the program's name, a colon, and the message, made safe to
    /// print.
    pub(super) fn say(&self, message: &str) {
        self.say_line(line(self.program, message));
    }

    /// Queues a line, which is safe to print and has no newline.
    pub(super) fn say_line(&self, line: String) {
        // It stays on the screen from now on, not from when it is written: the next refresh shows
        // it.
        let line = self.shared.state().keep(line);
        self.pass(line);
    }

    /// Queues a line, safe to print, that the screen shows elsewhere.
    pub(super) fn pass(&self, line: String) {
        self.shared.push(Item::Line(line));
    }

    /// The callback for events of a pipe. `pipe` is its name in messages if there are several.
    pub(super) fn report(&self, pipe: Option<&str>) -> OnEvent {
        let pipe: Option<Arc<str>> = pipe.map(Arc::from);
        let shared = self.shared.clone();
        Arc::new(move |event| shared.push(Item::Event(pipe.clone(), event)))
    }

    /// Whether the next refresh wipes messages off, so that the screen has to show them too.
    pub(super) fn are_wiped(&self) -> bool {
        self.shared.state().wiped
    }

    /// The messages that stay on the screen, the oldest first.
    pub(super) fn on_screen(&self) -> Vec<String> {
        self.shared.state().kept.iter().cloned().collect()
    }

    /// Holds lines back from now on: they would be written onto a screen.
    pub(super) fn hold(&self) {
        self.shared.state().holds = true;
    }

    /// Writes what was held back, and all else from now on.
    pub(super) fn release(&self) {
        self.shared.state().holds = false;
        self.shared.changed.notify_all();
    }

    /// Waits until everything queued is written, or until nothing was written for `patience`.
    /// Returns whether everything is written.
    pub(super) fn finish(&self, patience: Duration) -> bool {
        let mut state = self.shared.state();
        state.ended = true;
        self.shared.changed.notify_all();
        let is_busy = |state: &Queue| {
            state.ended || state.writing || !state.waiting.is_empty() || !state.held.is_empty()
        };
        wait_while(state, &self.shared.changed, patience, is_busy, |state| state.written)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item) {
        let mut state = self.state();
        if state.waiting.len() >= WAITING {
            state.lost += 1;
            return;
        }
        state.waiting.push_back(item);
        drop(state);
        self.changed.notify_all();
    }
}

impl Queue {
    /// The next line that was held back.
    fn released(&mut self) -> Option<String> {
        if self.holds {
            return None;
        }
        if let dropped @ 1.. = std::mem::take(&mut self.dropped) {
            return Some(format!("({dropped} earlier lines are left out)"));
        }
        self.held.pop_front()
    }

    /// Holds a line back.
    fn hold_back(&mut self, line: String) {
        self.held.push_back(line);
        if self.held.len() > HELD {
            self.held.pop_front();
            self.dropped += 1;
        }
    }

    /// Keeps a line on the screen.
    fn keep(&mut self, line: String) -> String {
        if self.wiped {
            self.kept.push_back(line.clone());
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
        line
    }
}

fn write_all(mut out: impl Write, mut words: Words, shared: &Shared) {
    let mut state = shared.state();
    loop {
        let line = match state.released().or_else(|| next(&mut state, &mut words)) {
            Some(line) if state.holds => {
                state.hold_back(line);
                continue;
            }
            Some(line) => line,
            None => {
                state.ended = false;
                shared.changed.notify_all();
                state = match words.hold_back() {
                    true => {
                        let woken = shared.changed.wait_timeout(state, INTERVAL);
                        woken.unwrap_or_else(PoisonError::into_inner).0
                    }
                    false => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
                continue;
            }
        };
        state.writing = true;
        drop(state);
        // A standard error that is closed is no error.
        let _ = out.write_all(format!("{line}\n").as_bytes());
        state = shared.state();
        state.writing = false;
        state.written += 1;
    }
}

/// The next line to write now.
fn next(state: &mut Queue, words: &mut Words) -> Option<String> {
    let now = Instant::now();
    while let Some(item) = state.waiting.pop_front() {
        let line = match item {
            Item::Line(line) => return Some(line),
            Item::Event(pipe, event) => words.event(pipe.as_deref(), &event, now, &time()),
        };
        if let Some(line) = line {
            return Some(state.keep(line));
        }
    }
    if let lost @ 1.. = std::mem::take(&mut state.lost) {
        let line = words.line(&format!("{lost} lines could not be written fast enough"));
        return Some(state.keep(line));
    }
    // At the end, without waiting for the rate limit.
    let due = words.due(if state.ended { now + INTERVAL } else { now })?;
    Some(state.keep(due))
}

/// The current time in RFC 3339: local time with milliseconds and the offset from UTC.
fn time() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::pipe::{ConnectError, Failed};
    use crate::until::until;

    /// A standard error that takes a line each time the test says so.
    struct Slow {
        go: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(wiped: bool) -> (Messages, Sender<()>, Receiver<String>) {
        let ((go, may), (done, written)) = (channel(), channel());
        let out = Slow { go: may, written: done };
        (Messages::start_on(out, "test", false, wiped).unwrap(), go, written)
    }

    fn failed() -> Event {
        let address = "192.0.2.1:80".parse().unwrap();
        let error = io::ErrorKind::ConnectionRefused.into();
        let client = "192.0.2.9:5000".parse().unwrap();
        Event::Failed(Failed { client, error: ConnectError::Refused { address, error } })
    }

    #[test]
    fn lines_of_all_kinds_come_in_the_order_of_time() {
        let (messages, go, written) = start(false);
        drop(go);
        messages.say("one");
        messages.report(Some("pipe"))(failed());
        messages.clone().pass("an alert".to_owned());
        messages.say("\x1b[2J");
        assert!(messages.finish(Duration::from_secs(60)));
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(lines[0], "test: one\n");
        assert!(lines[1].starts_with("test: pipe: 192.0.2.9:5000 was closed: "), "{lines:?}");
        assert_eq!(lines[2..], ["an alert\n", "test: \\x1b[2J\n"]);
    }

    #[test]
    fn what_is_held_back_is_said_at_the_end() {
        let (messages, go, written) = start(false);
        drop(go);
        let report = messages.report(None);
        (0..3).for_each(|_| report(failed()));
        assert!(messages.finish(Duration::from_secs(60)));
        let lines: Vec<String> = written.try_iter().collect();
        assert!(lines.len() == 2 && lines[1].ends_with("(and 1 more)\n"), "{lines:?}");
    }

    #[test]
    fn nobody_waits_for_a_standard_error_that_is_not_read_and_what_is_lost_is_said() {
        let (messages, go, written) = start(false);
        messages.say("first");
        until("it is being written", || messages.shared.state().writing.then_some(()));
        (0..WAITING + 3).for_each(|_| messages.pass("more".to_owned()));
        assert!(!messages.finish(Duration::from_millis(1)));
        assert_eq!(written.try_iter().count(), 0);
        drop(go);
        assert!(messages.finish(Duration::from_secs(60)));
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(lines.len(), 1 + WAITING + 1);
        assert_eq!(lines[1 + WAITING], "test: 3 lines could not be written fast enough\n");
    }

    #[test]
    fn messages_stay_on_a_screen_that_is_cleared_and_alerts_have_a_place_of_their_own() {
        let (messages, go, _) = start(true);
        messages.pass("an alert".to_owned());
        (0..KEPT + 1).for_each(|at| messages.say(&at.to_string()));
        assert_eq!(messages.on_screen().len(), KEPT);
        assert_eq!(messages.on_screen()[0], "test: 1");
        drop(go);
        let (messages, _go, _) = start(false);
        messages.say("not wiped");
        assert!(messages.on_screen().is_empty());
    }

    #[test]
    fn lines_are_held_back_while_there_is_a_screen_and_written_after_it() {
        let (messages, go, written) = start(true);
        drop(go);
        messages.say("before");
        assert!(messages.finish(Duration::from_secs(60)));
        messages.hold();
        (0..HELD + 3).for_each(|at| messages.say(&at.to_string()));
        until("all are held back", || {
            let state = messages.shared.state();
            (state.waiting.is_empty() && state.dropped == 3).then_some(())
        });
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["test: before\n"]);
        messages.release();
        assert!(messages.finish(Duration::from_secs(60)));
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(lines.len(), 1 + HELD);
        assert_eq!(lines[..2], ["(3 earlier lines are left out)\n", "test: 3\n"]);
    }

    #[test]
    fn the_time_is_rfc_3339() {
        let time = time();
        let form = regex::Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$");
        assert!(form.unwrap().is_match(&time), "{time}");
    }
}
