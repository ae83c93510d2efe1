//! A snapshot while it is composed.

use std::time::Duration;

use crate::ledger::Ledger;
use crate::model::owner::Reason;
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Detail, Health, Kind, Part, Process, Rows, Snapshot, Unattributed};
use crate::processes::FactsReader;

use super::Moment;

/// The parts of a snapshot so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) elapsed: Duration,
    rows: Rows,
    unattributed: [Account; Reason::ALL.len()],
    left_out: Account,
    counted: Account,
    health: Vec<Health>,
    /// Whether rows have remote ends.
    has_details: bool,
}

impl Draft {
    /// The result of a refresh of the ledger that ends at this moment.
    pub(crate) fn of_ledger(ledger: &mut Ledger, moment: Moment) -> Draft {
        ledger.end(moment.instant);
        let mut draft = Draft::default();
        draft.add_ledger(ledger);
        draft
    }

    /// Adds the result of the ledger's last refresh.
    pub(crate) fn add_ledger(&mut self, ledger: &Ledger) {
        self.elapsed = self.elapsed.max(ledger.elapsed());
        ledger.add_rows(&mut self.rows);
        self.has_details |= ledger.has_details();
        for Unattributed { reason, account } in ledger.unattributed() {
            self.unattributed[reason.index()] += account;
        }
        self.left_out += ledger.left_out();
        self.counted += ledger.counted();
    }

    /// Adds facts of processes that have none yet.
    pub(crate) fn add_facts(&mut self, facts: &mut FactsReader) {
        facts.begin();
        let unknown = |process: &&mut Process| process.facts.is_none();
        self.rows.processes_mut().filter(unknown).for_each(|process| facts.add_to(process));
    }

    /// Adds how well a source could be read.
    pub(crate) fn add_health(&mut self, health: Health) {
        self.health.push(health);
    }

    /// Adds the bytes that a pipe forwarded in `time`; zero means that the time is unknown. `clients` has those of
    /// each client, if they are counted.
    pub(crate) fn add_pipe(
        &mut self,
        name: &Name,
        kind: Kind,
        account: Account,
        mut clients: Vec<Detail>,
        time: Duration,
    ) {
        let known = |account: Account| match time.is_zero() {
            true => Account { recent: Traffic::ZERO, ..account },
            false => account,
        };
        let account = known(account);
        clients.iter_mut().for_each(|client| client.account = known(client.account));
        self.elapsed = self.elapsed.max(time);
        let row = self.rows.add(name, kind, account);
        if !clients.is_empty() {
            self.has_details = true;
            row.parts.push(Part { attributes: None, account, details: clients });
        }
        self.counted += account;
    }

    /// Finishes the snapshot, without alerts. Bytes of the pipes' own sockets are left out: the
    /// rows of the pipes have what they forwarded.
    pub(crate) fn finish(mut self, seq: u64, moment: Moment) -> Snapshot {
        self.left_out += std::mem::take(&mut self.unattributed[Reason::OwnPipe.index()]);
        let unattributed = Reason::ALL.into_iter().zip(self.unattributed);
        let snapshot = Snapshot {
            seq,
            at: moment.at,
            instant: moment.instant,
            elapsed: self.elapsed,
            rows: self.rows.finish(self.has_details),
            unattributed: unattributed
                .map(|(reason, account)| Unattributed { reason, account })
                .filter(|unattributed| !unattributed.account.is_zero())
                .collect(),
            left_out: self.left_out,
            counted: self.counted,
            alerts: Vec::new(),
            alerts_are_crowded: false,
            health: self.health,
        };
        // What the ledgers and pipes counted, and what the rows have.
        debug_assert_eq!(snapshot.sum(), snapshot.counted, "bytes are lost or stand twice");
        snapshot
    }
}
