//! What the list shows: the rows of a snapshot, and its bytes without a process.

use crate::model::owner::Reason;
use crate::model::traffic::{Name, Rate, Traffic};
use crate::model::{Attributes, Process, ProcessFacts, Row, Snapshot};

/// What a line of the list stands for, from refresh to refresh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The row of this name.
    Row(Name),
    /// The bytes without a process, for this reason.
    Reason(Reason),
}

/// A line of the list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What it stands for.
    pub key: Key,
    /// The index of its row; none for bytes without a process.
    pub row: Option<usize>,
    /// All its bytes.
    pub total: Traffic,
    /// Bytes per second, over the chosen window.
    pub rate: Rate,
    /// Bytes per second by which rows are put in order.
    pub steady: f64,
    /// Whether it has used any bytes lately.
    pub active: bool,
}

/// What a process has in common with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The name of the program.
    Program,
    /// The path of the executable file.
    Exe,
    /// The effective user.
    User,
    /// The systemd unit.
    Unit,
    /// The container.
    Container,
    /// The Kubernetes pod.
    Pod,
}

impl Fact {
    fn of_attributes(self, of: &Attributes) -> Option<&Name> {
        match self {
            Fact::Program => of.program.as_ref(),
            Fact::Exe => of.exe.as_ref(),
            Fact::User => of.user.as_ref(),
            Fact::Unit => of.unit.as_ref(),
            Fact::Container => of.container.as_ref(),
            Fact::Pod => of.pod.as_ref(),
        }
    }

    fn of_facts(self, of: &ProcessFacts) -> Option<&Name> {
        match self {
            Fact::Program => Some(&of.comm).filter(|comm| !comm.is_empty()),
            Fact::Exe => of.exe.as_ref(),
            Fact::User => of.user.as_ref(),
            Fact::Unit => of.unit.as_ref(),
            Fact::Container => of.container.as_ref(),
            Fact::Pod => of.pod.as_ref(),
        }
    }

    /// This fact of a process.
    pub(super) fn of(self, process: &Process) -> Option<&Name> {
        let attributes = process.attributes.as_deref().and_then(|of| self.of_attributes(of));
        attributes.or_else(|| process.facts.as_deref().and_then(|of| self.of_facts(of)))
    }

    /// All different values on a row: of its processes; if none runs, of those that have ended.
    pub(super) fn all(self, row: &Row) -> Vec<&Name> {
        let running = row.processes.iter().filter_map(|process| self.of(process));
        let mut all: Vec<&Name> = running.collect();
        if row.processes.is_empty() {
            let parts = row.parts.iter().filter_map(|part| part.attributes.as_deref());
            all.extend(parts.filter_map(|of| self.of_attributes(of)));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The pod, container or unit of a process: where it runs.
pub(super) fn place(process: &Process) -> Option<&Name> {
    [Fact::Pod, Fact::Container, Fact::Unit].into_iter().find_map(|fact| fact.of(process))
}

/// All different places on a row.
pub(super) fn places(row: &Row) -> Vec<&Name> {
    let found = [Fact::Pod, Fact::Container, Fact::Unit].map(|fact| fact.all(row));
    found.into_iter().find(|names| !names.is_empty()).unwrap_or_default()
}

/// The lines of a snapshot, without rates and in no order.
pub(super) fn entries(snapshot: &Snapshot, rows: &[Row]) -> Vec<Entry> {
    let entry = |key, row, total| {
        let (rate, steady, active) = Default::default();
        Entry { key, row, total, rate, steady, active }
    };
    let rows = rows.iter().enumerate();
    let rows = rows.map(|(at, row)| entry(Key::Row(row.name.clone()), Some(at), row.account.total));
    let reasons = snapshot.unattributed.iter();
    rows.chain(reasons.map(|of| entry(Key::Reason(of.reason), None, of.account.total))).collect()
}

/// Why bytes have no process, in the words of the manual.
pub(super) fn explanation(reason: Reason) -> &'static str {
    match reason {
        Reason::Forwarded => {
            "Neither end is on this host or in one of its containers. Shown as seen from the side that opened the \
             connection."
        }
        Reason::Exited => {
            "No socket is left at the end that is here, or there never was one, and no process was seen to hold it."
        }
        Reason::NoPermission => {
            "This user may not see the process of the socket. To see all processes, run the program as root."
        }
        Reason::OtherNamespace => {
            "The process of the socket is outside the PID namespace that can be seen. To see it, run the program in the \
             PID namespace of the host."
        }
        Reason::Kernel => {
            "The kernel's own: file systems, tunnels, answers to pings, connections that no program has accepted yet."
        }
        Reason::Ambiguous => {
            "Several processes share the address, and the kernel does not say which one it was."
        }
        Reason::OwnPipe => {
            "A pipe of this program carries them. Its row shows the bytes that it has forwarded."
        }
        Reason::Overflow => {
            "Sockets for which the kernel's table had no room, or whose user had taken too much of it. To make room, \
             start the program again: the table grows with the number of open files."
        }
        Reason::Unread => {
            "The process of the socket is still being read. The bytes move to the process, or to another reason."
        }
    }
}
