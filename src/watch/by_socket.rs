//! What a look accounts where the kernel counts socket by socket.

mod court;
mod listing;
mod makers;
mod passing;
mod past;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use super::{Looked, Map, Source, Watch, WatchError, cpu, no_proc};
use crate::conntrack;
use crate::ebpf;
use crate::ledger::Ledger;
use crate::monitor::{Room, SocketAttribution};
use crate::netns::NetnsChoice;
use crate::processes::{LabelBy, Names};
use crate::sockets::Inode;
use crate::traffic::Traffic;

use court::Court;
use listing::Listing;
use makers::Makers;
use passing::Passing;
pub(super) use past::Past;

/// For how many looks it is remembered who let go of a Multipath TCP connection: its subflows go on for a moment.
const CLOSED: u32 = 8;

/// Counters of sockets, and whose they were.
#[derive(Debug)]
pub(super) struct BySocket {
    reader: ebpf::Reader,
    attribution: SocketAttribution,
    choice: NetnsChoice,
    lookback: bool,
    /// What passes through this host without a socket, if it is asked for.
    passing: Option<Passing>,
    /// What the kernel's own sockets have counted of pings.
    pings: Traffic,
    /// All sockets by their cookies, as they were listed last and before that: one that has ended since is
    /// in the earlier list alone.
    listed: [Map<u64, Option<Inode>>; 2],
    listing: Listing,
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
            passing: None,
            pings: Traffic::ZERO,
            listed: Default::default(),
            listing: Listing::default(),
            closed: Map::default(),
            labels: Vec::new(),
        })
    }

    pub(super) fn label_by(&mut self, labels: Vec<LabelBy>) {
        if let Some(passing) = &mut self.passing {
            passing.label_by(labels.clone());
        }
        self.labels = labels;
    }

    /// Accounts what has no socket, too, where connection tracking knows it.
    pub(super) fn count_passing(&mut self, names: &Names, proc: &Path) {
        self.passing = Passing::open(names, self.choice, proc);
        if let Some(passing) = &mut self.passing {
            passing.label_by(self.labels.clone());
        }
    }

    /// Descriptors that become readable when there is something for [`BySocket::drain`].
    pub(super) fn events(&self) -> Vec<BorrowedFd<'_>> {
        self.passing.as_ref().map(Passing::events).unwrap_or_default()
    }

    /// Takes what was announced of what passes through; whether it is time for a look.
    pub(super) fn drain(&mut self) -> bool {
        self.passing.as_mut().is_some_and(Passing::drain)
    }

    /// Whether so much has come since the last look that it is time for the next one.
    pub(super) fn is_filling(&self) -> bool {
        self.reader.is_filling()
    }

    /// Whether the holder of a socket is to be found that was not listed yet.
    fn has_new(&self, counted: &[ebpf::Counted], room: Room) -> bool {
        counted.iter().any(|socket| {
            self.attribution.is_new(socket, room)
                && self.reader.origin(socket).is_some_and(|origin| {
                    let elsewhere = ![0, self.reader.netns()].contains(&origin.netns);
                    !(origin.released || elsewhere && self.choice == NetnsChoice::Own)
                })
        })
    }
}

/// Where it is known what was sent and received before counting began.
fn past_source(proc: &Path) -> Source {
    let state = conntrack::state::read(proc);
    match (state.accounting, state.entries) {
        (Some(true), entries) if entries != Some(0) => Source::Conntrack,
        _ => Source::Sockets,
    }
}

impl Watch {
    /// Looks once at all sockets.
    pub(super) fn look_at_sockets(
        &mut self,
        by_socket: &mut BySocket,
        ledger: &mut Ledger,
    ) -> Result<Looked, WatchError> {
        let mut looked = Looked::default();
        if self.looks == 1 && by_socket.lookback {
            looked = self.look_back(by_socket, ledger)?;
        }
        self.open_places();
        let BySocket { reader, attribution, .. } = &mut *by_socket;
        let (mut counted, mut last) = (Vec::new(), Vec::new());
        reader.read(|socket, before| match before {
            None => counted.push(socket),
            Some(before) if before == socket.bytes => attribution.forget(&socket),
            Some(before) => last.push((socket, before)),
        });
        attribution.begin();
        // Silent sockets make room by themselves.
        let taken = counted.iter().filter(|socket| socket.has_bytes()).count();
        let room = Room::beside(taken, by_socket.reader.capacity());
        let has_new = by_socket.has_new(&counted, room);
        if by_socket.listing.is_due(has_new, Instant::now()) {
            let begun = cpu::used();
            self.list_sockets(&mut looked)?;
            let [listed, before] = &mut by_socket.listed;
            std::mem::swap(listed, before);
            listed.clear();
            for readers in &self.places {
                // Those out of the text of `/proc/net` have no cookie.
                let sockets = readers.table.iter().filter(|socket| socket.cookie != 0);
                listed.extend(sockets.map(|socket| (socket.cookie, socket.inode)));
            }
            by_socket.listing.took(cpu::used().saturating_sub(begun));
        }
        let inodes = self.places.iter().flat_map(|readers| readers.table.inodes());
        let counted_ones = counted.iter().filter(|s| s.has_bytes()).filter_map(|s| s.inode);
        let processes = self
            .owners
            .look(inodes.chain(counted_ones))
            .map_err(|errno| no_proc(&self.proc, errno))?;
        looked.denied = processes.denied;
        looked.failed = processes.failed;
        self.hear_of_processes(&mut looked);
        looked.flows += (taken + last.len()) as u64;
        let overflow = self.account(by_socket, &counted, &last, room, ledger);
        looked.unread_kernel = !by_socket.reader.reads_kernel();
        looked.overflow = overflow.then(|| by_socket.reader.capacity());
        by_socket.reader.give_back();
        match by_socket.passing.as_mut().map(|passing| passing.look(by_socket.pings, ledger)) {
            Some(Ok(passing)) => looked.add_forwarded(passing),
            Some(Err(error)) => {
                looked.forwarded_error = Some(error.to_string());
                by_socket.passing = None;
            }
            None => {}
        }
        self.name(ledger, processes.ended);
        ledger.keep_names_of(by_socket.attribution.referenced());
        self.leave_places();
        Ok(looked)
    }

    /// Accounts what was counted before by others. What the slots have counted of it is left out there.
    fn look_back(
        &self,
        by_socket: &mut BySocket,
        ledger: &mut Ledger,
    ) -> Result<Looked, WatchError> {
        let (source, names) = (past_source(&self.proc), self.owners.names());
        let mut past = Watch::beside(names, source, by_socket.choice, true, &self.proc)?;
        past.label_by(by_socket.labels.clone());
        past.leave_to_pipes(self.pipes.iter().copied());
        past.past = Some(Past::begin(&by_socket.reader));
        // Where nobody knows of the past, counting begins now.
        let looked = past.look(ledger).unwrap_or_default();
        let BySocket { reader, attribution, choice, .. } = by_socket;
        let only = (*choice == NetnsChoice::Own).then(|| reader.netns());
        for accounted in past::baselines(&mut past, reader, only, ledger) {
            attribution.set_baseline(&accounted);
        }
        Ok(looked)
    }

    fn hear_of_processes(&mut self, looked: &mut Looked) {
        let Some(witness) = &self.witness else { return };
        witness.take();
        looked.refused = witness.refused();
    }

    /// Accounts the new bytes of every socket, and takes back the slots of those that are done. `last` are
    /// the bytes of sockets that have lost theirs, with what was accounted before. Returns whether there were more
    /// sockets than slots.
    fn account(
        &mut self,
        by_socket: &mut BySocket,
        counted: &[ebpf::Counted],
        last: &[(ebpf::Counted, ebpf::Bytes)],
        room: Room,
        ledger: &mut Ledger,
    ) -> bool {
        let Watch { owners, own, pipes, looks, .. } = self;
        let BySocket { reader, attribution, choice, listed, pings, closed, .. } = by_socket;
        let now = *looks;
        closed.extend(reader.closed_multipath().iter().map(|(token, by)| (*token, (*by, now))));
        closed.retain(|_, (_, seen)| now - *seen < CLOSED);
        let only = (*choice == NetnsChoice::Own).then(|| reader.netns());
        let makers = Makers { owners, looks: *looks };
        let own = *own;
        let mut court =
            Court { reader, makers, listed, only, own, pipes, ledger, pings, closed, confirmed: 0 };
        for (socket, before) in last {
            attribution.last(socket, *before, &mut court);
        }
        for socket in counted {
            if let Some(origin) = attribution.socket(socket, room, &mut court) {
                court.reader.take_back(socket, &origin);
            }
        }
        let Court { reader, mut makers, ledger, pings, .. } = court;
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
