//! What a look accounts: what the tracker has seen, and the flows of every namespace.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::{Looked, Watch, WatchError};
use crate::attribution::{
    Coverage, FlowAttribution, NamespaceView, OtherNamespaces, Reason, Share,
};
use crate::conntrack;
use crate::flow::{Flow, Protocol};
use crate::ledger::Ledger;
use crate::netns::NetnsKey;
use crate::processes::{Described, Owners, ProcessId};
use crate::sockets::Socket;
use crate::tracker::{Counting, Reading, Tracker, choose};

impl Watch {
    /// Takes what the tracker has seen.
    pub(super) fn hear(&mut self, ledger: &mut Ledger, looked: &mut Looked) {
        let Some(tracker) = &self.tracker else { return };
        let seen = tracker.take();
        looked.refused = tracker.refused();
        looked.lost_births = seen.lost;
        if seen.lost > 0 {
            self.namespaces.iter_mut().for_each(|readers| readers.dump_policy.doubt());
        }
        let Watch { attribution, owners, own, pipes, socketless, past, .. } = self;
        attribution.take_records(seen.records, |flow, share| {
            let share = without_own_pipes(flow, share, *own, pipes);
            if *socketless && !has_no_socket(flow, &share) {
                return;
            }
            if let Some(past) = past {
                return past.credit(&share);
            }
            ledger.credit(&share, || described_or_unknown(&share, owners));
        });
    }

    /// Reads the flows of every place and accounts their new bytes.
    pub(super) fn flows(
        &mut self,
        ledger: &mut Ledger,
        looked: &mut Looked,
    ) -> Result<(), WatchError> {
        let announced = self.tracker.as_ref().is_some_and(Tracker::listens);
        let Watch { namespaces, owners, attribution, own, pipes, proc, .. } = self;
        let (socketless, past) = (self.socketless, &mut self.past);
        let unread = self.unread.is_anything();
        let (mut readings, mut other_namespaces) = (Vec::new(), OtherNamespaces::default());
        for readers in namespaces.iter_mut() {
            let (reading, key, table, local) = readers.split();
            other_namespaces.add(key, local, table);
            readings.push((reading, key, table, local));
        }
        // The program's own last: what passes through it is counted where its ends are, where that
        // is done.
        readings.reverse();
        for (Reading { counting, ahead, finder, dump_policy, state }, key, table, local) in readings
        {
            let mut account = |flow: &Flow, attribution: &mut FlowAttribution| {
                // The share is handed out after the owner was asked, and names it.
                let mut shares: [Option<Share>; 2] = [None; 2];
                let owners = RefCell::new(&mut *owners);
                let mut around = NamespaceView {
                    netns: key,
                    sockets: table,
                    addresses: local,
                    other_namespaces: &other_namespaces,
                    owner: &mut |inode| owners.borrow_mut().owner(inode),
                    acceptor: &mut |listeners| {
                        owners.borrow_mut().acceptor(listeners.iter().copied())
                    },
                    choose: &mut |tuple| choose(finder, local, tuple),
                    unread,
                };
                attribution.flow(flow, &mut around, |share| {
                    let free = usize::from(shares[0].is_some());
                    shares[free] = Some(share);
                });
                let owners = owners.into_inner();
                for share in shares.into_iter().flatten() {
                    let share = without_own_pipes(flow, share, *own, pipes);
                    if socketless && !has_no_socket(flow, &share) {
                        continue;
                    }
                    match past {
                        Some(past) => past.credit(&share),
                        None => ledger.credit(&share, || described_or_unknown(&share, owners)),
                    }
                }
                if let Some(past) = past {
                    let accounted = attribution.accounted(flow, key);
                    let accounted_in = accounted.map(|end| end.map(|(netns, _)| netns));
                    past.add(flow, key, accounted_in, local, is_of_pipe(flow, pipes));
                }
            };
            let coverage = match counting {
                Counting::Conntrack(reader) => {
                    let entries = match &ahead {
                        Some(Ok((_, flows))) => Some(flows.len() as u64),
                        Some(Err(_)) => None,
                        None => reader.entries(),
                    };
                    let expected = entries.or_else(|| conntrack::state::read(proc).entries);
                    attribution.expect(expected.unwrap_or(0) as usize);
                    if attribution.missed_beginnings(key) {
                        dump_policy.doubt();
                    }
                    let buckets = state.buckets.unwrap_or(0);
                    let chosen = match entries {
                        _ if ahead.is_some() => None,
                        Some(0) => Some(Vec::new()),
                        Some(entries) if announced && state.announced != Some(false) => attribution
                            .open_flows(key)
                            .filter(|open| !dump_policy.reads_all(buckets, entries, open.len())),
                        _ => None,
                    };
                    let read = match (ahead, &chosen) {
                        (Some(read), _) => read.map(|(table, flows)| {
                            flows.iter().for_each(|flow| account(flow, attribution));
                            table
                        }),
                        (None, Some(chosen)) => {
                            reader.read_chosen(chosen, |flow| account(flow, attribution))
                        }
                        (None, None) => reader.read(|flow| account(flow, attribution)),
                    };
                    let read = match read {
                        Err(_) if key != NetnsKey::OWN => continue, // it is about to end
                        read => read?,
                    };
                    looked.malformed += read.malformed;
                    looked.first_error = looked.first_error.take().or(read.first_error);
                    looked.lost_ends += read.lost;
                    if read.lost > 0 {
                        dump_policy.doubt();
                    }
                    match (read.complete, chosen) {
                        (true, Some(_)) if entries == Some(0) => Coverage::Whole,
                        (true, Some(_)) => Coverage::Chosen,
                        (true, None) => Coverage::Whole,
                        (false, _) => Coverage::Interrupted,
                    }
                }
                Counting::Sockets(ends) => {
                    if let Some(ends) = ends {
                        ends.take().iter().for_each(|flow| account(flow, attribution));
                        looked.lost_ends += ends.take_lost();
                    }
                    let flows = table.iter().filter_map(Socket::flow);
                    flows.for_each(|flow| account(&flow, attribution));
                    if looked.incomplete { Coverage::Interrupted } else { Coverage::Whole }
                }
                Counting::Apart => continue,
            };
            attribution.leave(key, coverage);
            match coverage {
                Coverage::Chosen => dump_policy.read_chosen(),
                Coverage::Whole | Coverage::Interrupted => dump_policy.read_all(),
            }
            looked.incomplete |= coverage == Coverage::Interrupted;
        }
        Ok(())
    }
}

/// What a share's process is named.
pub(super) fn described_or_unknown(share: &Share, owners: &mut Owners) -> Described {
    let described = |process| {
        // Its sockets have been too short-lived for a look, perhaps.
        owners.refresh(process);
        owners.described(process)
    };
    share.to.ok().and_then(described).unwrap_or_else(unknown)
}

/// What this process's own pipes carry is no process's.
fn without_own_pipes(
    flow: &Flow,
    share: Share,
    own: Option<ProcessId>,
    pipes: &HashSet<u16>,
) -> Share {
    let is_own = own.is_some_and(|own| share.to == Ok(own)) && is_of_pipe(flow, pipes);
    if is_own { Share { to: Err(Reason::OwnPipe), ..share } } else { share }
}

/// Whether no socket at all had these bytes. Other kernel's traffic than pings is a socket's.
fn has_no_socket(flow: &Flow, share: &Share) -> bool {
    match share.to {
        Err(Reason::Forwarded) => true,
        Err(Reason::Kernel) => flow.original.protocol.is_icmp(),
        _ => false,
    }
}

/// Whether a flow of this process is one of its pipes'. A connection to something else of its own,
/// such as a name server, uses none of their ports.
fn is_of_pipe(flow: &Flow, ports: &HashSet<u16>) -> bool {
    let ends = [&flow.original, &flow.reply].map(|tuple| [tuple.source, tuple.destination]);
    flow.original.protocol == Protocol::TCP
        && ends.as_flattened().iter().any(|end| ports.contains(&end.port))
}

/// Who has held a socket is known by name; this stands for the case that it isn't after all.
pub(super) fn unknown() -> Described {
    Described { command_line: Arc::from(&b"[?]"[..]), label: None }
}
