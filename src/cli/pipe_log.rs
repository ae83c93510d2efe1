//! What a program says of its pipes' connections on standard error: a line for each end, or
//! failures at a bounded rate.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{is_wiped, line};
use crate::escape::visible;
use crate::pipe::{ConnectError, Event, Report};
use crate::traffic::Traffic;

/// Events that may wait to be written. Workers don't wait for a slow standard error: what doesn't
/// fit is counted, and said.
const WAITING: usize = 65_536;

/// The least time between two lines about failures.
const PACE: Duration = Duration::from_secs(1);

/// The least time between two lines about missing descriptors.
const STARVED_PACE: Duration = Duration::from_secs(60);

/// Messages that stay above the traffic on a screen that is cleared.
const KEPT: usize = 20;

/// Decides what is said, and in which words. It has no clock and writes nothing.
#[derive(Debug)]
struct Words {
    program: &'static str,
    /// Whether every connection has its line.
    every: bool,
    /// The last failure that was not said yet, and how many of them there are.
    held: Option<(String, u64)>,
    said: Option<Instant>,
    starved: Option<Instant>,
}

impl Words {
    fn new(program: &'static str, every: bool) -> Words {
        Words { program, every, held: None, said: None, starved: None }
    }

    /// The line for an event, if it has one; `time` is the wall clock's.
    ///
    /// `pipe` is what the pipe is called, where there may be several.
    fn event(
        &mut self,
        pipe: Option<&str>,
        event: &Event,
        now: Instant,
        time: &str,
    ) -> Option<String> {
        let of_pipe = |message: String| match pipe {
            Some(pipe) => format!("{pipe}: {message}"),
            None => message,
        };
        match event {
            Event::Ended(ended) => {
                let Traffic { received, sent } = ended.traffic;
                self.every.then(|| {
                    format!(
                        "{time} client={} remote={} in={received} out={sent} seconds={:.3} end={}",
                        ended.client,
                        ended.remote,
                        ended.lasted.as_secs_f64(),
                        ended.end
                    )
                })
            }
            Event::Failed(failed) if self.every => {
                let error = visible(failed.error.to_string().as_bytes()).replace('"', "'");
                Some(format!(
                    "{time} client={} in=0 out=0 end=failed error=\"{error}\"",
                    failed.client
                ))
            }
            // Nobody is left who was not served.
            Event::Failed(failed) if matches!(failed.error, ConnectError::Abandoned) => None,
            Event::Failed(failed) => {
                let message = format!("{} was closed: {}", failed.client, failed.error);
                let line = self.line(&of_pipe(message));
                let count = self.held.take().map_or(0, |(_, count)| count) + 1;
                self.held = Some((line, count));
                self.due(now)
            }
            Event::Starved(error) => {
                if self.starved.is_some_and(|at| now.saturating_duration_since(at) < STARVED_PACE) {
                    return None;
                }
                self.starved = Some(now);
                Some(self.line(&of_pipe(format!(
                    "no more connections for now: {error}; accepting goes on when others end; to \
                     mend it, allow more descriptors (ulimit -n)"
                ))))
            }
        }
    }

    /// The failures that were held back, if it is time to say them.
    fn due(&mut self, now: Instant) -> Option<String> {
        if self.said.is_some_and(|at| now.saturating_duration_since(at) < PACE) {
            return None;
        }
        let (line, count) = self.held.take()?;
        self.said = Some(now);
        Some(if count == 1 { line } else { format!("{line} (and {} more)", count - 1) })
    }

    fn line(&self, message: &str) -> String {
        line(self.program, message)
    }
}

/// What the thread is sent.
enum Message {
    Event(Option<Arc<str>>, Event),
    End,
}

/// The thread that writes.
pub(super) struct Log {
    sender: SyncSender<Message>,
    state: Arc<State>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Events that did not fit.
    lost: AtomicU64,
    /// Whether messages would be wiped away by the next refresh.
    wiped: bool,
    kept: Mutex<VecDeque<String>>,
}

impl Log {
    /// Starts the thread. `every`: a line for each connection. `is_screen`: standard output is
    /// cleared with each refresh.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(program: &'static str, every: bool, is_screen: bool) -> io::Result<Log> {
        let (sender, receiver) = sync_channel(WAITING);
        let wiped = is_wiped(is_screen);
        let state = Arc::new(State { wiped, ..State::default() });
        let words = Words::new(program, every);
        let thread = thread::Builder::new().name("log".to_owned()).spawn({
            let state = state.clone();
            move || write_all(words, &receiver, &state)
        })?;
        Ok(Log { sender, state, thread })
    }

    /// What a pipe is given to report to; it never blocks. `pipe` is what it is called in messages,
    /// where there may be several.
    pub(super) fn report(&self, pipe: Option<&str>) -> Report {
        let pipe: Option<Arc<str>> = pipe.map(Arc::from);
        let sender = self.sender.clone();
        let state = self.state.clone();
        Arc::new(move |event| {
            if sender.try_send(Message::Event(pipe.clone(), event)).is_err() {
                state.lost.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Says a line of the program's own.
    pub(super) fn say(&self, line: &str) {
        self.state.write(line);
    }

    /// What says a line of the program's own, from any thread.
    pub(super) fn voice(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let state = self.state.clone();
        move |line| state.write(line)
    }

    /// The messages that stay on the screen.
    pub(super) fn on_screen(&self) -> Vec<String> {
        self.state.kept().iter().cloned().collect()
    }

    /// Writes what was reported until now.
    pub(super) fn finish(self) {
        // Not by dropping the sender: a resolver that hangs still has the pipe's.
        if self.sender.send(Message::End).is_ok() {
            let _ = self.thread.join();
        }
    }
}

impl State {
    fn write(&self, line: &str) {
        // A standard error that is closed is nobody's problem.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        if self.wiped {
            let mut kept = self.kept();
            kept.push_back(line.to_owned());
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_all(mut words: Words, messages: &Receiver<Message>, state: &State) {
    loop {
        let message = messages.recv_timeout(PACE);
        let now = Instant::now();
        let ends = matches!(message, Ok(Message::End) | Err(RecvTimeoutError::Disconnected));
        let line = match &message {
            Ok(Message::Event(pipe, event)) => words.event(pipe.as_deref(), event, now, &time()),
            // Whatever the pace: there is no later.
            _ if ends => words.due(now + PACE),
            _ => words.due(now),
        };
        if let Some(line) = line {
            state.write(&line);
        }
        let lost = state.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            state.write(&words.line(&format!("{lost} lines could not be written fast enough")));
        }
        if ends {
            return;
        }
    }
}

/// Now, as RFC 3339 has it: local time, with milliseconds and the offset from UTC.
fn time() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::SocketAddr;

    use super::*;
    use crate::pipe::{End, Ended, Failed, Side};

    const TIME: &str = "2026-01-02T03:04:05.678+01:00";

    fn client() -> SocketAddr {
        ([192, 0, 2, 9], 5000).into()
    }

    fn failed() -> Event {
        let address = "[2001:db8::1]:80".parse().unwrap();
        let error = ErrorKind::ConnectionRefused.into();
        Event::Failed(Failed { client: client(), error: ConnectError::Refused { address, error } })
    }

    #[test]
    fn an_end_is_a_line_where_all_are_wanted() {
        let ended = Event::Ended(Ended {
            client: client(),
            remote: "[2001:db8::1]:80".parse().unwrap(),
            traffic: Traffic::new(123, 456),
            lasted: Duration::from_millis(1_234),
            end: End::Reset(Side::Client),
        });
        let now = Instant::now();
        assert_eq!(
            Words::new("runpipe", true).event(None, &ended, now, TIME).unwrap(),
            "2026-01-02T03:04:05.678+01:00 client=192.0.2.9:5000 remote=[2001:db8::1]:80 in=123 \
             out=456 seconds=1.234 end=reset-by-client"
        );
        assert_eq!(Words::new("runpipe", false).event(None, &ended, now, TIME), None);
    }

    #[test]
    fn a_failure_is_a_line_of_the_log_and_can_not_forge_one() {
        let error = "no \"such\"\nname\x1b[2J".to_owned();
        let host = "nowhere.invalid".to_owned();
        let event = Event::Failed(Failed {
            client: client(),
            error: ConnectError::Unresolved { host, error },
        });
        assert_eq!(
            Words::new("runpipe", true).event(None, &event, Instant::now(), TIME).unwrap(),
            "2026-01-02T03:04:05.678+01:00 client=192.0.2.9:5000 in=0 out=0 end=failed \
             error=\"nowhere.invalid does not resolve: no 'such'\\nname\\x1b[2J\""
        );
    }

    #[test]
    fn failures_are_said_once_a_second_and_none_is_forgotten() {
        let mut words = Words::new("runpipe", false);
        let start = Instant::now();
        let line = "runpipe: 192.0.2.9:5000 was closed: [2001:db8::1]:80: connection refused";
        assert_eq!(words.event(None, &failed(), start, TIME).unwrap(), line);
        for _ in 0..5 {
            assert_eq!(words.event(None, &failed(), start + PACE / 2, TIME), None);
        }
        assert_eq!(words.due(start + PACE / 2), None);
        assert_eq!(words.due(start + PACE).unwrap(), format!("{line} (and 4 more)"));
        assert_eq!(words.due(start + PACE * 3), None);
    }

    #[test]
    fn a_client_that_left_is_no_failure() {
        let event = Event::Failed(Failed { client: client(), error: ConnectError::Abandoned });
        let now = Instant::now();
        assert_eq!(Words::new("runpipe", false).event(None, &event, now, TIME), None);
        assert!(Words::new("runpipe", true).event(None, &event, now, TIME).is_some());
    }

    #[test]
    fn missing_descriptors_are_said_once_a_minute() {
        let mut words = Words::new("runpipe", false);
        let start = Instant::now();
        let event = || Event::Starved(ErrorKind::OutOfMemory.into());
        assert!(words.event(None, &event(), start, TIME).unwrap().contains("ulimit -n"));
        assert_eq!(words.event(None, &event(), start + STARVED_PACE / 2, TIME), None);
        assert!(words.event(None, &event(), start + STARVED_PACE, TIME).is_some());
    }

    #[test]
    fn the_time_is_rfc_3339() {
        let time = time();
        let form = regex::Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$");
        assert!(form.unwrap().is_match(&time), "{time}");
    }
}
