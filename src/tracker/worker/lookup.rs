//! Asks for the sockets at the ends of flows, and for the processes that hold them.

use std::time::Instant;

use super::Worker;
use crate::model::flow::{Flow, Protocol, Tuple};
use crate::netns::{NetnsId, NetnsKey};
use crate::sockets::{Inode, Socket, TcpState};
use crate::tracker::Seen;
use crate::tracker::listener::NetnsListener;
use crate::tracker::retry::Lookup;
use crate::tracker::spin_budget::SPIN;

/// How often a server's socket is asked for before everybody is.
pub(super) const FEW: u32 = 3;

/// What the kernel says of the end of a flow.
pub(in crate::tracker) enum Answer {
    /// This process has it.
    Held(Seen),
    /// Somebody has it, or will.
    Pending,
    /// It waits to be accepted.
    Imminent,
    /// Nobody has it any more, or can be found to.
    Gone,
}

impl Worker {
    /// The namespace in which a flow's end is, if it is in any that is watched.
    pub(super) fn netns_of(
        &mut self,
        key: NetnsKey,
        flow: &Flow,
        side: usize,
        now: Instant,
    ) -> Option<NetnsKey> {
        let tuple = if side == 0 { &flow.original } else { &flow.reply };
        let address = tuple.source.address;
        let here = |netns_listener: &NetnsListener| {
            netns_listener.key == key
                && match side {
                    0 => netns_listener.local.sends_from(&address),
                    _ => netns_listener.local.receives_at(&address),
                }
        };
        let there = |netns_listener: &NetnsListener| netns_listener.is_known_as(&address);
        let place = |all: &[NetnsListener]| {
            let found = all
                .iter()
                .find(|netns_listener| here(netns_listener))
                .or_else(|| all.iter().find(|e| there(e)));
            found.map(|netns_listener| netns_listener.key)
        };
        if let Some(found) = place(&self.netns_listeners) {
            return Some(found);
        }
        // A namespace may be new, or an address may have been given to one of them since.
        self.read_up();
        let mut changed = false;
        for netns_listener in &mut self.netns_listeners {
            changed |= netns_listener.refresh(now);
        }
        if changed { place(&self.netns_listeners) } else { None }
    }

    /// Asks for all, and again and again for connections that are about to be accepted: a quick server
    /// has closed one fifty microseconds later.
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

    /// Asks for the sockets of all, and for their processes; the answers in their order. Whether those
    /// that are not accepted yet are also asked for the socket that listens for them is said by
    /// `listeners`.
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
            // Who accepts together is looked at one by one afterwards.
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

    /// Puts into the place of each socket that nobody has accepted yet the one that listens for it, if
    /// it is known who accepts there: then it need not be waited for.
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
            sockets[place] = listener.or(sockets[place]);
        }
    }

    /// The sockets that listen where connections begin, and at which it is known who accepts.
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
        // Without announcements nobody knows who has children.
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
            // The one that was chosen, where no connection is known yet, or any more.
            return match self.accepting.at(socket.inode) {
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
            // What is gone by now nobody can be found to hold.
            if !self.is_there(lookup, inode) {
                return Answer::Gone;
            }
            // A socket that is accepted is there a moment before its descriptor is.
            found = if server { self.search.find_acceptor(inode) } else { None };
        }
        if found.is_none() {
            // It may be a process that has just begun.
            self.processes();
            found = self.search.find_near(inode);
            // Everybody is asked for a server's only where a moment has not mended it.
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

    /// Whether the socket of an end still is this one.
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
