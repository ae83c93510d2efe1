//! The rows of a snapshot while they are added up.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Account, Kind, Process, Row};
use crate::model::traffic::Name;

/// Adds up the accounts of one name, whichever source counted them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    places: HashMap<Name, usize, RandomState>,
    rows: Vec<Row>,
}

impl Rows {
    /// Adds to the row of that name. The first caller decides the kind of the row.
    pub(crate) fn add(&mut self, name: &Name, kind: Kind, account: Account) -> &mut Row {
        let place = *self.places.entry(name.clone()).or_insert(self.rows.len());
        if place == self.rows.len() {
            let (name, account) = (name.clone(), Account::default());
            self.rows.push(Row { name, kind, account, processes: Vec::new() });
        }
        let row = &mut self.rows[place];
        row.account += account;
        row
    }

    /// The processes on the rows.
    pub(crate) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.rows.iter_mut().flat_map(|row| &mut row.processes)
    }

    /// The rows that have any bytes.
    pub(crate) fn finish(self) -> Vec<Row> {
        let mut rows = self.rows;
        rows.retain(|row| !row.account.is_zero());
        rows
    }
}
