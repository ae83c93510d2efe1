//! Network namespaces for one test.
//!
//! ```text
//!   Net::new()       watched ──────────────────── peer
//!                    10.77.0.1/24        10.77.0.2/24
//!                    fd77::1/64            fd77::2/64
//!
//!   Net::routed()    peer ────────── watched ────────── far
//!                    10.77.0.2   .0.1   10.77.1.1   10.77.1.2
//!                    (watched is the router and everyone's default gateway; IPv4 only)
//! ```
//!
//! The program under test runs in `watched`. Nothing leaves these namespaces, and their names hold
//! the test process's id and a counter, so tests run side by side and what a killed run left behind
//! can be told and swept.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const WATCHED4: &str = "10.77.0.1";
pub(crate) const PEER4: &str = "10.77.0.2";
pub(crate) const WATCHED6: &str = "fd77::1";
pub(crate) const PEER6: &str = "fd77::2";
pub(crate) const FAR4: &str = "10.77.1.2";

/// The Ethernet addresses of both ends of a pair of links.
const WATCHED_MAC: &str = "02:00:00:00:00:01";
pub(crate) const PEER_MAC: &str = "02:00:00:00:00:02";

const PREFIX: &str = "bwmon-it";
const NAMESPACES: &str = "/run/netns";

/// One network namespace, deleted when dropped.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

/// The link-local address that a kernel makes of a device's own (RFC 4291, appendix A).
fn link_local(mac: &str) -> String {
    let mut bytes: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes[0] ^= 2;
    let words = [[bytes[0], bytes[1]], [bytes[2], 0xff], [0xfe, bytes[3]], [bytes[4], bytes[5]]];
    let words = words.map(|word| format!("{:x}", u16::from_be_bytes(word)));
    format!("fe80::{}", words.join(":"))
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
    pub(crate) fn new(name: String) -> Namespace {
        let namespace = Namespace { name };
        output(Command::new("ip").args(["netns", "add", &namespace.name]));
        namespace.nft(QUIET);
        namespace.run("ip link set lo up");
        namespace
    }

    /// A command that will run in here. `nsenter` and not `ip netns exec`, which would hide parts
    /// of /sys; it becomes the program, so the child's pid is the program's.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMESPACES}/{}", self.name)).arg("--").arg(program.as_ref());
        command
    }

    /// What is done in here, on a thread of its own: sockets that it makes belong here.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("{NAMESPACES}/{}", self.name)).unwrap();
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
    pub(crate) fn run(&self, words: &str) -> String {
        let mut words = words.split(' ');
        output(self.command(words.next().unwrap()).args(words))
    }

    /// The processes in here.
    pub(crate) fn pids(&self) -> Vec<String> {
        let pids = output(Command::new("ip").args(["netns", "pids", &self.name]));
        pids.lines().map(str::to_owned).collect()
    }

    /// Loads an nft script.
    pub(crate) fn nft(&self, script: &str) {
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

    pub(crate) fn sysctl(&self, key: &str) -> String {
        self.run(&format!("sysctl -n {key}")).trim().to_owned()
    }

    pub(crate) fn set_sysctl(&self, key: &str, value: u8) {
        self.run(&format!("sysctl -q -w {key}={value}"));
    }

    pub(crate) fn address(&self, link: &str, address: &str) {
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

/// What a test wants of its namespaces.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// A rule in `watched` that turns connection tracking on.
    pub(crate) tracking: bool,
    /// `nf_conntrack_acct` in `watched`.
    pub(crate) accounting: bool,
    /// The third namespace.
    pub(crate) routed: bool,
    /// No other test's namespaces meanwhile, also not of other test processes.
    pub(crate) alone: bool,
}

/// Who has namespaces now: many tests, or one alone, of all test processes on this host.
struct Turn(File);

impl Turn {
    fn take(alone: bool) -> Turn {
        let kind = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
        let lock = |name: &str| {
            let path = format!("/run/{PREFIX}.{name}");
            let file = File::options().create(true).append(true).open(path).unwrap();
            retry_on_intr(|| flock(&file, kind)).unwrap();
            file
        };
        // While one waits at the gate to be alone, nobody else comes through: else it might wait for ever.
        let gate = lock("gate");
        let turn = Turn(lock("turn"));
        flock(&gate, FlockOperation::Unlock).unwrap();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Not left to the closing: a child that calls no exec yet has a copy.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The namespaces of one test, and a directory that every user may read.
pub(crate) struct Net {
    pub(crate) watched: Namespace,
    pub(crate) peer: Namespace,
    pub(crate) far: Option<Namespace>,
    pub(crate) dir: PathBuf,
    /// A number that no other `Net` of this test process has.
    pub(crate) number: u32,
    _turn: Turn,
}

impl Net {
    /// `watched` and `peer`, with tracking and accounting; `None` where that can't be had.
    pub(crate) fn new() -> Option<Net> {
        Net::with(Setup { tracking: true, accounting: true, routed: false, alone: false })
    }

    /// With `far` behind `watched`.
    pub(crate) fn routed() -> Option<Net> {
        Net::with(Setup { tracking: true, accounting: true, routed: true, alone: false })
    }

    /// As `new`, while no other test on this host has any.
    pub(crate) fn alone() -> Option<Net> {
        Net::with(Setup { tracking: true, accounting: true, routed: false, alone: true })
    }

    pub(crate) fn with(setup: Setup) -> Option<Net> {
        if !are_possible() {
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let turn = Turn::take(setup.alone);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{PREFIX}-{}-{number}", process::id());
        let dir = std::env::temp_dir().join(&id);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let script = dir.join("workload.py");
        fs::write(&script, include_str!("../workloads/workload.py")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();

        let net = Net {
            watched: Namespace::new(format!("{id}-watched")),
            peer: Namespace::new(format!("{id}-peer")),
            far: setup.routed.then(|| Namespace::new(format!("{id}-far"))),
            dir,
            number,
            _turn: turn,
        };
        net.join(&net.peer, "peer");
        net.watched.address("peer", &format!("{WATCHED4}/24"));
        net.peer.address("watched", &format!("{PEER4}/24"));
        if let Some(far) = &net.far {
            net.join(far, "far");
            net.watched.address("far", "10.77.1.1/24");
            far.address("watched", &format!("{FAR4}/24"));
            far.run("ip route add default via 10.77.1.1");
            net.peer.run(&format!("ip route add default via {WATCHED4}"));
            net.watched.set_sysctl("net.ipv4.ip_forward", 1);
        } else {
            net.watched.address("peer", &format!("{WATCHED6}/64"));
            net.peer.address("watched", &format!("{PEER6}/64"));
            // Nobody has to ask where the other one is.
            let [of_peer, of_watched] = [PEER_MAC, WATCHED_MAC].map(link_local);
            for (namespace, address, at, link) in [
                (&net.watched, PEER6, PEER_MAC, "peer"),
                (&net.watched, &of_peer, PEER_MAC, "peer"),
                (&net.peer, WATCHED6, WATCHED_MAC, "watched"),
                (&net.peer, &of_watched, WATCHED_MAC, "watched"),
            ] {
                let neighbour = format!("{address} lladdr {at} dev {link} nud permanent");
                namespace.run(&format!("ip -6 neigh replace {neighbour}"));
            }
        }
        net.watched.set_sysctl("net.netfilter.nf_conntrack_acct", setup.accounting.into());
        if setup.tracking {
            track(&net.watched);
        }
        Some(net)
    }

    /// A pair of links: `link` in `watched`, and `watched` in the other.
    pub(crate) fn join(&self, other: &Namespace, link: &str) {
        // Made at both ends at once: a name of its own in the host's namespace might be taken. The
        // addresses are given because of programs beside which ours is measured: one of them takes a
        // frame to an address that begins with a 4 or a 6 for an IP packet.
        let ends = [(link, &self.watched.name), ("watched", &other.name)];
        let [here, there] = ends.map(|(link, namespace)| ["name", link, "netns", namespace]);
        output(
            Command::new("ip")
                .args(["link", "add", "address", WATCHED_MAC])
                .args(here)
                .args(["type", "veth", "peer", "address", PEER_MAC])
                .args(there),
        );
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Conntrack's hooks exist in a namespace only while some rule there needs them.
pub(crate) fn track(namespace: &Namespace) {
    namespace.nft(
        "table inet tracking {\n chain input {\n  type filter hook input priority 0\n  \
         ct state new,established accept\n }\n}\n",
    );
}

/// Says loudly that a test did not run; a failure where the environment demands that all run.
pub(crate) fn skip(why: &str) {
    skip_or_fail(why, std::env::var_os("BWMON_REQUIRE_NETNS").is_some_and(|value| value == "1"));
}

pub(crate) fn skip_or_fail(why: &str, required: bool) {
    assert!(!required, "SKIPPED, but BWMON_REQUIRE_NETNS=1: {why}");
    // Not eprintln!, which the test runner keeps to itself while a test passes.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {why}");
}

/// Whether there can be namespaces; else it is said.
pub(crate) fn are_possible() -> bool {
    let missing = missing();
    if let Some(why) = missing {
        skip(why);
    }
    missing.is_none()
}

/// Why these tests can't run here, if so. The first call sweeps what dead runs left.
fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING
        .get_or_init(|| {
            if !rustix::process::geteuid().is_root() {
                return Some("needs root".to_owned());
            }
            let mut why = String::new();
            for program in ["ip -V", "nft -v", "conntrack -V", "nsenter -V", "setpriv -V"]
                .into_iter()
                .chain(["/usr/bin/python3 -V", "sysctl -V"])
            {
                let mut words = program.split(' ');
                let name = words.next().unwrap();
                let run = Command::new(name).args(words).output();
                if !run.is_ok_and(|run| run.status.success()) {
                    write!(why, "needs {name}; ").unwrap();
                }
            }
            if !why.is_empty() {
                return Some(why);
            }
            sweep();
            let probe = format!("{PREFIX}-{}-probe", process::id());
            let made = Command::new("ip").args(["netns", "add", &probe]).output().unwrap();
            delete_namespace(&probe);
            (!made.status.success()).then(|| {
                format!("no network namespace: {}", String::from_utf8_lossy(&made.stderr).trim())
            })
        })
        .as_deref()
}

/// Where control groups of tests may be.
const CGROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"];

/// Deletes namespaces, directories and control groups of test processes that are no more.
fn sweep() {
    let dead = |name: &str| {
        name.strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-')?.split('-').next()?.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    for group in CGROUPS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        if group.file_name().to_str().is_some_and(dead) {
            // Those below first; one that somebody is in stays.
            for below in fs::read_dir(group.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(below.path());
            }
            let _ = fs::remove_dir(group.path());
        }
    }
    for folder in [Path::new(NAMESPACES), &std::env::temp_dir()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| dead(name)) else { continue };
            if folder == Path::new(NAMESPACES) {
                delete_namespace(name);
            } else {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn delete_namespace(name: &str) {
    // Its own failure must not hide the test's: no assertion, and Drop may not panic.
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Runs a command that has to work; what it prints.
fn output(command: &mut Command) -> String {
    let result = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        result.status.success(),
        "{command:?} failed, {}\n{}",
        result.status,
        String::from_utf8_lossy(&result.stderr)
    );
    String::from_utf8(result.stdout).unwrap()
}
