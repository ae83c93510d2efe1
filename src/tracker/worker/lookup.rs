//! Finds the sockets at the ends of flows, and the processes that hold them.

use std::time::Instant;

use super::Worker;
use crate::model::flow::{Flow, Protocol, Tuple};
use crate::netns::{NetnsId, NetnsKey};
use crate::sockets::{Inode, Socket, TcpState};
use crate::tracker::Seen;
use crate::tracker::listener::NetnsListener;
use crate::tracker::retry::Lookup;
use crate::tracker::spin_budget::SPIN;

/// Number of tries for a server's socket before all processes are searched.
pub(super) const FEW: u32 = 3;

/// The result of a lookup.
pub(in crate::tracker) enum Answer {
    /// This process holds the socket.
    Held(Seen),
    /// A process holds it, or will.
    Pending,
    /// It waits to be accepted.
    Imminent,
    /// No process holds it any more, or none can be found.
    Gone,
}

impl Worker {
    /// The namespace of a flow's end, if it is watched and has listed its address.
    pub(super) fn netns_of(&self, key: NetnsKey, flow: &Flow, side: usize) -> Option<NetnsKey> {
        let tuple = if side == 0 { &flow.original } else { &flow.reply };
        let address = tuple.source.address;
        let here = |netns_listener: &&NetnsListener| {
            netns_listener.key == key
                && match side {
                    0 => netns_listener.local.sends_from(&address),
                    _ => netns_listener.local.receives_at(&address),
                }
        };
        let there = |netns_listener: &&NetnsListener| netns_listener.is_known_as(&address);
        let all = &self.netns_listeners;
        let found = all.iter().find(here).or_else(|| all.iter().find(there));
        found.map(|netns_listener| netns_listener.key)
    }

    /// Opens new namespaces, and lists addresses again where they may have changed. Returns whether any did.
    pub(super) fn refresh_addresses(&mut self, now: Instant) -> bool {
        self.read_up();
        let mut changed = false;
        for netns_listener in &mut self.netns_listeners {
            changed |= netns_listener.refresh(now);
        }
        changed
    }

    /// Looks up all, and repeats it for connections that are about to be accepted: a fast server has
    /// closed one fifty microseconds later.
    pub(super) fn ask_and_spin(&mut self, lookups: &[Lookup]) -> Vec<Answer> {
        let mut answers = self.ask(lookups, true);
        let start = Instant::now();
        self.spin_budget.refill(start);
        loop {
            let imminent = |place: &usize| matches!(answers[*place], Answer::Imminent);
            let places: Vec<usize> = (0..lookups.len()).filter(imminent).collect();
            let now = Instant::now();
            if places.is_empty() || !self.spin_budget.spend(now) || now - start > SPIN {
                return answers;
            }
            let again: Vec<Lookup> = places.iter().map(|place| lookups[*place]).collect();
            for (place, answer) in places.into_iter().zip(self.ask(&again, false)) {
                answers[place] = answer;
            }
        }
    }

    /// Looks up the sockets of all, and their processes; returns the answers in the same order.
    /// `listeners` says whether to find the listening socket of connections that are not accepted yet.
    pub(super) fn ask(&mut self, lookups: &[Lookup], listeners: bool) -> Vec<Answer> {
        let mut answers: Vec<Answer> = lookups.iter().map(|_| Answer::Gone).collect();
        let mut order: Vec<usize> = (0..lookups.len()).collect();
        let by = |place: &usize| (lookups[*place].at, lookups[*place].is_portless());
        order.sort_by_key(by);
        for group in order.chunk_by(|a, b| by(a) == by(b)) {
            let (at, portless) = by(&group[0]);
            if portless {
                self.ask_portless(lookups, group, &mut answers);
                continue;
            }
            let Some(netns_listener) =
                self.netns_listeners.iter_mut().find(|netns_listener| netns_listener.key == at)
            else {
                continue;
            };
            let netns = netns_listener.id;
            let tuples: Vec<Tuple> = group.iter().map(|place| lookups[*place].tuple()).collect();
            let mut sockets: Vec<Option<Socket>> = vec![None; tuples.len()];
            // Processes that accept together are searched one by one afterwards.
            if listeners || !self.search.accepts_together() {
                self.search.peek();
            }
            let asked = netns_listener.find(&tuples, |place, socket| sockets[place] = socket);
            self.lost += u64::from(asked.is_err());
            if listeners {
                self.ask_for_listeners(at, &tuples, &mut sockets);
            }
            for (place, socket) in group.iter().zip(sockets) {
                answers[*place] = self.resolve(&lookups[*place], socket, netns);
            }
        }
        answers
    }

    /// Replaces each socket that is not accepted yet by its listening socket, if only one process can accept there:
    /// then the lookup need not wait.
    pub(super) fn ask_for_listeners(
        &mut self,
        at: NetnsKey,
        tuples: &[Tuple],
        sockets: &mut [Option<Socket>],
    ) {
        let unaccepted = |place: &usize| {
            tuples[*place].protocol == Protocol::TCP
                && sockets[*place].is_some_and(|s| s.inode.is_none() && s.state.is_before_accept())
        };
        let places: Vec<usize> = (0..tuples.len()).filter(unaccepted).collect();
        let questions: Vec<Tuple> = places.iter().map(|place| tuples[*place]).collect();
        for (place, listener) in places.into_iter().zip(self.known_listeners(at, &questions)) {
            let alone = listener.filter(|listener| self.accepting.is_alone(listener.inode));
            sockets[place] = alone.or(sockets[place]);
        }
    }

    /// The listening sockets of new connections, if the acceptor there is known.
    pub(super) fn known_listeners(
        &mut self,
        at: NetnsKey,
        tuples: &[Tuple],
    ) -> Vec<Option<Socket>> {
        let mut found = vec![None; tuples.len()];
        let Some(netns_listener) =
            self.netns_listeners.iter_mut().find(|netns_listener| netns_listener.key == at)
        else {
            return found;
        };
        // Without process events, children are unknown.
        let accepting = &mut self.accepting;
        if tuples.is_empty()
            || !(self.shared.reported || self.events.is_some())
            || !accepting.is_known_anywhere(&self.search, Instant::now())
        {
            return found;
        }
        let questions: Vec<Tuple> = tuples.iter().map(|tuple| tuple.from_anyone()).collect();
        let asked = netns_listener.find(&questions, |place, socket| {
            let listens =
                |s: &Socket| s.state == TcpState::LISTEN && accepting.at(s.inode).is_some();
            found[place] = socket.filter(listens);
        });
        self.lost += u64::from(asked.is_err());
        found
    }

    pub(in crate::tracker) fn resolve(
        &mut self,
        lookup: &Lookup,
        socket: Option<Socket>,
        netns: Option<NetnsId>,
    ) -> Answer {
        let server = lookup.is_server();
        let Some(socket) = socket else {
            return if server { Answer::Pending } else { Answer::Gone };
        };
        if socket.state == TcpState::LISTEN {
            // The listening socket that the kernel chose, if the connection is not known yet, or
            // any more.
            let acceptor = match self.accepting.is_alone(socket.inode) {
                true => self.accepting.at(socket.inode),
                // Whoever accepts it may not have run yet.
                false if lookup.is_early() => None,
                false => self.accepting.has_accepted(socket.inode, &self.search),
            };
            return match acceptor {
                Some(process) => Answer::Held(Seen { process, netns: lookup.at }),
                None if server => Answer::Pending,
                None => Answer::Gone,
            };
        }
        let Some(inode) = socket.inode else {
            return match socket.state {
                TcpState::SYN_RECV | TcpState::NEW_SYN_RECV if server => Answer::Pending,
                TcpState::ESTABLISHED | TcpState::CLOSE_WAIT if server => Answer::Imminent,
                _ => Answer::Gone,
            };
        };
        let mut found = self.search.find_at_once(inode);
        if found.is_none() && server {
            found = self.search.find_acceptor(inode);
            if found.is_none()
                && let Some(listener) = self.known_listeners(lookup.at, &[lookup.tuple()])[0]
            {
                return self.resolve(lookup, Some(listener), netns);
            }
        }
        if found.is_none() {
            // A socket that is gone by now has no holder to find.
            if !self.is_there(lookup, inode) {
                return Answer::Gone;
            }
            // An accepted socket exists a moment before its descriptor.
            found = if server { self.search.find_acceptor(inode) } else { None };
        }
        if found.is_none() {
            // It may be a process that has just started.
            self.processes();
            found = self.search.find_near(inode, netns);
            // All processes are searched for a server's socket only if waiting a moment did not
            // help.
            if found.is_none() && (!server || lookup.tries() >= FEW) {
                found = self.search.find_far(inode, socket.uid, netns, Instant::now());
            }
        }
        match found {
            Some(found) => {
                let seen = Seen { process: found, netns: lookup.at };
                Answer::Held(seen)
            }
            // Its process may be so new that it has not been announced yet.
            None => Answer::Pending,
        }
    }

    /// Whether the socket of an end is still this one.
    pub(super) fn is_there(&mut self, lookup: &Lookup, inode: Inode) -> bool {
        if lookup.is_portless() {
            return true; // it was listed a moment ago
        }
        let Some(netns_listener) =
            self.netns_listeners.iter_mut().find(|netns_listener| netns_listener.key == lookup.at)
        else {
            return false;
        };
        let mut there = false;
        let same = |socket: Option<Socket>| socket.is_some_and(|s| s.inode == Some(inode));
        let asked = netns_listener.find(&[lookup.tuple()], |_, socket| there = same(socket));
        asked.is_ok() && there
    }
}
