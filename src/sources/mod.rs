//! Where bytes are counted: one file for each source.
//!
//! A source reads counters, lets the [environment](crate::environment) resolve the owners at their ends,
//! and hands on shares. It does not know the ledger.

mod baseline;
mod conntrack;
mod dump_policy;
mod ebpf;
mod flow_reading;
mod forwarded;
mod sock_diag;

use std::collections::HashSet;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use foldhash::fast::RandomState;

use crate::attribution::{OwnPipes, Share};
use crate::environment::{Environment, Lists, Looked, WatchError};
use crate::model::traffic::Traffic;
use crate::netns::{NetnsChoice, NetnsKey};
use crate::processes::{Owners, ProcessId};
use crate::recording::Recorder;
use crate::sockets::Inode;
use crate::tracker::Opens;

pub(crate) use crate::model::SourceKind;
pub(crate) use flow_reading::attribute;
pub(crate) use forwarded::Forwarded;

/// The sockets and processes that a source needs at a look.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// The sockets to list.
    pub(crate) lists: Lists,
    /// Sockets whose holders are needed, listed or not.
    pub(crate) inodes: Vec<Inode>,
}

impl Needs {
    /// The needs of both.
    pub(crate) fn and(mut self, other: Needs) -> Needs {
        self.inodes.extend(other.inodes);
        Needs { lists: self.lists.max(other.lists), ..self }
    }
}

/// One look, as passed to a source.
pub(crate) struct Round<'a> {
    pub(crate) environment: &'a mut Environment,
    pub(crate) pipes: &'a OwnPipes,
    /// The time until which this look can wait for the first reading.
    pub(crate) until: Option<Instant>,
    pub(crate) looked: &'a mut Looked,
    /// What the kernel's own sockets have counted of pings so far.
    pub(crate) pings: Traffic,
    /// Receives the shares.
    pub(crate) credit: &'a mut dyn FnMut(&Share, &mut Owners),
}

/// A source of counted bytes.
pub(crate) trait Source: fmt::Debug + Send {
    /// What it needs opened in each namespace beside sockets.
    fn opens(&self) -> Opens {
        Opens::default()
    }

    /// Whether sockets are searched as soon as flows and processes start: they may be gone at the next
    /// look.
    fn searches(&self) -> bool {
        false
    }

    /// Its own descriptors, which become readable when [`Source::drain`] has something to take.
    fn events(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Takes announcements. Returns whether a look is needed.
    fn drain(&mut self) -> bool {
        false
    }

    /// Whether [`Source::drain`] may have something to take without an announcement.
    fn needs_peeks(&self) -> bool {
        false
    }

    /// Records from now on what it reads.
    fn record(&mut self, recorder: &Recorder) {
        let _ = recorder;
    }

    /// Starts the work that continues beside the first looks.
    fn start(&mut self, environment: &mut Environment) {
        let _ = environment;
    }

    /// Reads what has to be read before sockets and processes are listed. `until` is given at the first looks,
    /// which don't wait longer.
    fn prepare(&mut self, until: Option<Instant>) -> Needs;

    /// Reads changes, lets them be resolved, and hands on their shares.
    ///
    /// # Errors
    /// If it can't be read (any more). Shares handed on before remain valid.
    fn poll(&mut self, round: &mut Round<'_>) -> Result<(), WatchError>;

    /// Whether its first reading is not complete yet.
    fn is_reading(&self) -> bool {
        false
    }

    /// Forgets a namespace that is no longer watched.
    fn forget(&mut self, netns: NetnsKey) {
        let _ = netns;
    }

    /// The processes that own sockets or flows which may still bring bytes; `None` if they were not
    /// collected at this look.
    fn referenced(&self) -> Option<&HashSet<ProcessId, RandomState>> {
        None
    }
}

/// Opens a source. With `details` its shares have remote ends.
///
/// # Errors
/// If it can't be opened.
pub(crate) fn open(
    kind: SourceKind,
    choice: NetnsChoice,
    lookback: bool,
    details: bool,
    proc: &Path,
) -> Result<Box<dyn Source>, WatchError> {
    Ok(match kind {
        SourceKind::Conntrack => Box::new(conntrack::source(lookback, details)),
        SourceKind::Sockets => Box::new(sock_diag::source(lookback, details)),
        SourceKind::Ebpf => Box::new(ebpf::Ebpf::open(choice, lookback, details, proc)?),
    })
}
