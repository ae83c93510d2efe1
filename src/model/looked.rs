//! The findings of a look beside bytes.

use rustix::io::Errno;
use serde::{Serialize, Serializer};

use super::Unread;

/// What a look found that the user should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Looked {
    /// Number of flows that were read.
    pub flows: u64,
    /// Number of flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Number of messages and lines that could not be decoded.
    pub malformed: u64,
    /// The error of the first of them.
    pub first_error: Option<String>,
    /// Number of processes whose descriptors this user may not read.
    pub denied: usize,
    /// Why descriptors could not be read for another reason.
    #[serde(serialize_with = "text_of")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub failed: Option<Errno>,
    /// Number of times that the kernel dropped announcements of ended flows or sockets.
    pub lost_ends: u64,
    /// Number of times that the kernel dropped announcements of new flows.
    pub lost_new_flows: u64,
    /// Number of process events that were lost.
    pub lost_processes: u64,
    /// Number of other network namespaces that this user may not enter.
    pub refused: usize,
    /// Whether a table changed so fast that it could not be read as a whole.
    pub incomplete: bool,
    /// Capacity of the table of sockets, if some sockets found no slot in it.
    pub overflow: Option<usize>,
    /// Whether the kernel counts sockets but lets no program read its structures (see
    /// [`Reader::reads_kernel`](crate::ebpf::Reader::reads_kernel)).
    pub unread_kernel: bool,
    /// Why forwarded traffic can't be read any more.
    pub forwarded_error: Option<String>,
    /// The part of the first reading that is not done yet.
    pub unread: Unread,
}

/// Serializes an error as its text.
fn text_of<S: Serializer>(errno: &Option<Errno>, serializer: S) -> Result<S::Ok, S::Error> {
    errno.map(|errno| errno.to_string()).serialize(serializer)
}

impl Looked {
    /// Joins the findings of this look and of the next: losses add up, states are those of the
    /// next.
    pub(crate) fn follow(&mut self, next: Looked) {
        let before = std::mem::replace(self, next);
        self.malformed += before.malformed;
        self.first_error = before.first_error.or(self.first_error.take());
        self.failed = self.failed.or(before.failed);
        self.lost_ends += before.lost_ends;
        self.lost_new_flows += before.lost_new_flows;
        self.lost_processes += before.lost_processes;
        self.incomplete |= before.incomplete;
        self.overflow = self.overflow.or(before.overflow);
        self.forwarded_error = before.forwarded_error.or(self.forwarded_error.take());
    }
}
