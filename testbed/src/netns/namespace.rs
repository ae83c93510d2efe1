//! One network namespace.

use std::fmt::Display;
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::output;

/// Where the files that stand for namespaces are.
pub(crate) const NAMESPACES: &str = "/run/netns";

/// One network namespace, deleted when dropped.
pub struct Namespace {
    /// As `ip netns` has it.
    pub name: String,
}

/// What a kernel tells its neighbours by itself, whenever it likes: that it looks for routers, whether anybody has
/// its addresses already, and which groups it has joined. It is the kernel's own traffic, and no test's.
const QUIET: &str = "table inet quiet {
 chain output {
  type filter hook output priority -400
  icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit } drop
  icmpv6 type nd-neighbor-solicit ip6 saddr :: drop
  meta l4proto igmp drop
 }
}
";

impl Namespace {
    /// One for a test: its kernel says nothing by itself.
    pub fn new(name: String) -> Namespace {
        let namespace = Namespace::plain(name);
        namespace.nft(QUIET);
        namespace
    }

    /// One as the kernel makes it, without any rule through which packets would have to go.
    pub fn plain(name: String) -> Namespace {
        let namespace = Namespace { name };
        output(Command::new("ip").args(["netns", "add", &namespace.name]));
        namespace.run("ip link set lo up");
        namespace
    }

    /// One that is somebody else's, who deletes it.
    pub fn existing(name: &str) -> ManuallyDrop<Namespace> {
        ManuallyDrop::new(Namespace { name: name.to_owned() })
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// A command that will run in here. `nsenter` and not `ip netns exec`, which would hide parts
    /// of /sys; it becomes the program, so the child's pid is the program's.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program.as_ref());
        command
    }

    /// What is done in here, on a thread of its own: sockets that it makes belong here.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.path()).unwrap();
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                work()
            });
            working.join().unwrap()
        })
    }

    /// Runs words separated by spaces to their end; what they print.
    pub fn run(&self, words: &str) -> String {
        let mut words = words.split(' ');
        output(self.command(words.next().unwrap()).args(words))
    }

    /// The processes in here.
    pub fn pids(&self) -> Vec<String> {
        let pids = output(Command::new("ip").args(["netns", "pids", &self.name]));
        pids.lines().map(str::to_owned).collect()
    }

    /// Loads an nft script.
    pub fn nft(&self, script: &str) {
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let result = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&result.stderr);
        assert!(result.status.success(), "nft in {} refused\n{script}\n{message}", self.name);
    }

    /// What the namespace is set to.
    pub fn sysctl(&self, key: &str) -> String {
        self.run(&format!("sysctl -n {key}")).trim().to_owned()
    }

    /// Sets it.
    pub fn set_sysctl(&self, key: &str, value: impl Display) {
        output(self.command("sysctl").args(["-q", "-w"]).arg(format!("{key}={value}")));
    }

    /// Turns connection tracking on: its hooks exist in a namespace only while some rule there needs them.
    pub fn track(&self) {
        self.nft(
            "table inet tracking {\n chain input {\n  type filter hook input priority 0\n  \
             ct state new,established accept\n }\n}\n",
        );
    }

    /// Gives an address to a link and turns it on.
    pub fn address(&self, link: &str, address: &str) {
        // Without nodad an IPv6 address is not usable for its first second; without brd an IPv4 address
        // has no broadcast address, which every other tool gives it.
        let flags = if address.contains(':') { " nodad" } else { " brd +" };
        self.run(&format!("ip address add {address} dev {link}{flags}"));
        self.run(&format!("ip link set {link} up"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete_namespace(&self.name);
    }
}

pub(crate) fn delete_namespace(name: &str) {
    // Its own failure must not hide the test's: no assertion, and Drop may not panic.
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}
