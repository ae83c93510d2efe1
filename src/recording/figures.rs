//! The result of a refresh in a form that can be compared.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::format::Text;
use crate::model::{Account, Kind, Snapshot};

/// Bytes in and out.
pub type Bytes2 = [u64; 2];

/// All bytes so far, and those since the refresh before.
type Account2 = (Bytes2, Bytes2);

/// Name, kind, bytes and processes of a row.
type RowFigures = (Text, String, Account2, Vec<(u32, u64)>);

/// The figures of a snapshot: all values that the core decides, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// When it was taken, in microseconds since the start of the recording.
    pub at: u64,
    /// The rows.
    pub rows: Vec<RowFigures>,
    /// The reasons of bytes without a process, and the bytes.
    pub unattributed: Vec<(String, Account2)>,
    /// Bytes on no row.
    pub left_out: Account2,
    /// All counted bytes.
    pub counted: Account2,
}

impl Figures {
    /// The figures of a snapshot that was taken `at` this time after the start of the recording.
    pub fn of(snapshot: &Snapshot, at: Duration) -> Figures {
        let mut rows: Vec<_> = snapshot
            .rows
            .iter()
            .map(|row| {
                let mut processes: Vec<_> =
                    row.processes.iter().map(|process| (process.pid, process.start)).collect();
                processes.sort_unstable();
                (Text::from(&*row.name), kind(row.kind).to_owned(), account(row.account), processes)
            })
            .collect();
        rows.sort_unstable();
        let unattributed = snapshot.unattributed.iter();
        let unattributed =
            unattributed.map(|of| (of.reason.name().to_owned(), account(of.account)));
        Figures {
            at: at.as_micros() as u64,
            rows,
            unattributed: unattributed.collect(),
            left_out: account(snapshot.left_out),
            counted: account(snapshot.counted),
        }
    }

    /// All bytes so far of an owner: on rows whose names start with one of these, or, for a text in parentheses,
    /// under that reason.
    pub fn owned(&self, beginnings: &[String]) -> Bytes2 {
        let begins =
            |name: &[u8]| beginnings.iter().any(|begin| name.starts_with(begin.as_bytes()));
        let rows = self.rows.iter().filter(|row| begins(row.0.bytes())).map(|row| row.2.0);
        let is_of = |reason: &str| beginnings.contains(&format!("({reason})"));
        let reasons = self.unattributed.iter().filter(|of| is_of(&of.0)).map(|of| of.1.0);
        sum(rows.chain(reasons))
    }

    /// The sum of rows, reasons and what is left out: all bytes so far, and recent ones.
    pub fn sum(&self) -> (Bytes2, Bytes2) {
        let rows = self.rows.iter().map(|row| row.2);
        let all = rows.chain(self.unattributed.iter().map(|of| of.1)).chain([self.left_out]);
        let all: Vec<Account2> = all.collect();
        (sum(all.iter().map(|of| of.0)), sum(all.iter().map(|of| of.1)))
    }
}

fn sum(bytes: impl Iterator<Item = Bytes2>) -> Bytes2 {
    bytes.fold([0; 2], |sum, bytes| {
        [sum[0].saturating_add(bytes[0]), sum[1].saturating_add(bytes[1])]
    })
}

fn account(account: Account) -> Account2 {
    let [total, recent] = [account.total, account.recent].map(|t| [t.received, t.sent]);
    (total, recent)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Process => "process",
        Kind::Group => "group",
        Kind::Application => "application",
        Kind::Pipe => "pipe",
        Kind::Folded => "folded",
    }
}
