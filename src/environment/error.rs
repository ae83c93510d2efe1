//! Why nothing could be observed.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::conntrack;
use crate::ebpf;
use crate::model::Looked;
use crate::netlink::NetlinkError;
use crate::sockets;

/// Why nothing could be observed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Connection tracking can't be read.
    #[error("{error}{mend}", error = .0, mend = mend(.0))]
    Conntrack(conntrack::ReadError),
    /// Sockets can't be listed.
    #[error(transparent)]
    Sockets(#[from] sockets::ReadError),
    /// Sockets are listed without their counters.
    #[error("sock_diag is refused, and without it the kernel doesn't tell what a socket carried")]
    NoCounters,
    /// The addresses of this host can't be listed.
    #[error("the addresses of this host can't be listed: {0}")]
    Addresses(NetlinkError),
    /// Sockets can't be counted in the kernel.
    #[error("source ebpf: {0}")]
    Ebpf(ebpf::OpenError),
    /// The recording can't be written.
    #[error("the recording can't be written: {path}: {error}", path = .path.display())]
    Record {
        /// Where it should be.
        path: PathBuf,
        /// What writing it brought.
        error: std::io::Error,
    },
    /// There is no procfs.
    #[error("{path}: {errno}{mend}", mend = proc_mend(*.errno, .path))]
    Proc {
        /// Where it should be.
        path: String,
        /// What opening or listing it brought.
        errno: Errno,
    },
}

fn mend(error: &conntrack::ReadError) -> &'static str {
    if error.is_permission() { "; to mend it: run it as root (CAP_NET_ADMIN)" } else { "" }
}

/// What helps where procfs can't be read, if anything does.
fn proc_mend(errno: Errno, path: &str) -> String {
    match errno {
        Errno::NOENT | Errno::NOTDIR => format!(" (mount it: mount -t proc proc {path})"),
        Errno::MFILE => " (allow more open files: ulimit -n)".to_owned(),
        _ => String::new(),
    }
}

// Not the source of the error, but all of it: it would be told twice.
impl From<conntrack::ReadError> for WatchError {
    fn from(error: conntrack::ReadError) -> WatchError {
        WatchError::Conntrack(error)
    }
}

pub(crate) fn no_proc(path: &Path, errno: Errno) -> WatchError {
    WatchError::Proc { path: path.display().to_string(), errno }
}

impl Looked {
    /// Adds what a reading of a table of flows found.
    pub(crate) fn add_table(&mut self, read: conntrack::Table) {
        self.malformed += read.malformed;
        self.first_error = self.first_error.take().or(read.first_error);
        self.lost_ends += read.lost;
    }
}
