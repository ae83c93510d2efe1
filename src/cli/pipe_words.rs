//! Messages about the connections of pipes: a line for each end, or failures at a limited rate.

use std::time::{Duration, Instant};

use super::line;
use crate::escape::visible;
use crate::model::traffic::Traffic;
use crate::pipe::{ConnectError, Event};

/// Minimum time between two lines about failures.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two lines about missing descriptors.
const STARVED_INTERVAL: Duration = Duration::from_secs(60);

/// Decides which events get a line, and words it. It has no clock and writes nothing.
#[derive(Debug)]
pub(super) struct Words {
    program: &'static str,
    /// Whether every connection gets a line.
    every: bool,
    /// The last failure without a line, and the number of such failures.
    held: Option<(String, u64)>,
    said: Option<Instant>,
    starved: Option<Instant>,
}

impl Words {
    pub(super) fn new(program: &'static str, every: bool) -> Words {
        Words { program, every, held: None, said: None, starved: None }
    }

    /// The line for an event, if it gets one; `time` is the wall-clock time.
    ///
    /// `pipe` is the name of the pipe if there are several.
    pub(super) fn event(
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
            // The client has left, so this is no failure to serve it.
            Event::Failed(failed) if matches!(failed.error, ConnectError::Abandoned) => None,
            Event::Failed(failed) => {
                let message = format!("{} was closed: {}", failed.client, failed.error);
                let line = self.line(&of_pipe(message));
                let count = self.held.take().map_or(0, |(_, count)| count) + 1;
                self.held = Some((line, count));
                self.due(now)
            }
            Event::Starved(error) => {
                if self
                    .starved
                    .is_some_and(|at| now.saturating_duration_since(at) < STARVED_INTERVAL)
                {
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

    /// The line for the failures that were held back, if its time has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<String> {
        if self.said.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return None;
        }
        let (line, count) = self.held.take()?;
        self.said = Some(now);
        Some(if count == 1 { line } else { format!("{line} (and {} more)", count - 1) })
    }

    /// Whether failures are held back.
    pub(super) fn hold_back(&self) -> bool {
        self.held.is_some()
    }

    /// A message as a line.
    pub(super) fn line(&self, message: &str) -> String {
        line(self.program, message)
    }
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
            assert_eq!(words.event(None, &failed(), start + INTERVAL / 2, TIME), None);
        }
        assert_eq!(words.due(start + INTERVAL / 2), None);
        assert_eq!(words.due(start + INTERVAL).unwrap(), format!("{line} (and 4 more)"));
        assert_eq!(words.due(start + INTERVAL * 3), None);
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
        assert_eq!(words.event(None, &event(), start + STARVED_INTERVAL / 2, TIME), None);
        assert!(words.event(None, &event(), start + STARVED_INTERVAL, TIME).is_some());
    }
}
