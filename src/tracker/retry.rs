//! Repeats lookups of connections that are not accepted yet, or whose socket had no known holder, at
//! increasing intervals.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::model::flow::{Flow, Protocol, Tuple};
use crate::netns::NetnsKey;
use crate::sockets::Finder;

/// Maximum number of waiting lookups. The next look answers further ones.
const MOST: usize = 8_192;
/// The first interval: a fast server accepts, answers and closes within fifty microseconds.
const FIRST: Duration = Duration::from_micros(15);
/// Number of tries at this interval before it doubles, and number of all tries: over a fifth of a
/// second.
const EVEN: u32 = 6;
const TRIES: u32 = 18;
/// Maximum wait for the end of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Number of tries after which a connection is accepted, or over, unless the machine is very busy.
const EARLY: u32 = 3;

/// A lookup of one end of a flow, to be repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookup {
    /// The namespace whose table has the flow.
    pub(super) netns: NetnsKey,
    pub(super) flow: Flow,
    /// 0 is the originator's end, 1 the responder's.
    pub(super) side: usize,
    /// The namespace in which the socket is searched.
    pub(super) at: NetnsKey,
    /// Number of tries.
    tries: u32,
    /// Whether the kernel will announce when to try.
    waits: bool,
    /// Whether its handshake was announced as complete.
    established: bool,
}

impl Lookup {
    pub(super) fn new(netns: NetnsKey, flow: Flow, side: usize, at: NetnsKey) -> Lookup {
        Lookup { netns, flow, side, at, tries: 0, waits: false, established: false }
    }

    /// Whether it is the end that accepts a connection.
    pub(super) fn is_server(&self) -> bool {
        self.side == 1 && self.flow.original.protocol == Protocol::TCP
    }

    /// Whether its socket is found by the protocol alone, or by an echo identifier: sock_diag can't
    /// find it.
    pub(super) fn is_portless(&self) -> bool {
        !Finder::knows(self.flow.original.protocol)
    }

    /// Number of repeated tries.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// Whether the connection may not be known to the kernel yet, let alone be accepted.
    pub(super) fn is_early(&self) -> bool {
        !self.established && self.tries < EARLY
    }

    /// The tuple that its end sends with.
    pub(super) fn tuple(&self) -> Tuple {
        if self.side == 0 { self.flow.original } else { self.flow.reply }
    }
}

type Id = (NetnsKey, Tuple, usize);

fn id(lookup: &Lookup) -> Id {
    (lookup.netns, lookup.flow.original, lookup.side)
}

/// Lookups to repeat, in the order of time.
#[derive(Debug, Default)]
pub(super) struct RetryQueue {
    lookups: HashMap<Id, (Lookup, Instant), RandomState>,
    /// May contain entries that are no longer valid.
    order: BinaryHeap<Reverse<(Instant, Id)>>,
}

impl RetryQueue {
    /// Repeats it after an interval, unless it was tried often enough.
    pub(super) fn again(&mut self, mut lookup: Lookup, now: Instant) {
        if lookup.tries < TRIES {
            let due = now + FIRST * (1 << lookup.tries.saturating_sub(EVEN));
            lookup.tries += 1;
            self.put(lookup, due);
        }
    }

    /// Repeats it when its handshake is complete.
    pub(super) fn await_handshake(&mut self, lookup: Lookup, now: Instant) {
        self.put(Lookup { waits: true, ..lookup }, now + HANDSHAKE);
    }

    fn put(&mut self, lookup: Lookup, due: Instant) {
        if self.lookups.len() < MOST || self.lookups.contains_key(&id(&lookup)) {
            self.order.push(Reverse((due, id(&lookup))));
            self.lookups.insert(id(&lookup), (lookup, due));
        }
    }

    /// The handshake of a flow is complete: its server can accept it from now on.
    pub(super) fn established(&mut self, netns: NetnsKey, flow: &Flow, now: Instant) {
        let of_flow = (netns, flow.original, 1);
        if let Some((lookup, _)) = self.lookups.get(&of_flow)
            && lookup.waits
        {
            let lookup = Lookup { waits: false, established: true, ..*lookup };
            self.put(lookup, now);
        }
    }

    /// The time of the next lookup.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes the lookups that are due.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Lookup> {
        let mut taken = Vec::new();
        while let Some(Reverse((due, id))) = self.order.peek().copied()
            && due <= now
        {
            self.order.pop();
            // It may have been rescheduled since.
            if self.lookups.get(&id).is_some_and(|(_, set)| *set == due)
                && let Some((lookup, _)) = self.lookups.remove(&id)
                && !lookup.waits
            {
                taken.push(lookup);
            }
        }
        taken
    }

    /// Drops the lookups of a namespace.
    pub(super) fn leave(&mut self, key: NetnsKey) {
        self.lookups.retain(|_, (lookup, _)| lookup.netns != key && lookup.at != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow::{Address, CountedAt, Endpoint};

    fn lookup(port: u16) -> Lookup {
        let source = Endpoint::new(Address::from_v4([10, 0, 0, 1]), port);
        let original = Tuple { protocol: Protocol::TCP, source, destination: source };
        let flow = Flow::new(original, original.reversed(), CountedAt::Path);
        Lookup::new(NetnsKey::OWN, flow, 1, NetnsKey::OWN)
    }

    #[test]
    fn it_is_asked_ever_less_often_and_not_for_ever() {
        let mut retries = RetryQueue::default();
        let mut now = Instant::now();
        let start = now;
        retries.again(lookup(1), now);
        let mut asked = 0;
        while let Some(next) = retries.next() {
            assert!(next > now);
            assert!(retries.due(now).is_empty());
            now = next;
            for lookup in retries.due(now) {
                asked += 1;
                retries.again(lookup, now);
            }
        }
        assert_eq!(asked, TRIES);
        assert!(now - start < Duration::from_millis(250), "{:?}", now - start);
        assert!(retries.lookups.is_empty());
    }

    #[test]
    fn a_handshake_makes_it_due_at_once_and_without_one_it_is_given_up() {
        let mut retries = RetryQueue::default();
        let now = Instant::now();
        retries.await_handshake(lookup(1), now);
        retries.await_handshake(lookup(2), now);
        assert!(retries.due(now + HANDSHAKE / 2).is_empty());
        retries.established(NetnsKey::OWN, &lookup(1).flow, now);
        retries.established(NetnsKey::OWN, &lookup(3).flow, now);
        let due = retries.due(now);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].flow, lookup(1).flow);
        assert!(retries.due(now + HANDSHAKE).is_empty());
        assert!(retries.lookups.is_empty() && retries.order.is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_ends_with_its_namespace() {
        let mut retries = RetryQueue::default();
        let now = Instant::now();
        for port in 0..=u16::MAX {
            retries.again(lookup(port), now);
        }
        assert_eq!(retries.lookups.len(), MOST);
        retries.leave(NetnsKey::OWN);
        assert!(retries.due(now + HANDSHAKE).is_empty());
    }
}
