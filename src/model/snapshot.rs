//! The result of a refresh: [`Snapshot`], the only value that the outputs get.

use std::ops::{AddAssign, Sub};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::owner::Reason;
use super::traffic::{Name, Rate, Traffic};
use super::{Attributes, Detail, Looked, Notification, Part, ProcessId, SourceKind, name};

/// Bytes used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Account {
    /// All bytes so far, as far back as the source reaches.
    pub total: Traffic,
    /// Bytes since the snapshot before.
    pub recent: Traffic,
}

impl Account {
    /// Whether there are no bytes at all.
    pub const fn is_zero(&self) -> bool {
        self.total.is_zero() && self.recent.is_zero()
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Account) {
        self.total += other.total;
        self.recent += other.recent;
    }
}

impl Sub for Account {
    type Output = Account;
    fn sub(self, other: Account) -> Account {
        Account { total: self.total - other.total, recent: self.recent - other.recent }
    }
}

impl std::iter::Sum for Account {
    fn sum<I: Iterator<Item = Account>>(iter: I) -> Account {
        iter.fold(Account::default(), |mut sum, account| {
            sum += account;
            sum
        })
    }
}

/// What a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Kind {
    /// Processes with the same command line.
    Process,
    /// Processes with the same unit, container, user or program.
    Group,
    /// A configured application: its processes and pipes.
    Application,
    /// A pipe of this program.
    Pipe,
    /// Small rows of ended processes, folded into one.
    Folded,
}

impl Kind {
    /// A stable name, for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Group => "group",
            Kind::Application => "application",
            Kind::Pipe => "pipe",
            Kind::Folded => "folded",
        }
    }
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    /// The pid, in the PID namespace of the procfs that is read.
    pub pid: u32,
    /// Start time, in clock ticks since boot. The kernel reuses pids, so a pid alone identifies no
    /// process.
    pub start: u64,
    /// The command line, unescaped.
    #[serde(skip)]
    pub command_line: Name,
    /// Its bytes on this row.
    #[serde(flatten)]
    pub account: Account,
    /// What it can be grouped by, if that is asked for.
    #[serde(skip)]
    pub attributes: Option<Arc<Attributes>>,
    /// Its remote ends, which add up to `account`; empty if they were not asked for.
    #[serde(skip)]
    pub details: Vec<Detail>,
    /// Further facts of it, if they are asked for.
    #[serde(flatten)]
    pub facts: Option<Arc<ProcessFacts>>,
}

/// Facts of a process beside its pid. What can't be read is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessFacts {
    /// The short name of its program, at most 15 bytes (proc_pid_comm(5)).
    #[serde(serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub comm: Name,
    /// The words of its command line, at most 64 KiB; none for a kernel thread. In memory as in
    /// `/proc/PID/cmdline`, where a NUL byte ends each word: see [`ProcessFacts::words`].
    #[serde(serialize_with = "name::serialize_words")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_words"))]
    pub cmdline: Name,
    /// The path of its executable file, as it was when the program started.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub exe: Option<Name>,
    /// Its effective uid.
    pub uid: Option<u32>,
    /// The name of that user, or the number if it has none.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub user: Option<Name>,
    /// Its systemd unit.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub unit: Option<Name>,
    /// Its container: the name, or the first 12 digits of the id.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub container: Option<Name>,
    /// Its Kubernetes pod: `NAMESPACE/NAME`, or its UID if nothing on this host has its name.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub pod: Option<Name>,
    /// The inode number of its network namespace.
    pub netns: Option<u32>,
}

impl ProcessFacts {
    /// The words of the command line. A title that was written over them may lack the last NUL byte.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        name::words(&self.cmdline)
    }
}

impl Process {
    /// A process without bytes, of which only the pid is known.
    #[cfg(test)]
    pub(crate) fn of(pid: u32) -> Process {
        Process {
            pid,
            start: 0,
            command_line: Name::default(),
            account: Account::default(),
            attributes: None,
            details: Vec::new(),
            facts: None,
        }
    }

    /// The process's identity.
    pub fn id(&self) -> ProcessId {
        ProcessId { start_time: self.start, pid: self.pid }
    }
}

/// A value by which a row was grouped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the rows are grouped by: a value of `--by`.
    pub by: &'static str,
    /// The value; `None` if the bytes have none.
    pub value: Option<Name>,
}

/// A name, and the bytes it has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// The command line, the application or the pipe, unescaped.
    #[serde(serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub name: Name,
    /// What the row shows.
    pub kind: Kind,
    /// Its bytes.
    #[serde(flatten)]
    pub account: Account,
    /// The running processes of this row, in no order.
    pub processes: Vec<Process>,
    /// Its bytes without a running process, if attributes or remote ends are asked for: those of processes that have
    /// ended, by attributes, and those of pipes, by client. What is left of the row's bytes has neither.
    #[serde(skip)]
    pub parts: Vec<Part>,
    /// Its remote ends, which add up to its bytes; empty if they were not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default))]
    pub details: Vec<Detail>,
    /// The values by which the row was grouped, in the order of `--by`; empty if it was not. Serialized, an object.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "by_name")]
    #[cfg_attr(test, schemars(default, schema_with = "group_schema"))]
    pub group: Vec<Group>,
}

impl Row {
    /// A row without bytes.
    pub fn of(name: Name, kind: Kind) -> Row {
        Row {
            name,
            kind,
            account: Account::default(),
            processes: Vec::new(),
            parts: Vec::new(),
            details: Vec::new(),
            group: Vec::new(),
        }
    }
}

/// Bytes without a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unattributed {
    /// Why they have none.
    #[serde(serialize_with = "reason")]
    #[cfg_attr(test, schemars(schema_with = "reason_schema"))]
    pub reason: Reason,
    /// The bytes.
    #[serde(flatten)]
    pub account: Account,
}

/// How well a source could be read since the snapshot before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The source.
    pub source: SourceKind,
    /// What the looks at it found.
    pub looked: Looked,
}

/// The result of a refresh: the bytes that each process, application or pipe has used.
///
/// Every counted byte is in it exactly once: the rows, `unattributed` and `left_out` add up to `counted`, in
/// `total` and in `recent`. `counted.total` never falls: not when processes end, rows are folded, or the
/// configuration changes.
///
/// The reader sorts, cuts, escapes and chooses units.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Number of the snapshot, from 1.
    pub seq: u64,
    /// Wall-clock time at which it was taken.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, schemars(schema_with = "rfc3339_schema"))]
    pub at: Timestamp,
    /// The same moment on the monotonic clock.
    #[serde(skip)]
    pub instant: Instant,
    /// Time since the snapshot before; zero for the first.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// Everything that has used any bytes so far, in no order. No two rows have the same name.
    pub rows: Vec<Row>,
    /// Bytes without a process, for each reason that occurs.
    pub unattributed: Vec<Unattributed>,
    /// Bytes on no row: no monitor selects them, or they belong to a socket of a pipe, whose row shows the bytes
    /// that the pipe has forwarded.
    pub left_out: Account,
    /// All bytes that the sources and the pipes have counted.
    pub counted: Account,
    /// Alerts that fire or resolve with this snapshot.
    pub alerts: Vec<Notification>,
    /// Whether there are more applications than alerts can watch.
    pub alerts_are_crowded: bool,
    /// How well each source could be read. Serialized, an object with a key for each source.
    #[serde(serialize_with = "by_source")]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, Looked>"))]
    pub health: Vec<Health>,
}

impl Snapshot {
    /// Bytes per second since the snapshot before. Outputs take rates from here only.
    pub fn rate(&self, account: &Account) -> Rate {
        account.recent.rate_over(self.elapsed)
    }

    /// Its source: the first one if there are several, none if there are only pipes.
    pub fn source(&self) -> Option<SourceKind> {
        self.health.first().map(|health| health.source)
    }

    /// The sum of the rows, of the unattributed and of what is left out, which equals
    /// [`counted`](Snapshot::counted).
    pub fn sum(&self) -> Account {
        let rows = self.rows.iter().map(|row| row.account);
        let unattributed = self.unattributed.iter().map(|unattributed| unattributed.account);
        rows.chain(unattributed).chain([self.left_out]).sum()
    }
}

/// An empty snapshot.
impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot {
            seq: 0,
            at: Timestamp::UNIX_EPOCH,
            instant: Instant::now(),
            elapsed: Duration::ZERO,
            rows: Vec::new(),
            unattributed: Vec::new(),
            left_out: Account::default(),
            counted: Account::default(),
            alerts: Vec::new(),
            alerts_are_crowded: false,
            health: Vec::new(),
        }
    }
}

fn reason<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

fn by_name<S: Serializer>(group: &[Group], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(group.iter().map(|of| (of.by, of.value.as_deref().map(name::Text))))
}

#[cfg(test)]
fn group_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let value = name::schema_of_optional(generator);
    schemars::json_schema!({ "type": "object", "additionalProperties": value })
}

fn by_source<S: Serializer>(health: &[Health], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(health.iter().map(|of| (of.source.name(), &of.looked)))
}

#[cfg(test)]
fn reason_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names = Reason::ALL.map(Reason::name);
    schemars::json_schema!({ "type": "string", "enum": names })
}

#[cfg(test)]
fn rfc3339_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}

fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
