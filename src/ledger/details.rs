//! The bytes of remote ends, in bounded memory.

use super::{Both, Map};
use crate::attribution::Share;
use crate::model::traffic::Traffic;
use crate::model::{Account, Detail, Remote};
use crate::selection::Selected;

/// Remote ends of a process, or of ended ones with the same attributes. The rest of their bytes is in a sum.
pub(crate) const MOST_OF_ONE: usize = 256;

/// Remote ends of all of them.
pub(crate) const MOST: usize = 1 << 16;

/// Number of remote ends that a set keeps at least when there are many sets.
const LEAST_OF_ONE: usize = 8;

/// A remote end, and whether the flow never left this host.
type Key = (Remote, bool);

/// The bytes of remote ends. They add up to all that was credited.
#[derive(Debug, Default)]
pub(super) struct Details {
    listed: Map<Key, Account>,
    others: Both,
}

/// The remote end of all connections to the same service; `None` if there is none.
fn without_port((remote, local): Key) -> Option<Key> {
    Some((remote.service()?, local))
}

/// The remaining room for remote ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// All remote ends that are listed.
    pub(super) listed: usize,
    /// Number of sets, as of the last refresh.
    pub(super) sets: usize,
}

impl Room {
    /// Maximum of remote ends of one set.
    fn of_one(&self) -> usize {
        (MOST / self.sets.max(1)).clamp(LEAST_OF_ONE, MOST_OF_ONE)
    }
}

impl Details {
    /// Number of listed remote ends.
    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }

    /// Adds the bytes of a share.
    pub(super) fn credit(&mut self, share: &Share, room: &mut Room) {
        let account = Account { total: share.traffic, recent: share.recent };
        match share.remote {
            Some(remote) => self.add((remote, share.local), account, room.of_one(), room),
            None => self.others.credit(share),
        }
    }

    /// Adds bytes of a remote end. If there are `most`, or too many of all, those of connections to one service join each
    /// other, and of these too there may be as many.
    fn add(&mut self, key: Key, account: Account, most: usize, room: &mut Room) {
        if let Some(known) = self.listed.get_mut(&key) {
            *known += account;
        } else if self.listed.len() < most && room.listed < MOST {
            room.listed += 1;
            self.listed.insert(key, account);
        } else {
            self.join(key, account, room);
        }
    }

    /// Adds bytes of a remote end to those of the same service, or to the others.
    fn join(&mut self, key: Key, account: Account, room: &mut Room) {
        match without_port(key) {
            Some(service) => self.add(service, account, 2 * room.of_one(), room),
            None => *self.others.place(key.1) += account,
        }
    }

    /// Starts a refresh. A full set makes room: remote ends that had no bytes in the refresh before join the others,
    /// those with the fewest bytes first.
    pub(super) fn begin(&mut self, room: &mut Room) {
        let most = room.of_one();
        if self.listed.len() >= most || room.listed >= MOST {
            let mut idle: Vec<(bool, u64, Key)> = self
                .listed
                .iter()
                .filter(|(_, account)| account.recent.is_zero())
                .map(|(key, account)| (without_port(*key).is_none(), account.total.total(), *key))
                .collect();
            // Services last.
            idle.sort_unstable();
            let count = self.listed.len().saturating_sub(most / 2).min(idle.len());
            for (.., key) in idle.into_iter().take(count) {
                if let Some(account) = self.listed.remove(&key) {
                    room.listed -= 1;
                    self.join(key, account, room);
                }
            }
            self.listed.shrink_to(most);
        }
        self.listed.values_mut().for_each(|account| account.recent = Traffic::ZERO);
        self.others.begin();
    }

    /// Adds the bytes of another set, as far as there is room; what there is none for joins the others.
    pub(super) fn absorb(&mut self, other: Details, room: &mut Room) {
        room.listed -= other.listed.len();
        self.others.add(other.others);
        for (key, account) in other.listed {
            self.add(key, account, room.of_one(), room);
        }
    }

    /// Drops what is not selected.
    pub(super) fn select(&mut self, selected: Selected, room: &mut Room) {
        let is_selected = |local: bool| if local { selected.local } else { selected.remote };
        let before = self.listed.len();
        self.listed.retain(|(_, local), _| is_selected(*local));
        room.listed -= before - self.listed.len();
        for local in [false, true].into_iter().filter(|local| !is_selected(*local)) {
            *self.others.place(local) = Account::default();
        }
    }

    /// The remote ends of the selected bytes, in no order, and the sum of the others.
    pub(super) fn selected(
        &self,
        selected: Selected,
        timed: impl Fn(Account) -> Account,
    ) -> Vec<Detail> {
        let is_selected = |local: bool| if local { selected.local } else { selected.remote };
        let listed = self.listed.iter().filter(|((_, local), _)| is_selected(*local));
        let listed = listed.map(|((remote, _), account)| (Some(*remote), *account));
        let others = [(None, self.others.selected(selected))];
        listed
            .chain(others)
            .map(|(remote, account)| Detail { remote, account: timed(account) })
            .filter(|detail| !detail.account.is_zero())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::{Address, Endpoint, Protocol};
    use crate::model::owner::Owner;
    use crate::model::{Interface, ProcessId};

    /// A port of a client.
    const EPHEMERAL: u16 = 32768;

    const NEW: Room = Room { listed: 0, sets: 1 };

    fn remote(port: u16) -> Remote {
        let remote = Endpoint::new(Address::from_v4([192, 0, 2, 1]), port);
        Remote { protocol: Protocol::UDP, local_port: 1, remote, interface: Interface::UNKNOWN }
    }

    fn share(port: u16, bytes: u64, local: bool) -> Share {
        let traffic = Traffic::new(bytes, 2 * bytes);
        let to = Owner::Process(ProcessId { start_time: 1, pid: 1 });
        Share { to, traffic, recent: traffic, from: None, local, remote: Some(remote(port)) }
    }

    fn sum(details: &Details, selected: Selected) -> Account {
        details.selected(selected, |account| account).iter().map(|of| of.account).sum()
    }

    #[test]
    fn what_has_no_room_is_in_the_sum_of_the_others() {
        let (mut details, mut room) = (Details::default(), NEW);
        let ports = 1..=(MOST_OF_ONE as u16 + 10);
        ports.for_each(|port| details.credit(&share(port, u64::from(port), false), &mut room));
        assert_eq!((details.len(), room.listed), (MOST_OF_ONE, MOST_OF_ONE));
        let all: u64 = (1..=MOST_OF_ONE as u64 + 10).sum();
        assert_eq!(sum(&details, Selected::ALL).total, Traffic::new(all, 2 * all));
        let others = details.selected(Selected::ALL, |account| account);
        let others: Vec<_> = others.iter().filter(|of| of.remote.is_none()).collect();
        assert_eq!(others.len(), 1);
        // Nothing was idle: all stay.
        details.begin(&mut room);
        assert_eq!(details.len(), MOST_OF_ONE);
        // Now they are, but for one. The smallest go.
        details.credit(&share(1, 5, false), &mut room);
        details.begin(&mut room);
        assert_eq!((details.len(), room.listed), (MOST_OF_ONE / 2, MOST_OF_ONE / 2));
        assert!(details.listed.contains_key(&(remote(1), false)));
        assert!(details.listed.contains_key(&(remote(MOST_OF_ONE as u16), false)));
        assert_eq!(sum(&details, Selected::ALL).total, Traffic::new(all + 5, 2 * (all + 5)));
        assert!(sum(&details, Selected::ALL).recent.is_zero());
    }

    #[test]
    fn connections_to_one_service_join_each_other_first() {
        let (mut details, mut room) = (Details::default(), NEW);
        let connection = |port| {
            let remote = Remote { local_port: port, ..remote(443) };
            Share { remote: Some(remote), ..share(443, 10, false) }
        };
        let count = 3 * MOST_OF_ONE as u16;
        (0..count).for_each(|at| details.credit(&connection(EPHEMERAL + at), &mut room));
        assert_eq!(details.len(), MOST_OF_ONE + 1);
        let joined = Remote { local_port: 0, ..remote(443) };
        let sum = |details: &Details| details.listed[&(joined, false)].total.received;
        assert_eq!(sum(&details), 10 * u64::from(count - MOST_OF_ONE as u16));
        assert!(details.others.all().is_zero());
        // Those that are silent join them as well.
        (0..2).for_each(|_| details.begin(&mut room));
        assert_eq!((details.len(), room.listed), (MOST_OF_ONE / 2, MOST_OF_ONE / 2));
        assert!(details.others.all().is_zero());
        // The same from the server's side.
        let accepted = Remote { local_port: 80, ..remote(50_000) };
        let (joined, _) = without_port((accepted, true)).unwrap();
        assert_eq!((joined.local_port, joined.remote.port), (80, 0));
        assert_eq!(without_port((joined, true)), None);
    }

    #[test]
    fn sets_that_are_many_are_small() {
        let (mut details, mut room) = (Details::default(), Room { listed: 0, sets: MOST });
        (1..100).for_each(|port| details.credit(&share(port, 1, false), &mut room));
        assert_eq!(details.len(), LEAST_OF_ONE);
        let mut full = Room { listed: MOST, sets: 1 };
        let mut other = Details::default();
        other.credit(&share(1, 1, false), &mut full);
        assert_eq!((other.len(), sum(&other, Selected::ALL).total), (0, Traffic::new(1, 2)));
    }

    #[test]
    fn local_bytes_are_selected_by_themselves_and_nothing_is_lost_when_sets_are_joined() {
        let (mut one, mut two, mut room) = (Details::default(), Details::default(), NEW);
        one.credit(&share(1, 10, true), &mut room);
        one.credit(&share(1, 20, false), &mut room);
        two.credit(&share(1, 1, false), &mut room);
        two.credit(&share(2, 5, false), &mut room);
        two.credit(&Share { remote: None, ..share(0, 7, true) }, &mut room);
        assert_eq!(room.listed, 4);
        one.absorb(two, &mut room);
        assert_eq!((one.len(), room.listed), (3, 3));
        let remote = Selected { remote: true, local: false };
        assert_eq!(sum(&one, remote).total, Traffic::new(26, 52));
        assert_eq!(sum(&one, Selected::ALL).total, Traffic::new(43, 86));
    }
}
