//! The processes that move bytes in tests, under names of the test's choosing: `programs/workload.py`, and
//! `short.c` and `calls.c` where an interpreter would be too slow.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::bytes::Bytes;
use crate::netns::{Namespace, Net};
use crate::programs::{self, PYTHON, WORKLOAD};
use crate::wait::{DEADLINE, eventually};

/// An exchange of a few megabytes that takes long enough to be held to the thousandth.
pub const LIVE: &str = "up=3000000 down=2000000 seconds=3.5";

/// A process at one end of connections or datagrams, and its children, killed when dropped.
pub struct Endpoint {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Endpoint {
    /// Starts one and waits until it is set up. `role` is the role and its options.
    pub fn start(net: &Net, namespace: &Namespace, name: &str, role: &str) -> Endpoint {
        Endpoint::start_as(net, namespace, &[], name, role)
    }

    /// The same, through `setpriv` with these options.
    pub fn start_as(
        net: &Net,
        namespace: &Namespace,
        setpriv: &[&str],
        name: impl AsRef<OsStr>,
        role: &str,
    ) -> Endpoint {
        // The script by its name alone: the program under test cuts command lines, and the endpoint's name
        // has to be seen.
        let program = [PYTHON, WORKLOAD.name];
        Endpoint::start_program(net, namespace, &[setpriv, &program].concat(), name.as_ref(), role)
    }

    /// Starts one of `short.c` and waits until it is set up.
    pub fn start_short(net: &Net, namespace: &Namespace, name: &str, role: &str) -> Endpoint {
        programs::copy(programs::short(), &net.dir);
        Endpoint::start_program(net, namespace, &["./short"], name.as_ref(), role)
    }

    fn start_program(
        net: &Net,
        namespace: &Namespace,
        program: &[&str],
        name: &OsStr,
        role: &str,
    ) -> Endpoint {
        let what = format!("endpoint {} {role} in {}", name.to_string_lossy(), namespace.name);
        let mut command = namespace.command("setpriv");
        // It ends with the test, also if that is killed.
        command.arg("--pdeathsig=KILL");
        command.args(program).arg(name).args(role.split(' ')).current_dir(&net.dir);
        let errors = net.dir.join(format!("{}.stderr", fs::read_dir(&net.dir).unwrap().count()));
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut workload = Endpoint { what, child, stdin, lines, errors };
        workload.wait_for("READY");
        workload
    }

    /// Its process; `nsenter` and `setpriv` became it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One exchange, from its command to its end; the payload so far.
    pub fn go(&mut self) -> Bytes {
        self.begin();
        self.done()
    }

    /// Only commands an exchange.
    pub fn begin(&mut self) {
        self.tell("go");
    }

    /// Waits for the end of the exchange; the payload so far.
    pub fn done(&mut self) -> Bytes {
        let line = self.wait_for("DONE");
        let mut numbers = line.split(' ').skip(1).map(|word| word.parse().unwrap());
        let sent = numbers.next().unwrap();
        Bytes { received: numbers.next().unwrap(), sent }
    }

    /// The workload closes its socket in the ordinary way.
    pub fn close(&mut self) {
        self.tell("close");
        self.wait_for("CLOSED");
    }

    /// The workload resets its connection.
    pub fn reset(&mut self) {
        self.tell("reset");
        self.wait_for("CLOSED");
    }

    /// Stops the process, which keeps its sockets.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Ends the process and waits until it is gone.
    pub fn quit(mut self) {
        self.stdin = None;
        let pid = Pid::from_child(&self.child);
        // Not reaped yet: until the group is killed, its number must not become another's.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        eventually(&format!("the end of the {}", self.what), || {
            waitid(WaitId::Pid(pid), options).unwrap().is_some()
        });
    }

    /// Waits for a line that begins so.
    pub fn wait_for(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(beginning) => return line,
                Ok(_) => {}
                Err(error) => panic!(
                    "{}: no line {beginning:?} ({error}); its stderr:\n{}",
                    self.what,
                    fs::read_to_string(&self.errors).unwrap_or_default()
                ),
            }
        }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.stdin.as_ref().unwrap(), "{command}")
            .unwrap_or_else(|error| panic!("{}: {command}: {error}", self.what));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // The whole group: a forking server's children too, whether or not the parent still lives.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
