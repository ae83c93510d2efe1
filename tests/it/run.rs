//! Runs the program so that a failure explains itself: command, both streams, exit status.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::netns::{Namespace, Net};
use crate::screen::{self, Refresh};
use crate::truth::Bytes;
use crate::workload::DEADLINE;

/// How long a line may take to come right.
const PATIENCE: Duration = Duration::from_secs(30);

const PROGRAM: &str = env!("CARGO_BIN_EXE_runmonitor");

/// The program, where no namespace matters.
pub(crate) fn here(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    command
}

/// Makes a program watch only the namespace in which it runs: the others of a test stand for other
/// hosts.
pub(crate) const OWN: [&str; 2] = ["--netns", "own"];

/// The program in a namespace, as root.
pub(crate) fn inside(namespace: &Namespace, args: &[&str]) -> Command {
    anywhere(namespace, &[&OWN, args].concat())
}

/// The same, watching every namespace of the host.
pub(crate) fn anywhere(namespace: &Namespace, args: &[&str]) -> Command {
    let mut command = namespace.command(PROGRAM);
    command.args(args);
    command
}

/// The program in the watched namespace, through `setpriv` with these options.
pub(crate) fn with_setpriv(net: &Net, setpriv: &[&str], args: &[&str]) -> Command {
    program_with_setpriv(PROGRAM, net, setpriv, &[&OWN, args].concat())
}

/// The same for any program.
pub(crate) fn program_with_setpriv(
    program: &str,
    net: &Net,
    setpriv: &[&str],
    args: &[&str],
) -> Command {
    let mut command = net.watched.command("setpriv");
    command.args(setpriv).arg(readable_copy(program, net)).args(args).current_dir(&net.dir);
    command
}

/// The build directory may lie where only root may go.
fn readable_copy(program: &str, net: &Net) -> PathBuf {
    let copy = net.dir.join(Path::new(program).file_name().unwrap());
    // By another process: a file that a test's thread has open for writing may be inherited by what
    // another thread starts, and can't be executed for that moment.
    let status = Command::new("install").args(["-m", "755", program]).arg(&copy).status().unwrap();
    assert!(status.success(), "no copy of {program} at {}", copy.display());
    copy
}

/// One refresh, which has to succeed.
pub(crate) fn once(namespace: &Namespace, args: &[&str]) -> Refresh {
    let mut all = vec!["--count", "1"];
    all.extend(args);
    Running::start(inside(namespace, &all)).finish().single_refresh()
}

/// The program watching the watched namespace with this source, its first refresh done.
pub(crate) fn watch(net: &Net, source: &str, args: &[&str]) -> Running {
    let mut all = vec!["--source", source, "--interval", "0.2"];
    all.extend(args);
    let mut running = Running::start(inside(&net.watched, &all));
    running.refreshes(1);
    running
}

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

/// The running program; killed when dropped.
pub(crate) struct Running {
    child: Child,
    program: &'static str,
    command: String,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(command: Command) -> Running {
        Running::start_to(command, Stdio::piped())
    }

    /// The same with a stdout of the test's own.
    pub(crate) fn start_to(command: Command, stdout: Stdio) -> Running {
        Running::start_on(command, stdout, Stdio::piped())
    }

    /// The same with both streams of the test's own.
    pub(crate) fn start_on(mut command: Command, stdout: Stdio, stderr: Stdio) -> Running {
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
    pub(crate) fn refreshes(&mut self, count: usize) -> Vec<Refresh> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let bytes = self.stdout.bytes.lock().unwrap();
            let parsed = screen::parse(&bytes).unwrap_or_else(|why| self.report(&bytes).fail(&why));
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
    pub(crate) fn settled(&mut self) -> Refresh {
        let so_far = self.refreshes(0).len();
        self.refreshes(so_far + 2).pop().unwrap()
    }

    /// Waits for a refresh that fulfils the condition.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        condition: impl Fn(&Refresh) -> bool,
    ) -> Refresh {
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

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The program's process; a wrapper that executes it keeps its own.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What stdout has brought so far.
    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// When the first `length` bytes of stdout had come.
    pub(crate) fn stdout_arrival(&self, length: usize) -> Instant {
        self.stdout.arrival(length)
    }

    /// When the first `length` bytes of stderr had come.
    pub(crate) fn stderr_arrival(&self, length: usize) -> Instant {
        self.stderr.arrival(length)
    }

    /// Fails if it has ended.
    pub(crate) fn expect_running(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.fail("it has ended");
        }
    }

    /// Fails with everything there is to know.
    pub(crate) fn fail(&self, what: &str) -> ! {
        self.report(&self.stdout.so_far()).fail(what)
    }

    /// What stderr has brought so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.so_far()).into_owned()
    }

    /// Waits for the program's own end.
    pub(crate) fn finish(mut self) -> Finished {
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
        let (unread, others): (Vec<&str>, Vec<&str>) =
            stderr.split_inclusive('\n').partition(|line| line.contains(STILL_READING));
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
    pub(crate) fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        let finished = self.finish();
        finished.expect_status(0);
        finished
    }

    /// Fails unless both are the same, with everything there is to know.
    pub(crate) fn expect<T: PartialEq + fmt::Display>(&self, what: &str, got: T, expected: T) {
        if got != expected {
            self.report(&self.stdout.so_far()).differ(what, &got, &expected);
        }
    }

    /// Fails unless the workload's line comes to be within a thousandth of the true bytes, each way.
    pub(crate) fn expect_share(&mut self, name: &str, truth: Bytes) {
        self.expect_line(name, truth, |got| got.is_within_a_thousandth_of(truth));
    }

    /// Fails unless the workload's line comes to be the payload to the byte.
    pub(crate) fn expect_payload(&mut self, name: &str, payload: Bytes) {
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

/// A run and what it left.
pub(crate) struct Finished {
    program: &'static str,
    command: String,
    status: Option<ExitStatus>,
    pub(crate) stdout: Vec<u8>,
    /// But for what depends on how busy the host is: see below.
    pub(crate) stderr: String,
    /// What was said because not everything was read in time.
    pub(crate) still_reading: String,
}

impl Finished {
    pub(crate) fn expect_status(&self, code: i32) {
        if self.status.and_then(|status| status.code()) != Some(code) {
            self.fail(&format!("expected exit status {code}"));
        }
    }

    pub(crate) fn refreshes(&self) -> Vec<Refresh> {
        screen::parse(&self.stdout).unwrap_or_else(|why| self.fail(&why))
    }

    /// The refresh of a successful run with `--count 1`.
    pub(crate) fn single_refresh(&self) -> Refresh {
        self.expect_status(0);
        match <[Refresh; 1]>::try_from(self.refreshes()) {
            Ok([refresh]) => refresh,
            Err(other) => self.fail(&format!("expected one refresh, got {}", other.len())),
        }
    }

    /// Every line of stderr is a message of the program; those that hold this, in either case.
    pub(crate) fn messages(&self, part: &str) -> Vec<&str> {
        let beginning = format!("{}: ", self.program);
        if let Some(odd) = self.stderr.lines().find(|line| !line.starts_with(&beginning)) {
            self.fail(&format!("not a message of the program: {odd:?}"));
        }
        let part = part.to_lowercase();
        self.stderr.lines().filter(|line| line.to_lowercase().contains(&part)).collect()
    }

    /// Exactly one message holds this.
    pub(crate) fn expect_one_message(&self, part: &str) {
        let count = self.messages(part).len();
        if count != 1 {
            self.fail(&format!("expected one message with {part:?} on stderr, got {count}"));
        }
    }

    pub(crate) fn expect<T: PartialEq + fmt::Display>(&self, what: &str, got: T, expected: T) {
        if got != expected {
            self.differ(what, &got, &expected);
        }
    }

    pub(crate) fn differ(
        &self,
        what: &str,
        got: &dyn fmt::Display,
        expected: &dyn fmt::Display,
    ) -> ! {
        self.fail(&format!("{what}\n  expected  {expected}\n  got       {got}"))
    }

    pub(crate) fn fail(&self, what: &str) -> ! {
        let status = self.status.map_or("still running".to_owned(), |status| status.to_string());
        let stdout = tail(&String::from_utf8_lossy(&self.stdout).escape_debug_lines());
        let stderr = tail(&self.stderr.escape_debug_lines());
        panic!(
            "{what}\n  command   {}\n  status    {status}\n--- stdout ---\n{stdout}\n\
             --- stderr ---\n{stderr}\n",
            self.command
        )
    }
}

/// The last lines of a stream: where it went wrong.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A report must not do to the terminal what the program failed to prevent.
trait EscapeLines {
    fn escape_debug_lines(&self) -> String;
}

impl EscapeLines for str {
    fn escape_debug_lines(&self) -> String {
        let lines: Vec<String> =
            self.lines().map(|line| line.escape_debug().collect::<String>()).collect();
        lines.join("\n")
    }
}
