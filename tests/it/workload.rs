//! Starts and commands the processes of `tests/workloads/workload.py`, and of `short.c` and `calls.c`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketType, socket};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::netns::{Namespace, Net, skip};
use crate::truth::Bytes;

/// How long anything may take that takes a few seconds at most. No machine is so busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// An exchange of a few megabytes that takes long enough to be held to the thousandth.
pub(crate) const LIVE: &str = "up=3000000 down=2000000 seconds=3.5";

/// Options of `setpriv`: runs a command as nobody, without any privilege.
pub(crate) const NOBODY: &[&str] = &["--reuid=65534", "--regid=65534", "--clear-groups"];

/// Newer kernels have given UDP-Lite up.
pub(crate) fn udplite_is_missing() -> bool {
    let protocol = Protocol::from_raw(RawProtocol::new(136).unwrap());
    let missing = socket(AddressFamily::INET, SocketType::DGRAM, Some(protocol)).is_err();
    if missing {
        skip("this kernel has no UDP-Lite");
    }
    missing
}

pub(crate) fn mptcp_is_missing() -> bool {
    let protocol = Protocol::from_raw(RawProtocol::new(262).unwrap());
    let missing = socket(AddressFamily::INET, SocketType::STREAM, Some(protocol)).is_err();
    if missing {
        skip("this kernel has no MPTCP, or has it turned off");
    }
    missing
}

/// Before 5.16 no rule sees what leaves by a device.
pub(crate) fn egress_hook_is_missing() -> bool {
    // Only checked: nothing is changed.
    let rule = "add table netdev probe; add chain netdev probe egress \
                { type filter hook egress device lo priority 0; }";
    let mut nft = Command::new("nft");
    let result = nft.args(["--check", rule]).stdin(Stdio::null()).output();
    let missing = !result.is_ok_and(|result| result.status.success());
    if missing {
        skip("no egress hook: this kernel or nft is too old");
    }
    missing
}

/// Old kernels don't have io_uring, or not for making sockets; others have it turned off.
pub(crate) fn io_uring_is_missing() -> bool {
    let mut probe = Command::new(short());
    probe.args(["probe", "ring", "host=127.0.0.1", "direct"]);
    let result = probe.stdin(Stdio::null()).output().unwrap();
    if !result.status.success() {
        skip(&format!("no io_uring: {}", String::from_utf8_lossy(&result.stderr).trim()));
    }
    !result.status.success()
}

/// A workload process and its children, killed when dropped.
pub(crate) struct Workload {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Workload {
    /// Starts one and waits until it is set up. `role` is the role and its options.
    pub(crate) fn start(net: &Net, namespace: &Namespace, name: &str, role: &str) -> Workload {
        Workload::start_as(net, namespace, &[], name, role)
    }

    /// The same, through `setpriv` with these options.
    pub(crate) fn start_as(
        net: &Net,
        namespace: &Namespace,
        setpriv: &[&str],
        name: impl AsRef<OsStr>,
        role: &str,
    ) -> Workload {
        // The interpreter by its path: a version manager's shim would fork. The script by its name
        // alone: the program under test cuts command lines, and the workload's name has to be seen.
        let program = ["/usr/bin/python3", "workload.py"];
        Workload::start_program(net, namespace, &[setpriv, &program].concat(), name.as_ref(), role)
    }

    /// Starts one of `short.c` and waits until it is set up.
    pub(crate) fn start_short(
        net: &Net,
        namespace: &Namespace,
        name: &str,
        role: &str,
    ) -> Workload {
        let copy = net.dir.join("short");
        if !copy.exists() {
            // By another process, as `run::readable_copy`.
            let mut install = Command::new("install");
            let status = install.args(["-m", "755"]).args([short(), &copy]).status().unwrap();
            assert!(status.success(), "no copy of short at {}", copy.display());
        }
        Workload::start_program(net, namespace, &["./short"], name.as_ref(), role)
    }

    fn start_program(
        net: &Net,
        namespace: &Namespace,
        program: &[&str],
        name: &OsStr,
        role: &str,
    ) -> Workload {
        let what = format!("workload {} {role} in {}", name.to_string_lossy(), namespace.name);
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
        let mut workload = Workload { what, child, stdin, lines, errors };
        workload.wait_for("READY");
        workload
    }

    /// Its process; `nsenter` and `setpriv` became it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One exchange, from its command to its end; the payload so far.
    pub(crate) fn go(&mut self) -> Bytes {
        self.begin();
        self.done()
    }

    /// Only commands an exchange.
    pub(crate) fn begin(&mut self) {
        self.tell("go");
    }

    /// Waits for the end of the exchange; the payload so far.
    pub(crate) fn done(&mut self) -> Bytes {
        let line = self.wait_for("DONE");
        let mut numbers = line.split(' ').skip(1).map(|word| word.parse().unwrap());
        let sent = numbers.next().unwrap();
        Bytes { received: numbers.next().unwrap(), sent }
    }

    /// The workload closes its socket in the ordinary way.
    pub(crate) fn close(&mut self) {
        self.tell("close");
        self.wait_for("CLOSED");
    }

    /// The workload resets its connection.
    pub(crate) fn reset(&mut self) {
        self.tell("reset");
        self.wait_for("CLOSED");
    }

    /// Ends the process and waits until it is gone.
    pub(crate) fn quit(mut self) {
        self.stdin = None;
        let pid = Pid::from_child(&self.child);
        // Not reaped yet: until the group is killed, its number must not become another's.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let deadline = Instant::now() + DEADLINE;
        while waitid(WaitId::Pid(pid), options).unwrap().is_none() {
            assert!(Instant::now() < deadline, "{} does not end", self.what);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line that begins so.
    pub(crate) fn wait_for(&mut self, beginning: &str) -> String {
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

impl Drop for Workload {
    fn drop(&mut self) {
        // The whole group: a forking server's children too, whether or not the parent still lives.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

const SOURCES: [(&str, &str); 3] = [
    ("short.h", include_str!("../workloads/short.h")),
    ("short.c", include_str!("../workloads/short.c")),
    ("calls.c", include_str!("../workloads/calls.c")),
];

/// These, compiled once.
pub(crate) fn short() -> &'static Path {
    static SHORT: OnceLock<PathBuf> = OnceLock::new();
    SHORT.get_or_init(|| {
        // Test processes may run side by side: each makes its own, and the last one stays.
        let short = Path::new(env!("CARGO_TARGET_TMPDIR")).join("short");
        let own = short.with_extension(process::id().to_string());
        fs::create_dir_all(&own).unwrap();
        let made = own.join("short");
        for (name, text) in SOURCES {
            fs::write(own.join(name), text).unwrap();
        }
        // Static: a process that is to live a millisecond has no time to look for libraries.
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-static", "-pthread", "-o", "short"]);
        cc.args(SOURCES.map(|(name, _)| name).iter().filter(|name| name.ends_with(".c")));
        let result =
            cc.current_dir(&own).output().unwrap_or_else(|error| panic!("{cc:?}: {error}"));
        assert!(result.status.success(), "{cc:?}\n{}", String::from_utf8_lossy(&result.stderr));
        fs::rename(made, &short).unwrap();
        fs::remove_dir_all(own).unwrap();
        short
    })
}
