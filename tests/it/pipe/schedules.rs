//! Random schedules: two ends do what they like in any order, and a model knows what each of them
//! must have seen.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::num::{NonZeroU64, NonZeroUsize};
use std::thread;
use std::time::{Duration, Instant};

use bwmon::pipe::{End, Side};
use proptest::prelude::*;
use rustix::event::PollFlags;
use testbed::streams::{PATIENCE, read_some, ready, reset};

use super::pattern::Pattern;
use super::rig::{Failure, Rig};

/// What one end does. Nothing of it waits.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Writes so many bytes, or as many of them as its socket takes.
    Write(usize),
    /// Reads up to so many, if there are any.
    Read(usize),
    Shutdown,
    Reset,
    /// Lets the pipe work for so many microseconds.
    Pause(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![1_usize..100, 60_000_usize..70_000, 1_usize..300_000];
    prop_oneof![
        12 => size().prop_map(Step::Write),
        12 => size().prop_map(Step::Read),
        4 => (0_u64..1000).prop_map(Step::Pause),
        1 => Just(Step::Shutdown),
        1 => Just(Step::Reset),
    ]
}

/// One end and what is known of it.
struct Model {
    /// `None` after a reset.
    socket: Option<TcpStream>,
    /// What this end writes.
    pattern: Pattern,
    written: u64,
    /// Bytes of the other end's that came here.
    read: u64,
    /// This end has said that it is done.
    done: bool,
    /// How the other end's stream ended here, once it did.
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    End,
    Reset,
}

impl Model {
    fn new(socket: TcpStream, number: u64) -> Model {
        socket.set_nonblocking(true).unwrap();
        let pattern = Pattern::new(number);
        Model { socket: Some(socket), pattern, written: 0, read: 0, done: false, seen: None }
    }

    /// Writes, unless it has said that it won't, or has been told that nobody listens.
    fn write(&mut self, length: usize) {
        let Some(mut socket) = self.socket.as_ref().filter(|_| !self.done) else { return };
        match socket.write(&self.pattern.bytes(self.written, length)) {
            Ok(taken) => self.written += taken as u64,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {}
                // The error is used up: what is read now would be an end that is none.
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    self.seen.get_or_insert(Seen::Reset);
                }
                _ => panic!("write: {error}"),
            },
        }
    }

    /// Reads once, and compares with what the other end wrote; whether anything came.
    fn read(&mut self, most: usize, from: Pattern) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| self.seen.is_none()) else {
            return false;
        };
        let mut buffer = vec![0; most];
        match read_some(socket, &mut buffer) {
            Ok(0) => self.seen = Some(Seen::End),
            Ok(length) => {
                from.check(self.read, &buffer[..length]);
                self.read += length as u64;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return false,
                ErrorKind::ConnectionReset => self.seen = Some(Seen::Reset),
                _ => panic!("read: {error}"),
            },
        }
        true
    }

    fn shutdown(&mut self) {
        if let Some(socket) = &self.socket {
            // It fails where a reset has come.
            let _ = socket.shutdown(Shutdown::Write);
            self.done = true;
        }
    }
}

/// Lets both ends do their steps, brings everything to its end, and compares with the model.
fn play(rig: &Rig, steps: &[(bool, Step)]) {
    let before = rig.pipe.traffic();
    let ends_before = rig.events.ends().len();
    let (client, remote) = rig.connect();
    let mut ends = [Model::new(client, 1), Model::new(remote, 2)];
    // Which end has broken the connection off, or both.
    let mut broke = [false; 2];
    for (who, step) in steps {
        let [mut one, mut other] = ends.each_mut();
        if *who {
            std::mem::swap(&mut one, &mut other);
        }
        match *step {
            Step::Write(length) => one.write(length),
            Step::Read(most) => drop(one.read(most, other.pattern)),
            Step::Shutdown => one.shutdown(),
            Step::Pause(time) => thread::sleep(Duration::from_micros(time)),
            Step::Reset => {
                if let Some(socket) = one.socket.take() {
                    reset(socket);
                    broke[usize::from(*who)] = true;
                }
            }
        }
    }
    ends.iter_mut().for_each(Model::shutdown);
    let deadline = Instant::now() + PATIENCE;
    while ends.iter().any(|end| end.socket.is_some() && end.seen.is_none()) {
        assert!(Instant::now() < deadline, "an end waits for ever");
        let [one, other] = ends.each_mut();
        let some = one.read(100_000, other.pattern) | other.read(100_000, one.pattern);
        if let Some(waiting) = ends.iter().find(|end| end.socket.is_some() && end.seen.is_none())
            && !some
        {
            ready(waiting.socket.as_ref().unwrap(), PollFlags::IN, Duration::from_millis(5));
        }
    }
    // Dropped sockets have been read to the end, so that this is no reset.
    rig.expect_idle();
    let counted = rig.pipe.traffic() - before;
    let [client, remote] = &ends;
    match broke {
        [false, false] => {
            for (one, other) in [(client, remote), (remote, client)] {
                assert_eq!((one.seen, one.read), (Some(Seen::End), other.written));
            }
            assert_eq!((counted.received, counted.sent), (client.written, remote.written));
        }
        _ => {
            for (bytes, writer, reader) in
                [(counted.received, client, remote), (counted.sent, remote, client)]
            {
                assert!(reader.read <= bytes && bytes <= writer.written, "{bytes} counted");
                // An end may be seen only where the stream was complete.
                if reader.seen == Some(Seen::End) {
                    assert!(writer.done, "a broken stream looks complete");
                    assert_eq!(reader.read, writer.written, "a broken stream looks complete");
                }
            }
        }
    }
    let told = rig.events.ended();
    if told.len() == ends_before {
        // Broken off by the client before the pipe had heard that the remote had taken it.
        assert_eq!(counted.total(), 0);
        assert!(broke[0]);
        assert_eq!(rig.events.failures().pop().unwrap().1, Failure::Abandoned);
        return;
    }
    assert_eq!(told.len(), ends_before + 1);
    assert_eq!(told[ends_before].traffic, counted);
    let end = told[ends_before].end;
    assert!(
        match end {
            End::Reset(Side::Client) => broke[0],
            End::Reset(Side::Remote) => broke[1],
            // A reset after both streams were complete may come too late to be noticed.
            End::Closed => true,
            _ => false,
        },
        "{end} where {broke:?}"
    );
}

fn schedules() -> impl Strategy<Value = Vec<(bool, Step)>> {
    proptest::collection::vec((any::<bool>(), step()), 0..40)
}

/// Many schedules, one after the other, through one pipe.
fn check(cases: u32, rig: &Rig) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&schedules(), |steps| {
        play(rig, &steps);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn any_schedule_on_one_worker() {
    check(400, &Rig::with(|config| config.workers = NonZeroUsize::MIN));
}

#[test]
fn any_schedule_on_two_workers() {
    check(400, &Rig::new());
}

#[test]
fn any_schedule_with_a_limit() {
    // 50 MB/s: every connection has to wait for it.
    check(60, &Rig::with(|config| config.shape = NonZeroU64::new(50_000_000)));
}
