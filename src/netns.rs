//! Network namespaces: their identity, and how a thread enters one.
//!
//! A netlink socket belongs to the namespace in which it was opened, whatever its program does
//! afterwards. So a thread stays in a namespace only as long as it takes to open sockets there.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use std::os::fd::AsFd;

/// The inode number of a network namespace, as `/proc/PID/ns/net` shows it. The kernel reuses the
/// number once nothing refers to the namespace any more, so it is unique only while something keeps
/// the namespace open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NetnsId(pub u32);

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.0)
    }
}

/// The number under which bwmon watches a network namespace. It is never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NetnsKey(pub u32);

impl NetnsKey {
    /// The namespace in which the program runs.
    pub(crate) const OWN: NetnsKey = NetnsKey(0);
}

/// The network namespaces to watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetnsChoice {
    /// Those of all visible processes.
    #[default]
    All,
    /// The one in which the program runs.
    Own,
}

/// Parses the target of `/proc/PID/ns/net`, such as `net:[4026531833]`.
pub(crate) fn parse(target: &[u8]) -> Option<NetnsId> {
    let digits = target.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(NetnsId)
}

/// The namespace of a process; `process` is a pid, or `self` for the calling process.
///
/// # Errors
/// Those of readlink(2): the process has ended, or the user may not look at it.
pub(crate) fn of(proc: &Path, process: &str) -> io::Result<NetnsId> {
    let target = std::fs::read_link(path(proc, process))?;
    parse(target.as_os_str().as_encoded_bytes()).ok_or(io::ErrorKind::InvalidData.into())
}

fn path(proc: &Path, process: &str) -> PathBuf {
    proc.join(process).join("ns/net")
}

/// Moves this thread alone into the network namespace of a process, for good.
///
/// # Errors
/// As those of [`inside`].
pub(crate) fn enter(proc: &Path, process: &str) -> io::Result<()> {
    let namespace = File::open(path(proc, process))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Runs a function in the network namespace of a process, on a thread of its own.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOENT` if the process has ended.
pub(crate) fn inside<T: Send>(
    proc: &Path,
    process: &str,
    act: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let namespace = File::open(path(proc, process))?;
    thread::scope(|scope| {
        let there = thread::Builder::new().spawn_scoped(scope, || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)?;
            Ok(act())
        })?;
        there.join().unwrap_or_else(|_| Err(io::Error::other("a thread has failed")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_the_number_in_the_link() {
        assert_eq!(parse(b"net:[4026531833]"), Some(NetnsId(4026531833)));
        for other in [&b"mnt:[4026531841]"[..], b"net:[]", b"net:[x]", b"net:[1", b""] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn ones_own_namespace_can_be_looked_at_and_a_missing_process_has_none() {
        let proc = Path::new("/proc");
        let own = of(proc, "self").unwrap();
        assert_eq!(of(proc, &std::process::id().to_string()).unwrap(), own);
        assert!(of(proc, "0").is_err());
        assert!(inside(proc, "0", || ()).is_err());
    }

    /// A privileged thread enters the requested namespace, and no other.
    #[test]
    fn the_thread_is_there_or_a_privilege_is_missing() {
        let proc = Path::new("/proc");
        let there = inside(proc, "self", || of(Path::new("/proc"), "thread-self").unwrap());
        match there {
            Ok(there) => assert_eq!(there, of(proc, "self").unwrap()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
