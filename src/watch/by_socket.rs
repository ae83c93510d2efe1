//! What a look accounts where the kernel counts socket by socket.

mod baseline;
mod forwarded;
mod list_budget;
mod makers;
mod resolver;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use super::{Looked, Map, Unread, Watch, WatchError, no_proc};
use crate::attribution::{SlotPressure, SocketAttribution};
use crate::cpu;
use crate::ebpf;
use crate::ledger::Ledger;
use crate::netns::{NetnsChoice, NetnsKey};
use crate::processes::{LabelBy, Names};
use crate::sockets::Inode;
use crate::tracker::Namespace;
use crate::traffic::Traffic;

pub(super) use baseline::Past;
use baseline::{Asked, LookBack};
use forwarded::Forwarded;
use list_budget::ListBudget;
use makers::Makers;
use resolver::OwnerResolver;

/// For how many looks it is remembered who let go of a Multipath TCP connection: its subflows go on for a moment.
const CLOSED: u32 = 8;

/// Counters of sockets, and whose they were.
#[derive(Debug)]
pub(super) struct BySocket {
    reader: ebpf::Reader,
    attribution: SocketAttribution,
    choice: NetnsChoice,
    lookback: bool,
    /// While what was counted before the start is read.
    past: Option<LookBack>,
    /// What passes through this host without a socket, if it is asked for.
    forwarded: Option<Forwarded>,
    /// What the kernel's own sockets have counted of pings.
    pings: Traffic,
    /// All sockets by their cookies, as they were listed last and before that: one that has ended since is
    /// in the earlier list alone.
    listed: [Map<u64, Option<Inode>>; 2],
    list_budget: ListBudget,
    /// Who let go of which Multipath TCP connection, by its token, and the look at which that was seen.
    closed: Map<u32, (ebpf::Passing, u32)>,
    labels: Vec<LabelBy>,
}

impl BySocket {
    pub(super) fn open(
        choice: NetnsChoice,
        lookback: bool,
        proc: &Path,
    ) -> Result<BySocket, WatchError> {
        Ok(BySocket {
            reader: ebpf::Reader::open(proc).map_err(WatchError::Ebpf)?,
            attribution: SocketAttribution::new(),
            choice,
            lookback,
            past: None,
            forwarded: None,
            pings: Traffic::ZERO,
            listed: Default::default(),
            list_budget: ListBudget::default(),
            closed: Map::default(),
            labels: Vec::new(),
        })
    }

    pub(super) fn label_by(&mut self, labels: Vec<LabelBy>) {
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.label_by(labels.clone());
        }
        self.labels = labels;
    }

    /// Accounts what has no socket, too, where connection tracking knows it.
    pub(super) fn count_passing(&mut self, names: &Names, proc: &Path) {
        self.forwarded = Forwarded::open(names, self.choice, proc);
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.label_by(self.labels.clone());
        }
    }

    /// Descriptors that become readable when there is something for [`BySocket::drain`].
    pub(super) fn events(&self) -> Vec<BorrowedFd<'_>> {
        self.forwarded.as_ref().map(Forwarded::events).unwrap_or_default()
    }

    /// Takes what was announced of what passes through; whether it is time for a look.
    pub(super) fn drain(&mut self) -> bool {
        let is_read = self.past.as_ref().is_some_and(LookBack::is_done);
        self.forwarded.as_mut().is_some_and(Forwarded::drain) || is_read
    }

    /// Whether so much has come since the last look that it is time for the next one.
    pub(super) fn is_filling(&self) -> bool {
        self.reader.is_filling()
    }

    /// Whether the holder of a socket is to be found that was not listed yet.
    fn has_new(&self, counted: &[ebpf::Counted], pressure: SlotPressure) -> bool {
        counted.iter().any(|socket| {
            self.attribution.is_new(socket, pressure)
                && self.reader.origin(socket).is_some_and(|origin| {
                    let elsewhere = ![0, self.reader.netns()].contains(&origin.netns);
                    !(origin.released || elsewhere && self.choice == NetnsChoice::Own)
                })
        })
    }
}

/// The sockets of a place by their cookies. Those out of the text of `/proc/net` have none.
fn cookies(readers: &Namespace) -> impl Iterator<Item = (u64, Option<Inode>)> {
    let sockets = readers.table.iter().filter(|socket| socket.cookie != 0);
    sockets.map(|socket| (socket.cookie, socket.inode))
}

impl Watch {
    /// Looks once at all sockets.
    pub(super) fn look_at_sockets(
        &mut self,
        by_socket: &mut BySocket,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        let mut looked = Looked::default();
        if self.looks == 1 && by_socket.lookback {
            by_socket.past = self.look_back(by_socket);
        }
        let namespaces = self.open_namespaces(until);
        let BySocket { reader, attribution, past, .. } = &mut *by_socket;
        let (mut counted, mut last) = (Vec::new(), Vec::new());
        reader.read(|socket, before| match before {
            None => counted.push(socket),
            Some(before) if before == socket.bytes => attribution.forget(&socket),
            Some(before) => last.push((socket, before)),
        });
        if let Some(past) = past {
            last.iter().for_each(|(socket, before)| past.last(socket, *before));
        }
        attribution.begin();
        // Silent sockets make room by themselves.
        let taken = counted.iter().filter(|socket| socket.has_bytes()).count();
        let pressure = SlotPressure::beside(taken, by_socket.reader.capacity());
        let has_new = by_socket.has_new(&counted, pressure);
        if by_socket.list_budget.is_due(has_new, Instant::now()) {
            let begun = cpu::used();
            self.list_sockets(&mut looked, |_| true)?;
            let [listed, before] = &mut by_socket.listed;
            std::mem::swap(listed, before);
            listed.clear();
            self.namespaces.iter().for_each(|readers| by_socket.listed[0].extend(cookies(readers)));
            by_socket.list_budget.took(cpu::used().saturating_sub(begun));
        } else if until.is_some() {
            let new: Vec<NetnsKey> =
                self.namespaces.iter().filter(|r| r.is_listed_ahead()).map(|r| r.key).collect();
            self.list_sockets(&mut looked, Namespace::is_listed_ahead)?;
            let new = self.namespaces.iter().filter(|readers| new.contains(&readers.key));
            new.for_each(|readers| by_socket.listed[0].extend(cookies(readers)));
        }
        let inodes = self.namespaces.iter().flat_map(|readers| readers.table.inodes());
        let counted_ones = counted.iter().filter(|s| s.has_bytes()).filter_map(|s| s.inode);
        let processes = self
            .owners
            .look_until(inodes.chain(counted_ones), until, namespaces.is_some())
            .map_err(|errno| no_proc(&self.proc, errno))?;
        looked.denied = processes.denied;
        looked.failed = processes.failed;
        self.hear_of_processes(&mut looked);
        looked.flows += (taken + last.len()) as u64;
        self.take_past(by_socket, until, ledger, &mut looked);
        let (processes_left, past) = (processes.unread, by_socket.past.is_some());
        self.note_unread(Unread { namespaces, processes: processes_left, past });
        looked.unread = self.unread.clone();
        let overflow = self.account(by_socket, &counted, &last, pressure, ledger);
        looked.unread_kernel = !by_socket.reader.reads_kernel();
        looked.overflow = overflow.then(|| by_socket.reader.capacity());
        by_socket.reader.give_back();
        let pings = by_socket.pings;
        match by_socket.forwarded.as_mut().map(|forwarded| forwarded.look(pings, ledger, until)) {
            Some(Ok(mut forwarded)) => {
                looked.unread = looked.unread.and(std::mem::take(&mut forwarded.unread));
                looked.add_flows(forwarded);
            }
            Some(Err(error)) => {
                looked.forwarded_error = Some(error.to_string());
                by_socket.forwarded = None;
            }
            None => {}
        }
        self.name(ledger, processes.ended);
        ledger.keep_names_of(by_socket.attribution.referenced());
        self.leave_namespaces();
        Ok(looked)
    }

    /// Begins to read what was counted before by others.
    fn look_back(&self, by_socket: &BySocket) -> Option<LookBack> {
        let asked = Asked {
            names: self.owners.names(),
            choice: by_socket.choice,
            proc: &self.proc,
            labels: &by_socket.labels,
            pipes: &self.pipes,
        };
        LookBack::begin(&by_socket.reader, &asked)
    }

    /// Accounts what was counted before, once it is read.
    fn take_past(
        &self,
        by_socket: &mut BySocket,
        until: Option<Instant>,
        ledger: &mut Ledger,
        looked: &mut Looked,
    ) {
        let Some(past) = by_socket.past.take() else { return };
        let Some(read) = past.receive(until) else {
            by_socket.past = Some(past);
            return;
        };
        if let Some((watch, found)) = read {
            let reader = &by_socket.reader;
            let only = (by_socket.choice == NetnsChoice::Own).then(|| reader.netns());
            past.account(*watch, reader, only, ledger);
            looked.add_flows(found);
        }
    }

    fn hear_of_processes(&mut self, looked: &mut Looked) {
        let Some(tracker) = &self.tracker else { return };
        tracker.take();
        looked.refused = tracker.refused();
    }

    /// Accounts the new bytes of every socket, and takes back the slots of those that are done. `last` are
    /// the bytes of sockets that have lost theirs, with what was accounted before. Returns whether there were more
    /// sockets than slots.
    fn account(
        &mut self,
        by_socket: &mut BySocket,
        counted: &[ebpf::Counted],
        last: &[(ebpf::Counted, ebpf::Bytes)],
        pressure: SlotPressure,
        ledger: &mut Ledger,
    ) -> bool {
        let Watch { owners, own, pipes, looks, .. } = self;
        let BySocket { reader, attribution, choice, listed, pings, closed, past, .. } = by_socket;
        let now = *looks;
        closed.extend(reader.closed_multipath().iter().map(|(token, by)| (*token, (*by, now))));
        closed.retain(|_, (_, seen)| now - *seen < CLOSED);
        let only = (*choice == NetnsChoice::Own).then(|| reader.netns());
        let unread = self.unread.namespaces.is_some() || self.unread.processes.is_some();
        let makers = Makers { owners, looks: *looks };
        let own = *own;
        let mut resolver = OwnerResolver {
            reader,
            makers,
            listed,
            only,
            own,
            pipes,
            ledger,
            pings,
            closed,
            unread,
            confirmed: 0,
        };
        for (socket, before) in last {
            attribution.last(socket, *before, &mut resolver);
        }
        for socket in counted {
            // No more is let go of than can be remembered until the past is read.
            let keeps = past.as_ref().is_some_and(LookBack::is_full);
            let pressure = if keeps { SlotPressure::Low } else { pressure };
            if let Some(origin) = attribution.socket(socket, pressure, &mut resolver)
                && !keeps
            {
                resolver.reader.take_back(socket, &origin);
                if let Some(past) = past {
                    past.let_go(socket, &origin);
                }
            }
        }
        let OwnerResolver { reader, mut makers, ledger, pings, .. } = resolver;
        let reads_kernel = reader.reads_kernel();
        // Where it isn't known in which namespace something was, it may have been in this one.
        let is_watched =
            |netns: u64| only.is_none_or(|only| netns == only || netns == 0 && !reads_kernel);
        let mut overflow = false;
        let watched =
            reader.outside().filter(|(netns, _)| is_watched(*netns)).inspect(|(_, of)| {
                overflow |= !of.without_slot.is_zero();
            });
        *pings += attribution.outside(watched, |share| makers.credit(ledger, &share));
        overflow
    }
}
