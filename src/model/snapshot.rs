//! What a refresh comes to: [`Snapshot`], the only thing that leaves the measuring side.

use std::ops::{AddAssign, Sub};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::owner::Reason;
use super::traffic::{Name, Rate, Traffic};
use super::{Looked, Notification, ProcessId, SourceKind, name};

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

/// A process that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number, in the PID namespace of the procfs that is read.
    pub pid: u32,
    /// When it started, in clock ticks since boot: a number alone is used again.
    pub start: u64,
    /// Its command line, raw.
    #[serde(serialize_with = "name::serialize")]
    pub command_line: Name,
}

impl Process {
    /// Who it is.
    pub fn id(&self) -> ProcessId {
        ProcessId { start_time: self.start, pid: self.pid }
    }
}

/// A name, and what it has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The command line, the application, or the pipe. Raw: nobody has escaped it.
    #[serde(serialize_with = "name::serialize")]
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
pub struct Unattributed {
    /// Why.
    #[serde(serialize_with = "reason")]
    pub reason: Reason,
    /// All bytes so far, and those since the snapshot before.
    #[serde(flatten)]
    pub account: Account,
}

/// How well a source could be read since the snapshot before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The source.
    #[serde(serialize_with = "source")]
    pub source: SourceKind,
    /// What was found.
    #[serde(flatten)]
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
pub struct Snapshot {
    /// Which one it is, from 1.
    pub seq: u64,
    /// When it was taken, for people and databases.
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    /// The same by the clock that never jumps.
    #[serde(skip)]
    pub instant: Instant,
    /// How long after the snapshot before; none for the first.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
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
    /// The sources.
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

fn source<S: Serializer>(source: &SourceKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(source.name())
}

fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
