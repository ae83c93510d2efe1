//! Where bytes are counted: one file for each source.
//!
//! A source reads counters, lets the [environment](crate::environment) resolve who is at their ends, and
//! hands shares on. It knows no ledger.

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

/// What a source needs of a look at sockets and processes.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Which sockets are to be listed.
    pub(crate) lists: Lists,
    /// Sockets whose holders matter, listed or not.
    pub(crate) inodes: Vec<Inode>,
}

impl Needs {
    /// What both need.
    pub(crate) fn and(mut self, other: Needs) -> Needs {
        self.inodes.extend(other.inodes);
        Needs { lists: self.lists.max(other.lists), ..self }
    }
}

/// One look, as a source takes part in it.
pub(crate) struct Round<'a> {
    pub(crate) environment: &'a mut Environment,
    pub(crate) pipes: &'a OwnPipes,
    /// Until when this look can wait for what takes long at the start.
    pub(crate) until: Option<Instant>,
    pub(crate) looked: &'a mut Looked,
    /// What the kernel's own sockets have counted of pings so far.
    pub(crate) pings: Traffic,
    /// Takes the shares.
    pub(crate) credit: &'a mut dyn FnMut(&Share, &mut Owners),
}

/// Something that counts bytes.
pub(crate) trait Source: fmt::Debug + Send {
    /// What it needs opened in each namespace beside sockets.
    fn opens(&self) -> Opens {
        Opens::default()
    }

    /// Whether sockets are to be looked for as soon as flows and processes begin: they may be gone at the
    /// next look.
    fn searches(&self) -> bool {
        false
    }

    /// Descriptors of its own that become readable when there is something for [`Source::drain`].
    fn events(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Takes what was announced since the last time. Returns whether it is time for a look.
    fn drain(&mut self) -> bool {
        false
    }

    /// Whether there is something to drain that nothing announces.
    fn needs_peeks(&self) -> bool {
        false
    }

    /// From now on what it reads is recorded.
    fn record(&mut self, recorder: &Recorder) {
        let _ = recorder;
    }

    /// Begins what goes on beside the first looks.
    fn start(&mut self, environment: &mut Environment) {
        let _ = environment;
    }

    /// Reads what has to be read before sockets and processes are listed. With `until` this is one of the first
    /// looks, which don't wait.
    fn prepare(&mut self, until: Option<Instant>) -> Needs;

    /// Reads what has changed, has it resolved, and hands its shares on.
    ///
    /// # Errors
    /// If it can't be read (any more). What was handed on before stays right.
    fn poll(&mut self, round: &mut Round<'_>) -> Result<(), WatchError>;

    /// Whether it has not read all that it reads at the start.
    fn is_reading(&self) -> bool {
        false
    }

    /// A namespace is not watched any more.
    fn forget(&mut self, netns: NetnsKey) {
        let _ = netns;
    }

    /// The processes to which something belongs that may still bring bytes; `None` if that was not gathered
    /// at this look.
    fn referenced(&self) -> Option<&HashSet<ProcessId, RandomState>> {
        None
    }
}

/// Opens a source.
///
/// # Errors
/// If it can't be had.
pub(crate) fn open(
    kind: SourceKind,
    choice: NetnsChoice,
    lookback: bool,
    proc: &Path,
) -> Result<Box<dyn Source>, WatchError> {
    Ok(match kind {
        SourceKind::Conntrack => Box::new(conntrack::source(lookback)),
        SourceKind::Sockets => Box::new(sock_diag::source(lookback)),
        SourceKind::Ebpf => Box::new(ebpf::Ebpf::open(choice, lookback, proc)?),
    })
}
