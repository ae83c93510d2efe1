//! What a refresh comes to: [`Snapshot`], the only thing that leaves the measuring side.

use std::ops::{AddAssign, Sub};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::owner::Reason;
use super::traffic::{Name, Rate, Traffic};
use super::{Looked, Notification, ProcessId, SourceKind, name};

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Account {
    /// All bytes so far, as far back as the source reaches.
    pub total: Traffic,
    /// Those since the snapshot before.
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

/// What stands on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Kind {
    /// Processes of one command line.
    Process,
    /// Processes that have a unit, container, user or program in common.
    Group,
    /// An application of the configuration: processes, and pipes.
    Application,
    /// A pipe of this program.
    Pipe,
    /// What is over and was too small to keep a row of its own.
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

/// A process that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    /// Its number, in the PID namespace of the procfs that is read.
    pub pid: u32,
    /// When it started, in clock ticks since boot: a number alone is used again.
    pub start: u64,
    /// Its command line, raw: as [`ProcessFacts::cmdline`], with spaces between the words.
    #[serde(skip)]
    pub command_line: Name,
    /// What else is known of it, if that was asked for.
    #[serde(flatten)]
    pub facts: Option<Arc<ProcessFacts>>,
}

/// What is known of a process beside its number. What can't be read is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProcessFacts {
    /// The short name of its program, at most 15 bytes (proc_pid_comm(5)).
    #[serde(serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub comm: Name,
    /// The words of its command line, at most 64 KiB of them; none for a kernel thread.
    #[serde(serialize_with = "name::serialize_all")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_all"))]
    pub cmdline: Vec<Name>,
    /// The path of its executable file, as it was when the program began.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub exe: Option<Name>,
    /// The number of its effective user.
    pub uid: Option<u32>,
    /// That user's name, or his number where he has none.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub user: Option<Name>,
    /// The systemd unit that it runs in.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub unit: Option<Name>,
    /// The container that it runs in: the first 12 digits of its id, or its name.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub container: Option<Name>,
    /// The Kubernetes pod that it runs in: `NAMESPACE/NAME`, or its UID where nothing on this host has its name.
    #[serde(serialize_with = "name::serialize_optional")]
    #[cfg_attr(test, schemars(schema_with = "name::schema_of_optional"))]
    pub pod: Option<Name>,
    /// The inode number of its network namespace.
    pub netns: Option<u32>,
}

impl Process {
    /// Who it is.
    pub fn id(&self) -> ProcessId {
        ProcessId { start_time: self.start, pid: self.pid }
    }
}

/// A name, and what it has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// The command line, the application, or the pipe. Raw: nobody has escaped it.
    #[serde(serialize_with = "name::serialize")]
    #[cfg_attr(test, schemars(schema_with = "name::schema"))]
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// All bytes so far, and those since the snapshot before.
    #[serde(flatten)]
    pub account: Account,
    /// The processes that stand here and live, in no order.
    pub processes: Vec<Process>,
}

/// Bytes that have no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unattributed {
    /// Why.
    #[serde(serialize_with = "reason")]
    #[cfg_attr(test, schemars(schema_with = "reason_schema"))]
    pub reason: Reason,
    /// All bytes so far, and those since the snapshot before.
    #[serde(flatten)]
    pub account: Account,
}

/// How well a source could be read since the snapshot before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The source.
    pub source: SourceKind,
    /// What was found.
    pub looked: Looked,
}

/// A refresh: who used the network, and how much.
///
/// Every byte that was counted stands somewhere once: the rows, `unattributed` and `left_out` together are
/// `counted`, in `total` and in `recent`. `counted.total` never falls: not when processes end, when rows are
/// folded, nor when another configuration is taken.
///
/// Order, cutting, escaping and units are the reader's.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Which one it is, from 1.
    pub seq: u64,
    /// When it was taken, for people and databases.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, schemars(schema_with = "rfc3339_schema"))]
    pub at: Timestamp,
    /// The same by the clock that never jumps.
    #[serde(skip)]
    pub instant: Instant,
    /// How long after the snapshot before; none for the first.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub elapsed: Duration,
    /// What has used anything so far, in no order. No two have the same name.
    pub rows: Vec<Row>,
    /// What has no process, for each reason that there is.
    pub unattributed: Vec<Unattributed>,
    /// What stands on no row, because nothing selects it, or because it is a pipe's, which stands on the pipe's row
    /// by what the pipe has forwarded.
    pub left_out: Account,
    /// What the sources and the pipes have counted.
    pub counted: Account,
    /// What there is to be told of alerts.
    pub alerts: Vec<Notification>,
    /// Whether there are more applications than alerts can watch.
    pub alerts_are_crowded: bool,
    /// How well the sources could be read. As data, an object with a key for each source.
    #[serde(serialize_with = "by_source")]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, Looked>"))]
    pub health: Vec<Health>,
}

impl Snapshot {
    /// Bytes per second since the snapshot before. Whoever shows a rate has it from here.
    pub fn rate(&self, account: &Account) -> Rate {
        account.recent.rate_over(self.elapsed)
    }

    /// What the rows, the unattributed and what is left out come to: what was [counted](Snapshot::counted).
    pub fn sum(&self) -> Account {
        let rows = self.rows.iter().map(|row| row.account);
        let unattributed = self.unattributed.iter().map(|unattributed| unattributed.account);
        rows.chain(unattributed).chain([self.left_out]).sum()
    }
}

/// Nothing, before anything was read.
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
