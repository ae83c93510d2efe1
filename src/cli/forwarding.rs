//! Shared by the programs that forward.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::messages::Messages;
use super::schedule::seconds;
use crate::listen::ListenError;

/// Interval at which the end of the last connection is checked.
pub(super) const PEEK: Duration = Duration::from_millis(20);

/// The value of `--drain-timeout`.
pub(super) fn drain_timeout(value: &str) -> Result<Duration, String> {
    seconds(value, 0.0)
}

/// Reports how many connections are still `open`.
pub(super) fn say_cut(messages: &Messages, open: usize) {
    let were = if open == 1 { "connection was" } else { "connections were" };
    messages.say(&format!("{open} {were} cut after the drain timeout"));
}

/// Raises the limit of descriptors to the hard limit: a connection takes two, a network namespace
/// ten. The soft limit is usually made for programs that use select(2).
pub(super) fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If that is refused, the limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The message for a port that can't be listened on, with its fix.
pub(super) fn explain(program: &str, error: ListenError) -> anyhow::Error {
    let ListenError::Listen { address, error } = &error else { return error.into() };
    let (port, ip) = (address.port(), address.ip());
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {port} is in use; take another one, or end the program that listens on it \
             (ss -tlnp shows which)"
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "port {port} is privileged; run it as root, or allow it once by: setcap \
             cap_net_bind_service+ep /path/to/{program}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{ip} is no address of this host (ip address shows which are)")
        }
        _ => anyhow::anyhow!("{address} can't be listened on: {error}"),
    }
}
