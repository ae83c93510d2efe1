//! What a look found beside bytes.

use rustix::io::Errno;
use serde::{Serialize, Serializer};

use super::Unread;

/// What a look found that its user should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Looked {
    /// Flows that were read.
    pub flows: u64,
    /// Flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Messages and lines that could not be read.
    pub malformed: u64,
    /// What was wrong with the first of them.
    pub first_error: Option<String>,
    /// Processes whose descriptors this user may not read.
    pub denied: usize,
    /// Why descriptors could not be read for another reason.
    #[serde(serialize_with = "text_of")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub failed: Option<Errno>,
    /// How often announcements of ended flows or sockets were lost because they came too fast.
    pub lost_ends: u64,
    /// How often announcements of new flows were.
    pub lost_new_flows: u64,
    /// How many reports of processes that began or ended were lost.
    pub lost_processes: u64,
    /// Other network namespaces into which this user may not go.
    pub refused: usize,
    /// Whether a table changed so fast that it could not be read as a whole.
    pub incomplete: bool,
    /// How many sockets there is room for, where some found none.
    pub overflow: Option<usize>,
    /// Whether the kernel counts sockets but keeps its structures to itself
    /// (see [`Reader::reads_kernel`](crate::ebpf::Reader::reads_kernel)).
    pub unread_kernel: bool,
    /// Why what passes through can't be read any more.
    pub forwarded_error: Option<String>,
    /// What of the first reading was not done yet; nothing from then on.
    pub unread: Unread,
}

/// An error as data.
fn text_of<S: Serializer>(errno: &Option<Errno>, serializer: S) -> Result<S::Ok, S::Error> {
    errno.map(|errno| errno.to_string()).serialize(serializer)
}

impl Looked {
    /// What both this look and the next have found: what is lost is lost, what is there is what the next one says.
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
