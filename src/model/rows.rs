//! The rows of a snapshot while they are added up.

use std::cmp::Reverse;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Account, Detail, Kind, Process, Remote, Row};
use crate::model::traffic::Name;

/// Adds up the accounts of one name, whichever source counted them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    places: HashMap<Name, usize, RandomState>,
    rows: Vec<Row>,
}

impl Rows {
    /// Makes room for this number of further rows, and not for more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.places.reserve(count);
        self.rows.reserve_exact(count);
    }

    /// Adds to the row of that name. The first caller decides the kind of the row.
    pub(crate) fn add(&mut self, name: &Name, kind: Kind, account: Account) -> &mut Row {
        let place = *self.places.entry(name.clone()).or_insert(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(Row::of(name.clone(), kind));
        }
        let row = &mut self.rows[place];
        row.account += account;
        row
    }

    /// The processes on the rows.
    pub(crate) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.rows.iter_mut().flat_map(|row| &mut row.processes)
    }

    /// The rows that have any bytes, with their remote ends if they have `details`.
    pub(crate) fn finish(self, details: bool) -> Vec<Row> {
        let mut rows = self.rows;
        rows.retain(|row| !row.account.is_zero());
        if details {
            rows.iter_mut().for_each(add_details);
        }
        rows
    }
}

/// Remote ends that a row lists, and as many services. The rest of its bytes is in a sum.
const MOST: usize = 256;

/// Adds up the remote ends of a row's parts.
fn add_details(row: &mut Row) {
    let of_processes = row.processes.iter().flat_map(|process| &process.details);
    let of_parts = row.parts.iter().flat_map(|part| &part.details);
    let mut sums: HashMap<Remote, Account, RandomState> = HashMap::default();
    let mut rest = row.account;
    for Detail { remote, account } in of_processes.chain(of_parts) {
        if let Some(remote) = remote {
            *sums.entry(*remote).or_default() += *account;
            rest = rest - *account;
        }
    }
    let mut listed: Vec<Detail> = sums
        .into_iter()
        .map(|(remote, account)| Detail { remote: Some(remote), account })
        .collect();
    if listed.len() > MOST {
        listed.sort_unstable_by_key(|detail| Reverse(detail.account.total.total()));
        // Connections to one service join each other.
        let mut services: HashMap<Remote, Account, RandomState> = HashMap::default();
        for Detail { remote, account } in listed.drain(MOST..) {
            match remote.and_then(Remote::service) {
                Some(service) if services.len() < MOST || services.contains_key(&service) => {
                    *services.entry(service).or_default() += account;
                }
                _ => rest += account,
            }
        }
        for detail in &mut listed {
            if let Some(more) = detail.remote.and_then(|remote| services.remove(&remote)) {
                detail.account += more;
            }
        }
        let services = services.into_iter();
        listed.extend(services.map(|(remote, account)| Detail { remote: Some(remote), account }));
    }
    if !rest.is_zero() {
        listed.push(Detail { remote: None, account: rest });
    }
    row.details = listed;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::{Address, Endpoint, Protocol};
    use crate::model::traffic::Traffic;
    use crate::model::{Interface, Part};

    fn detail(port: u16, bytes: u64) -> Detail {
        let remote = Endpoint::new(Address::ANY_V4, port);
        let protocol = Protocol::TCP;
        let remote = Remote { protocol, local_port: 1, remote, interface: Interface::LOOPBACK };
        let account = Account { total: Traffic::new(bytes, 0), recent: Traffic::ZERO };
        Detail { remote: Some(remote), account }
    }

    #[test]
    fn the_remote_ends_of_a_row_add_up_to_its_bytes() {
        let ports = 1..=MOST as u16 + 5;
        let (one, two) = (ports.clone().map(|port| detail(port, 10)), [detail(1, 7)]);
        let mut rows = Rows::default();
        let all = Account { total: Traffic::new(10_000, 0), recent: Traffic::ZERO };
        let row = rows.add(&Name::from(*b"x"), Kind::Process, all);
        row.processes.push(Process { details: one.collect(), ..Process::of(1) });
        row.parts.push(Part { details: two.to_vec(), ..Part::default() });
        let row = rows.finish(true).remove(0);
        assert_eq!(row.details.iter().map(|of| of.account).sum::<Account>(), all);
        assert_eq!((row.details.len(), row.details[0]), (MOST + 1, detail(1, 17)));
        assert_eq!(row.details[MOST].remote, None);
    }

    #[test]
    fn connections_to_one_service_join_each_other() {
        let ports = 40_000..40_000 + 2 * MOST as u16;
        let all = Account { total: Traffic::new(20 * MOST as u64, 0), recent: Traffic::ZERO };
        let mut rows = Rows::default();
        let row = rows.add(&Name::from(*b"x"), Kind::Process, all);
        let details = ports.map(|port| detail(port, 10)).collect();
        row.processes.push(Process { details, ..Process::of(1) });
        let row = rows.finish(true).remove(0);
        assert_eq!(row.details.iter().map(|of| of.account).sum::<Account>(), all);
        assert_eq!((row.details.len(), row.details[MOST]), (MOST + 1, detail(0, 10 * MOST as u64)));
    }
}
