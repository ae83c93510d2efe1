//! Errors of looks at the kernel.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::conntrack;
use crate::ebpf;
use crate::model::Looked;
use crate::netlink::NetlinkError;
use crate::sockets;

/// Why traffic can't be observed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Connection tracking can't be read.
    #[error("{error}{mend}", error = .0, mend = mend(.0))]
    Conntrack(conntrack::ReadError),
    /// Sockets can't be listed.
    #[error(transparent)]
    Sockets(#[from] sockets::ReadError),
    /// Sockets are listed without counters.
    #[error("sock_diag is refused, and without it the kernel doesn't tell what a socket carried")]
    NoCounters,
    /// The addresses of this host can't be listed.
    #[error("the addresses of this host can't be listed: {0}")]
    Addresses(NetlinkError),
    /// Programs that count sockets can't be loaded.
    #[error("source ebpf: {0}")]
    Ebpf(ebpf::OpenError),
    /// The recording can't be written.
    #[error("the recording can't be written: {path}: {error}", path = .path.display())]
    Record {
        /// Its path.
        path: PathBuf,
        /// The error of writing it.
        error: std::io::Error,
    },
    /// There is no procfs.
    #[error("{path}: {errno}{mend}", mend = proc_mend(*.errno, .path))]
    Proc {
        /// Its path.
        path: String,
        /// The error of opening or listing it.
        errno: Errno,
    },
}

fn mend(error: &conntrack::ReadError) -> &'static str {
    if error.is_permission() { "; to mend it: run it as root (CAP_NET_ADMIN)" } else { "" }
}

/// The fix if procfs can't be read, if there is one.
fn proc_mend(errno: Errno, path: &str) -> String {
    match errno {
        Errno::NOENT | Errno::NOTDIR => format!(" (mount it: mount -t proc proc {path})"),
        Errno::MFILE => " (allow more open files: ulimit -n)".to_owned(),
        _ => String::new(),
    }
}

// The error is all of the message, and not its source: otherwise it would appear twice.
impl From<conntrack::ReadError> for WatchError {
    fn from(error: conntrack::ReadError) -> WatchError {
        WatchError::Conntrack(error)
    }
}

pub(crate) fn no_proc(path: &Path, errno: Errno) -> WatchError {
    WatchError::Proc { path: path.display().to_string(), errno }
}

impl Looked {
    /// Adds the findings of a reading of a table of flows.
    pub(crate) fn add_table(&mut self, read: conntrack::Table) {
        self.malformed += read.malformed;
        self.first_error = self.first_error.take().or(read.first_error);
        self.lost_ends += read.lost;
    }
}
