//! A program at work: what it has printed so far, and its end. A failure explains itself: command,
//! both streams, exit status.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bytes::Bytes;
use crate::finished::Finished;
use crate::lines::{self, Refresh};
use crate::wait::{DEADLINE, until};

/// How long a line may take to come right.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which of the programs a command runs, maybe through others that execute it.
fn program_of(command: &Command) -> &'static str {
    let words = || std::iter::once(command.get_program()).chain(command.get_args());
    let is_run = |name: &&str| words().any(|word| Path::new(word).ends_with(name));
    let programs = ["runmonitor", "runpipe", "runaggregator"];
    programs.into_iter().find(is_run).unwrap_or("runmonitor")
}

/// What one stream has brought so far.
#[derive(Default)]
struct Stream {
    bytes: Mutex<Vec<u8>>,
    /// How many bytes had come, and when.
    arrivals: Mutex<Vec<(usize, Instant)>>,
    grown: Condvar,
}

impl Stream {
    fn collect(self: Arc<Stream>, mut from: impl Read + Send + 'static) -> JoinHandle<()> {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let now = Instant::now();
                let mut bytes = self.bytes.lock().unwrap();
                bytes.extend_from_slice(&buffer[..length]);
                self.arrivals.lock().unwrap().push((bytes.len(), now));
                drop(bytes);
                self.grown.notify_all();
            }
            self.grown.notify_all();
        })
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// When the first `length` bytes had come.
    fn arrival(&self, length: usize) -> Instant {
        let arrivals = self.arrivals.lock().unwrap();
        arrivals.iter().find(|(until, _)| *until >= length).expect("it has come").1
    }
}

/// Is said where the first refresh comes before everything is read.
const STILL_READING: &str = ": still reading ";
/// What it says once it has.
const READ: &str = ": everything is read\n";

/// The running program; killed when dropped.
pub struct Running {
    child: Child,
    program: &'static str,
    command: String,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn start(command: Command) -> Running {
        Running::start_to(command, Stdio::piped())
    }

    /// The same with a stdout of the test's own.
    pub fn start_to(command: Command, stdout: Stdio) -> Running {
        Running::start_on(command, stdout, Stdio::piped())
    }

    /// The same with both streams of the test's own.
    pub fn start_on(mut command: Command, stdout: Stdio, stderr: Stdio) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = <(Arc<Stream>, Arc<Stream>)>::default();
        let mut readers = Vec::new();
        if let Some(from) = child.stdout.take() {
            readers.push(stdout.clone().collect(from));
        }
        if let Some(from) = child.stderr.take() {
            readers.push(stderr.clone().collect(from));
        }
        let program = program_of(&command);
        Running { child, program, command: format!("{command:?}"), stdout, stderr, readers }
    }

    /// Waits until this many refreshes are complete; all of them.
    pub fn refreshes(&mut self, count: usize) -> Vec<Refresh> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let bytes = self.stdout.bytes.lock().unwrap();
            let parsed = lines::parse(&bytes).unwrap_or_else(|why| self.report(&bytes).fail(&why));
            if parsed.len() >= count {
                return parsed;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // Short, to notice that the program has ended.
            let step = left.min(Duration::from_millis(100));
            // Unlocked again at once: what follows locks it anew.
            let bytes = self.stdout.grown.wait_timeout(bytes, step).unwrap().0.clone();
            let what = format!("waiting for refresh {count}");
            if left.is_zero() {
                self.report(&bytes).fail(&what);
            }
            if self.child.try_wait().unwrap().is_some() && self.stdout.so_far() == bytes {
                self.report(&bytes).fail(&what);
            }
        }
    }

    /// The first refresh that began after this call.
    pub fn settled(&mut self) -> Refresh {
        let so_far = self.refreshes(0).len();
        self.refreshes(so_far + 2).pop().unwrap()
    }

    /// Waits for a refresh that fulfils the condition.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Refresh) -> bool) -> Refresh {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let refresh = self.settled();
            if condition(&refresh) {
                return refresh;
            }
            if Instant::now() > deadline {
                self.report(&self.stdout.so_far()).fail(&format!("never came: {what}"));
            }
        }
    }

    /// Waits until it is so; fails with everything there is to know.
    pub fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        if !until(DEADLINE, condition) {
            self.fail(&format!("never came: {what}"));
        }
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The program's process; a wrapper that executes it keeps its own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What stdout has brought so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// When the first `length` bytes of stdout had come.
    pub fn stdout_arrival(&self, length: usize) -> Instant {
        self.stdout.arrival(length)
    }

    /// When the first `length` bytes of stderr had come.
    pub fn stderr_arrival(&self, length: usize) -> Instant {
        self.stderr.arrival(length)
    }

    /// Fails if it has ended.
    pub fn expect_running(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.fail("it has ended");
        }
    }

    /// Fails with everything there is to know.
    pub fn fail(&self, what: &str) -> ! {
        self.report(&self.stdout.so_far()).fail(what)
    }

    /// What stderr has brought so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// Waits for the first refresh, and until everything that was there at the start is read, which takes a while on a
    /// busy host: what a short flow carries before that may stay without a process.
    pub fn begun(&mut self) {
        self.refreshes(1);
        self.has_read();
    }

    /// The second half of it, for output of any form: nothing is left to be read.
    pub fn has_read(&self) {
        self.eventually("everything is read", || {
            let stderr = self.stderr();
            !stderr.contains(STILL_READING) || stderr.contains(READ)
        });
    }

    /// Waits for the program's own end.
    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.report(&self.stdout.so_far()).fail("it does not end");
            }
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let stderr = self.stderr();
        let (unread, others): (Vec<&str>, Vec<&str>) = stderr
            .split_inclusive('\n')
            .partition(|line| line.contains(STILL_READING) || line.ends_with(READ));
        Finished {
            program: self.program,
            command: self.command.clone(),
            status: Some(status),
            stdout: self.stdout.so_far(),
            stderr: others.concat(),
            still_reading: unread.concat(),
        }
    }

    /// Ends the program with SIGTERM, which has to be a clean end.
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        let finished = self.finish();
        finished.expect_status(0);
        finished
    }

    /// Fails unless both are the same, with everything there is to know.
    pub fn expect<T: PartialEq + fmt::Display>(&self, what: &str, got: T, expected: T) {
        if got != expected {
            self.report(&self.stdout.so_far()).differ(what, &got, &expected);
        }
    }

    /// Fails unless the workload's line comes to be within a thousandth of the true bytes, each way.
    pub fn expect_share(&mut self, name: &str, truth: Bytes) {
        self.expect_line(name, truth, |got| got.is_within_a_thousandth_of(truth));
    }

    /// Fails unless the workload's line comes to be the payload to the byte.
    pub fn expect_payload(&mut self, name: &str, payload: Bytes) {
        self.expect_line(name, payload, |got| got == payload);
    }

    /// Totals only grow: what is too much stays so, and what is too little may be on its way where
    /// the machine is busy.
    fn expect_line(&mut self, name: &str, expected: Bytes, fits: impl Fn(Bytes) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let got = self.settled().workload(name);
            if fits(got) && expected != Bytes::default() {
                return;
            }
            if Instant::now() > deadline {
                self.report(&self.stdout.so_far()).differ(name, &got, &expected);
            }
        }
    }

    fn report(&self, stdout: &[u8]) -> Finished {
        Finished {
            program: self.program,
            command: self.command.clone(),
            status: None,
            stdout: stdout.to_owned(),
            stderr: self.stderr(),
            still_reading: String::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
