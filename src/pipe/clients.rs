//! Forwarded bytes by client.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counters::{Counters, Way};
use crate::model::traffic::Traffic;

/// Number of clients that are counted one by one. If there are more, those without a connection join the others,
/// those first that connected longest ago.
const MOST: usize = 4096;

/// The bytes of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientBytes {
    /// Its address; `None` for the clients together that are not counted one by one.
    pub address: Option<IpAddr>,
    /// Its bytes so far, in the directions of [`Pipe::traffic`](super::Pipe::traffic).
    pub total: Traffic,
    /// Its bytes since they were read before.
    pub recent: Traffic,
}

/// The bytes of the clients of a pipe.
#[derive(Default)]
pub(super) struct Clients(Mutex<Known>);

#[derive(Default)]
struct Known {
    clients: HashMap<IpAddr, Client>,
    others: Client,
    /// Number of connections so far.
    connections: u64,
}

#[derive(Default)]
struct Client {
    counters: Arc<Counters>,
    /// Its bytes when they were read last.
    read: Traffic,
    /// The number of its last connection.
    connection: u64,
}

impl Client {
    fn total(&self) -> Traffic {
        Traffic::new(self.counters.get(Way::Up), self.counters.get(Way::Down))
    }

    fn take(&mut self, address: Option<IpAddr>) -> ClientBytes {
        let total = self.total();
        let recent = total - std::mem::replace(&mut self.read, total);
        ClientBytes { address, total, recent }
    }

    /// Adds a client whose connections have ended.
    fn join(&mut self, other: &Client) {
        for way in Way::BOTH {
            self.counters.add(way, other.counters.get(way) as usize);
        }
        self.read += other.read;
    }
}

impl Clients {
    /// The counters of a client, for one of its connections.
    pub(super) fn connect(&self, address: IpAddr) -> Arc<Counters> {
        // An IPv4 client of a socket that listens on both.
        let address = address.to_canonical();
        let mut known = self.known();
        known.connections += 1;
        let connection = known.connections;
        if !known.clients.contains_key(&address) && !known.has_room() {
            return known.others.counters.clone();
        }
        let client = known.clients.entry(address).or_default();
        client.connection = connection;
        client.counters.clone()
    }

    /// The bytes of all clients so far.
    pub(super) fn total(&self) -> Traffic {
        let known = self.known();
        known.clients.values().chain([&known.others]).map(Client::total).sum()
    }

    /// The clients that have bytes.
    pub(super) fn read(&self) -> Vec<ClientBytes> {
        let known = &mut *self.known();
        let clients = known.clients.iter_mut().map(|(address, client)| client.take(Some(*address)));
        let all = clients.chain([known.others.take(None)]);
        all.filter(|client| !client.total.is_zero()).collect()
    }

    /// Takes over the bytes of a pipe that has ended.
    pub(super) fn absorb(&self, ended: &Clients) {
        let known = &mut *self.known();
        let ended = &*ended.known();
        known.others.join(&ended.others);
        for (address, client) in &ended.clients {
            if known.clients.contains_key(address) || known.has_room() {
                known.clients.entry(*address).or_default().join(client);
            } else {
                known.others.join(client);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether one more client can be counted.
    fn has_room(&mut self) -> bool {
        if self.clients.len() < MOST {
            return true;
        }
        // A client without a connection has no other reference to its counters.
        let is_idle = |client: &mut Client| Arc::get_mut(&mut client.counters).is_some();
        let mut idle: Vec<(u64, IpAddr)> = self
            .clients
            .iter_mut()
            .filter_map(|(address, client)| {
                is_idle(client).then_some((client.connection, *address))
            })
            .collect();
        // Many at once, so that not every new client has to search.
        idle.sort_unstable();
        for (_, address) in idle.iter().take(MOST / 4) {
            if let Some(client) = self.clients.remove(address) {
                self.others.join(&client);
            }
        }
        !idle.is_empty()
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("count", &self.known().clients.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number as u32))
    }

    fn find(clients: &[ClientBytes], address: Option<IpAddr>) -> Option<(u64, u64)> {
        let found = clients.iter().find(|of| of.address == address)?;
        Some((found.total.received, found.recent.received))
    }

    #[test]
    fn connections_of_one_client_are_added_up() {
        let clients = Clients::default();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let (one, two) = (clients.connect(address(1)), clients.connect(mapped));
        clients.connect(address(2));
        one.add(Way::Up, 5);
        two.add(Way::Up, 7);
        two.add(Way::Down, 9);
        let read = clients.read();
        assert_eq!((read.len(), read[0].address), (1, Some(address(1))));
        assert_eq!(read[0].total, Traffic::new(12, 9));
        one.add(Way::Up, 1);
        assert_eq!(find(&clients.read(), Some(address(1))), Some((13, 1)));
        assert_eq!(clients.total(), Traffic::new(13, 9));
    }

    #[test]
    fn the_clients_that_left_longest_ago_give_way_and_nothing_is_lost() {
        let clients = Clients::default();
        let open: Vec<_> = (0..10).map(|number| clients.connect(address(number))).collect();
        for number in 10..MOST {
            clients.connect(address(number)).add(Way::Up, 1);
        }
        open[0].add(Way::Up, 100);
        clients.read();
        clients.connect(address(MOST)).add(Way::Up, 3);
        let read = clients.read();
        assert_eq!(find(&read, Some(address(0))), Some((100, 0)), "it is connected");
        assert_eq!(find(&read, Some(address(MOST))), Some((3, 3)));
        assert_eq!(find(&read, Some(address(10))), None);
        // Moved bytes are not recent.
        assert_eq!(find(&read, None), Some((MOST as u64 / 4, 0)));
        let all: u64 = read.iter().map(|client| client.total.received).sum();
        assert_eq!((all, clients.total().received), (100 + MOST as u64 - 10 + 3, all));
    }

    #[test]
    fn without_room_a_client_is_one_of_the_others() {
        let clients = Clients::default();
        let _open: Vec<_> = (0..MOST).map(|number| clients.connect(address(number))).collect();
        clients.connect(address(MOST)).add(Way::Down, 3);
        assert_eq!(find(&clients.read(), None), Some((0, 0)));
        assert_eq!(clients.total(), Traffic::new(0, 3));
    }

    #[test]
    fn a_pipe_that_has_ended_leaves_its_clients_to_the_next() {
        let (ended, next) = (Clients::default(), Clients::default());
        ended.connect(address(1)).add(Way::Up, 5);
        ended.read();
        ended.connect(address(2)).add(Way::Up, 2);
        next.connect(address(1)).add(Way::Up, 1);
        next.absorb(&ended);
        let read = next.read();
        assert_eq!(find(&read, Some(address(1))), Some((6, 1)));
        assert_eq!(find(&read, Some(address(2))), Some((2, 2)));
    }
}
