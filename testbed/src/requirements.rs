//! What tests need that a host may not have: root, programs, protocols of the kernel.

use std::io::Write as _;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::OnceLock;

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketType, socket};

use crate::command::found;
use crate::leftovers::{PREFIX, sweep};
use crate::netns::delete_namespace;
use crate::programs::{PYTHON, short};

/// Says loudly that a test did not run; a failure where the environment demands that all run.
pub fn skip(why: &str) {
    skip_or_fail(why, std::env::var_os("BWMON_REQUIRE_NETNS").is_some_and(|value| value == "1"));
}

pub fn skip_or_fail(why: &str, required: bool) {
    assert!(!required, "SKIPPED, but BWMON_REQUIRE_NETNS=1: {why}");
    // Not eprintln!, which the test runner keeps to itself while a test passes.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: {why}");
}

/// Whether there can be namespaces; else it is said.
pub fn namespaces_are_possible() -> bool {
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
            let programs = ["ip", "nft", "conntrack", "nsenter", "setpriv", "sysctl"];
            let mut missing: Vec<&str> = programs.into_iter().filter(|name| !found(name)).collect();
            if !Path::new(PYTHON).exists() {
                missing.push(PYTHON);
            }
            if !missing.is_empty() {
                return Some(format!("needs {}", missing.join(", ")));
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

/// Newer kernels have given UDP-Lite up.
pub fn udplite_is_missing() -> bool {
    let protocol = Protocol::from_raw(RawProtocol::new(136).unwrap());
    let missing = socket(AddressFamily::INET, SocketType::DGRAM, Some(protocol)).is_err();
    if missing {
        skip("this kernel has no UDP-Lite");
    }
    missing
}

pub fn mptcp_is_missing() -> bool {
    let protocol = Protocol::from_raw(RawProtocol::new(262).unwrap());
    let missing = socket(AddressFamily::INET, SocketType::STREAM, Some(protocol)).is_err();
    if missing {
        skip("this kernel has no MPTCP, or has it turned off");
    }
    missing
}

/// Before 5.16 no rule sees what leaves by a device.
pub fn egress_hook_is_missing() -> bool {
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
pub fn io_uring_is_missing() -> bool {
    let mut probe = Command::new(short());
    probe.args(["probe", "ring", "host=127.0.0.1", "direct"]);
    let result = probe.stdin(Stdio::null()).output().unwrap();
    if !result.status.success() {
        skip(&format!("no io_uring: {}", String::from_utf8_lossy(&result.stderr).trim()));
    }
    !result.status.success()
}
