//! What programs that forward have in common.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::messages::Messages;
use super::schedule::seconds;
use crate::listen::ListenError;

/// How often it is looked whether the last connection has ended.
pub(super) const PEEK: Duration = Duration::from_millis(20);

/// The value of `--drain-timeout`.
pub(super) fn drain_timeout(value: &str) -> Result<Duration, String> {
    seconds(value, 0.0)
}

/// Says how many connections are `open` after it.
pub(super) fn say_cut(messages: &Messages, open: usize) {
    let were = if open == 1 { "connection was" } else { "connections were" };
    messages.say(&format!("{open} {were} cut after the drain timeout"));
}

/// As many descriptors as the administrator allows: a connection takes two, a network namespace ten,
/// and programs start with a limit made for those that ask select(2).
pub(super) fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where that is refused, the limit is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// What can't be listened on, and what would mend it.
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
