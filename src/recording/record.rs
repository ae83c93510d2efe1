//! Writes the input of the core while a program watches real traffic.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::hash::Hash;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use serde::Serialize;

use super::figures::Figures;
use super::format::{
    Answers, Evidence, FlowRow, Header, Item, Line, OwnershipRow, ProcessRow, RecordRow, SlotRow,
    SocketRow, TupleText, VERSION, bytes4, origin_bits, process_row, share_line,
};
use crate::addresses::LocalAddresses;
use crate::attribution::{Coverage, Share};
use crate::ebpf::{Bytes, Counted, Origin, Outside};
use crate::environment::Opening;
use crate::model::flow::{Endpoint, Flow, Tuple};
use crate::model::owner::Owner;
use crate::model::traffic::Name;
use crate::model::{Snapshot, SourceKind};
use crate::netns::NetnsKey;
use crate::processes::{Described, Owners, Ownership, ProcessId, ProcessNames, SocketOwners};
use crate::sockets::{Inode, Socket, SocketTable};
use crate::tracker::NewFlowRecord;

type Map<K, V> = HashMap<K, V, RandomState>;

/// A recording that is being written. Clones write to the same one.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Mutex<Tape>>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// What was found of the processes at a socket with a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) now: Option<Ownership>,
    pub(crate) maker: Option<Owner>,
    pub(crate) closer: Option<Owner>,
    pub(crate) inode: Option<Inode>,
}

impl From<Found> for Evidence {
    fn from(found: Found) -> Evidence {
        let Found { now, maker, closer, inode } = found;
        let inode = inode.map(|inode| inode.0);
        Evidence(now.map(Into::into), maker.map(Into::into), closer.map(Into::into), inode)
    }
}

/// The numbers of values that came before.
#[derive(Debug)]
struct Known<T>(Map<T, u32>);

impl<T: Eq + Hash + Clone> Known<T> {
    fn item<R>(&mut self, key: &T, row: impl FnOnce() -> R) -> Item<R> {
        let next = self.0.len() as u32;
        match self.0.get(key) {
            Some(number) => Item::Seen(*number),
            None => {
                self.0.insert(key.clone(), next);
                Item::New(row())
            }
        }
    }
}

/// The last answers.
#[derive(Debug, Default)]
struct Answered {
    owners: Map<Inode, Ownership>,
    acceptors: Map<Vec<Inode>, Option<ProcessId>>,
    chosen: Map<Tuple, Option<Inode>>,
    named: Map<ProcessId, Option<Name>>,
    there: Map<ProcessId, bool>,
}

struct Tape {
    path: PathBuf,
    to: BufWriter<File>,
    error: Option<io::Error>,
    begun: Instant,
    /// What is written next: these answers, then these lines. An answer may come before lines that do not use it,
    /// unless it replaces another.
    answers: Answers,
    lines: Vec<Line>,
    answered: Answered,
    tuples: Known<Tuple>,
    flows: Known<String>,
    sockets: Known<String>,
    /// By slot and cookie: the number, and the last reading.
    slots: Map<(u32, u64), (u32, Bytes)>,
    /// Processes that have ended, or whose names were cut, during an update of names.
    ended: Vec<ProcessRow>,
    cut: Vec<ProcessRow>,
    present: Vec<Present>,
    /// The order of the namespaces, as written.
    order: Vec<u32>,
    /// The current reading of a namespace's flows, if it was not written yet.
    reading: Option<(NetnsKey, bool, bool)>,
}

/// The content of a namespace, and whether it has to be written again.
#[derive(Debug, Default)]
struct Present {
    key: NetnsKey,
    addresses: (LocalAddresses, bool),
    /// Its sockets, each with whether no flow finds it.
    sockets: (Vec<(Socket, bool)>, bool),
    /// Whether its content is written at all.
    is_written: bool,
}

impl Recorder {
    /// Starts a recording of this source.
    ///
    /// # Errors
    /// The file can't be created.
    pub(crate) fn create(path: &Path, source: SourceKind, lookback: bool) -> io::Result<Recorder> {
        let mut tape = Tape {
            path: path.to_owned(),
            to: BufWriter::new(File::create(path)?),
            error: None,
            begun: Instant::now(),
            answers: Answers::default(),
            lines: Vec::new(),
            answered: Answered::default(),
            tuples: Known(Map::default()),
            flows: Known(Map::default()),
            sockets: Known(Map::default()),
            slots: Map::default(),
            ended: Vec::new(),
            cut: Vec::new(),
            present: Vec::new(),
            order: Vec::new(),
            reading: None,
        };
        tape.write(&Header { version: VERSION, source: source.name().to_owned(), lookback });
        Ok(Recorder(Arc::new(Mutex::new(tape))))
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path, and the error of writing, if there was one.
    pub(crate) fn take_error(&self) -> Option<(PathBuf, io::Error)> {
        let mut tape = self.tape();
        tape.error.take().map(|error| (tape.path.clone(), error))
    }

    /// A look starts.
    pub(crate) fn look(&self) {
        let mut tape = self.tape();
        let at = tape.begun.elapsed().as_micros() as u64;
        tape.lines.push(Line::Look(at));
    }

    /// An observation of flows starts.
    pub(crate) fn observe(&self, opening: Opening, records: &[NewFlowRecord]) {
        let mut tape = self.tape();
        let records = records.iter().map(|record| {
            let flow = tape.flow(&record.flow);
            RecordRow::of(record, flow)
        });
        let line = Line::Observe(opening.into(), records.collect());
        tape.lines.push(line);
    }

    /// The content of a namespace. One other than the program's own is written once a flow needs
    /// it.
    pub(crate) fn namespace(&self, key: NetnsKey, addresses: &LocalAddresses, table: &SocketTable) {
        let mut tape = self.tape();
        let is_matched = |socket: &Socket| {
            let found = || table.find(&socket.tuple);
            !socket.is_connected()
                || found().is_some_and(|found| found.sockets().any(|other| other == socket))
        };
        let sockets = table.iter().map(|socket| (*socket, !is_matched(socket))).collect();
        let place = tape.present.iter().position(|present| present.key == key);
        let place = place.unwrap_or_else(|| {
            let is_written = key == NetnsKey::OWN;
            let new = Present { key, is_written, ..Present::default() };
            tape.present.push(new);
            tape.present.len() - 1
        });
        let present = &mut tape.present[place];
        present.addresses.1 |= present.addresses.0 != *addresses;
        present.addresses.0.clone_from(addresses);
        present.sockets.1 |= present.sockets.0 != sockets;
        present.sockets.0 = sockets;
        if present.is_written {
            tape.write_namespace(place);
        }
    }

    /// All namespaces, in their order.
    pub(crate) fn namespaces(&self, keys: impl Iterator<Item = NetnsKey>) {
        let mut tape = self.tape();
        let keys: Vec<NetnsKey> = keys.collect();
        tape.present.retain(|present| keys.contains(&present.key));
        tape.present.sort_by_key(|present| keys.iter().position(|key| *key == present.key));
        tape.order();
    }

    /// Reading the flows of a namespace starts.
    pub(crate) fn reading(&self, key: NetnsKey, unread: bool, tables: bool) {
        let mut tape = self.tape();
        tape.reading = Some((key, unread, tables));
        if tape.present.iter().any(|present| present.key == key && present.is_written) {
            tape.read();
        }
    }

    /// A flow was read and accounted.
    pub(crate) fn flow(&self, flow: &Flow) {
        let mut tape = self.tape();
        tape.meet(flow);
        let item = tape.flow(flow);
        match tape.lines.last_mut() {
            Some(Line::Flows(flows)) => flows.push(item),
            _ => tape.lines.push(Line::Flows(vec![item])),
        }
    }

    /// Reading the flows of a namespace ends.
    pub(crate) fn leave(&self, key: NetnsKey, coverage: Coverage) {
        let mut tape = self.tape();
        tape.reading = None;
        tape.lines.push(Line::Leave(key.0, coverage.into()));
    }

    /// The observation of flows ends.
    pub(crate) fn observed(&self) {
        self.tape().lines.push(Line::Observed);
    }

    /// An observation of sockets with slots starts.
    pub(crate) fn count(&self) {
        self.tape().lines.push(Line::Count);
    }

    /// A socket was read, and not accounted.
    pub(crate) fn seen(&self, socket: &Counted) {
        let mut tape = self.tape();
        // A socket of a namespace that is not watched changes nothing.
        let Some((number, bytes)) = tape.slots.get(&slot_key(socket)).copied() else { return };
        if bytes != socket.bytes {
            let line = Line::Seen(tape.slot(socket), bytes4(socket.bytes));
            return tape.lines.push(line);
        }
        match tape.lines.last_mut() {
            Some(Line::Quiet(quiet)) => quiet.push(number),
            _ => tape.lines.push(Line::Quiet(vec![number])),
        }
    }

    /// A socket was read and accounted by what was found; without anything found if it is not in a
    /// watched namespace.
    pub(crate) fn accounted(&self, socket: &Counted, origin: &Origin, found: Option<Found>) {
        let mut tape = self.tape();
        if found.is_none() && !tape.slots.contains_key(&slot_key(socket)) {
            return;
        }
        let (slot, found) = (tape.slot(socket), found.map(Into::into));
        let line = Line::Slot(slot, bytes4(socket.bytes), origin_bits(origin), found);
        tape.lines.push(line);
    }

    /// New bytes of a socket that is not remembered were accounted.
    pub(crate) fn passing(&self, new: Bytes, origin: &Origin, found: Option<Found>) {
        if let Some(found) = found {
            let line = Line::Passing(bytes4(new), origin_bits(origin), Some(found.into()));
            self.tape().lines.push(line);
        }
    }

    /// A socket was forgotten.
    pub(crate) fn release(&self, socket: &Counted) {
        let mut tape = self.tape();
        if let Some((number, _)) = tape.slots.get(&slot_key(socket)).copied() {
            tape.lines.push(Line::Release(number));
        }
    }

    /// Bytes counted outside the slots.
    pub(crate) fn outside(&self, all: &[(u64, Outside)]) {
        let bytes = |of: &Outside| {
            let Outside { without_slot, without_socket, pings, resets } = *of;
            let all = [without_slot, without_socket, pings, resets].map(bytes4);
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(all.concat()).for_each(|(to, from)| *to = from);
            bytes
        };
        let all = all.iter().map(|(netns, of)| (*netns, bytes(of))).collect();
        self.tape().lines.push(Line::Outside(all));
    }

    /// Bytes were accounted by input that is not recorded.
    pub(crate) fn share(&self, share: &Share) {
        self.tape().lines.push(share_line(share));
    }

    /// An update of names starts. Returns the ended processes whose names were queried: others are on no line.
    pub(crate) fn begin_names(&self, ended: Vec<ProcessId>) -> Vec<ProcessId> {
        let mut tape = self.tape();
        let ended = tape.asked(ended);
        tape.ended = ended.iter().copied().map(process_row).collect();
        ended
    }

    /// An update of names ends.
    pub(crate) fn named_all(&self) {
        let mut tape = self.tape();
        let (ended, cut) = (std::mem::take(&mut tape.ended), std::mem::take(&mut tape.cut));
        tape.lines.push(Line::Name(ended, cut));
    }

    fn cut(&self, cut: Vec<ProcessId>) -> Vec<ProcessId> {
        let mut tape = self.tape();
        let cut = tape.asked(cut);
        tape.cut = cut.iter().copied().map(process_row).collect();
        cut
    }

    /// A namespace is no longer watched.
    pub(crate) fn forget(&self, key: NetnsKey) {
        let mut tape = self.tape();
        tape.present.retain(|present| present.key != key);
        tape.lines.push(Line::Forget(key.0));
    }

    /// A look ends: its input is written.
    pub(crate) fn looked(&self) {
        self.tape().flush();
    }

    /// A refresh with this result was taken.
    pub(crate) fn refresh(&self, snapshot: &Snapshot) {
        let mut tape = self.tape();
        let at = snapshot.instant.saturating_duration_since(tape.begun);
        // In the form in which it is read back.
        let at = Duration::from_micros(at.as_micros() as u64);
        tape.lines.push(Line::Refresh(Figures::of(snapshot, at)));
        tape.flush();
    }

    /// The command line and label that a query got.
    pub(crate) fn named(&self, id: ProcessId, described: Option<&Described>) {
        let name = described.map(|described| described.command_line.clone());
        let mut tape = self.tape();
        if tape.answered.named.get(&id) != Some(&name) {
            tape.replaces(|answered| answered.named.contains_key(&id));
            let row = (process_row(id), name.as_deref().map(Into::into));
            tape.answers.named.push(row);
            tape.answered.named.insert(id, name);
        }
    }

    /// Of several sockets, the one that the kernel would choose.
    pub(crate) fn chosen(&self, tuple: &Tuple, chosen: Option<Inode>) {
        let mut tape = self.tape();
        if tape.answered.chosen.get(tuple) != Some(&chosen) {
            tape.replaces(|answered| answered.chosen.contains_key(tuple));
            tape.answers.chosen.push((TupleText(*tuple), chosen.map(|inode| inode.0)));
            tape.answered.chosen.insert(*tuple, chosen);
        }
    }

    fn owner(&self, inode: Inode, owner: Ownership) {
        let mut tape = self.tape();
        if tape.answered.owners.get(&inode) != Some(&owner) {
            tape.replaces(|answered| answered.owners.contains_key(&inode));
            tape.answers.owners.push((inode.0, OwnershipRow::from(owner)));
            tape.answered.owners.insert(inode, owner);
        }
    }

    fn acceptor(&self, listeners: &[Inode], acceptor: Option<ProcessId>) {
        let mut tape = self.tape();
        if tape.answered.acceptors.get(listeners) != Some(&acceptor) {
            tape.replaces(|answered| answered.acceptors.contains_key(listeners));
            let inodes = listeners.iter().map(|inode| inode.0).collect();
            tape.answers.acceptors.push((inodes, acceptor.map(process_row)));
            tape.answered.acceptors.insert(listeners.to_vec(), acceptor);
        }
    }

    fn there(&self, id: ProcessId, is_there: bool) {
        let mut tape = self.tape();
        if tape.answered.there.get(&id) != Some(&is_there) {
            tape.replaces(|answered| answered.there.contains_key(&id));
            let row: (ProcessRow, bool) = (process_row(id), is_there);
            tape.answers.there.push(row);
            tape.answered.there.insert(id, is_there);
        }
    }
}

fn slot_key(socket: &Counted) -> (u32, u64) {
    (socket.slot, socket.cookie)
}

impl Tape {
    fn write(&mut self, line: &impl Serialize) {
        if self.error.is_some() {
            return;
        }
        let written = serde_json::to_writer(&mut self.to, line).map_err(io::Error::from);
        self.error = written.and_then(|()| self.to.write_all(b"\n")).err();
    }

    fn flush(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        if answers != Answers::default() {
            self.write(&Line::Answers(answers));
        }
        for line in std::mem::take(&mut self.lines) {
            self.write(&line);
        }
        if self.error.is_none() {
            self.error = self.to.flush().err();
        }
    }

    fn asked(&self, mut of: Vec<ProcessId>) -> Vec<ProcessId> {
        of.retain(|id| self.answered.named.contains_key(id));
        of
    }

    /// An answer will follow. If it replaces another, all lines so far are written with the old
    /// one.
    fn replaces(&mut self, is_known: impl FnOnce(&Answered) -> bool) {
        if is_known(&self.answered) {
            self.flush();
        }
    }

    fn flow(&mut self, flow: &Flow) -> Item<FlowRow> {
        let Tape { tuples, flows, .. } = self;
        let key = format!("{flow:?}");
        flows.item(&key, || FlowRow::of(flow, |tuple| tuples.item(&tuple, || TupleText(tuple))))
    }

    fn socket(&mut self, socket: &Socket, is_unmatched: bool) -> Item<SocketRow> {
        let Tape { tuples, sockets, .. } = self;
        let key = format!("{socket:?} {is_unmatched}");
        sockets.item(&key, || {
            let tuple = tuples.item(&socket.tuple, || TupleText(socket.tuple));
            SocketRow::of(socket, is_unmatched, tuple)
        })
    }

    /// Writes the changes of a namespace.
    fn write_namespace(&mut self, place: usize) {
        let present = &mut self.present[place];
        let key = present.key.0;
        if std::mem::take(&mut present.addresses.1) {
            let of = &present.addresses.0;
            let mut own: Vec<String> = of.own().map(|address| address.to_string()).collect();
            let broadcasts = of.broadcasts().map(|address| address.to_string());
            let mut broadcasts: Vec<String> = broadcasts.collect();
            own.sort_unstable();
            broadcasts.sort_unstable();
            self.lines.push(Line::Addresses(key, own, broadcasts));
        }
        let present = &mut self.present[place];
        if std::mem::take(&mut present.sockets.1) {
            let sockets = present.sockets.0.clone();
            let rows = sockets.iter().map(|(socket, unmatched)| self.socket(socket, *unmatched));
            let rows = rows.collect();
            self.lines.push(Line::Table(key, rows));
        }
    }

    /// Writes the order of the namespaces, if it has changed.
    fn order(&mut self) {
        let written = self.present.iter().filter(|present| present.is_written);
        let order: Vec<u32> = written.map(|present| present.key.0).collect();
        if self.order != order {
            self.order.clone_from(&order);
            self.lines.push(Line::Namespaces(order));
        }
    }

    /// Writes that reading a namespace's flows has started.
    fn read(&mut self) {
        if let Some((key, unread, tables)) = self.reading.take() {
            self.lines.push(Line::Reading(key.0, unread, tables));
        }
    }

    /// A flow will follow: writes every namespace that it needs.
    fn meet(&mut self, flow: &Flow) {
        let ends = [flow.original, flow.reply].map(|tuple| [tuple.source, tuple.destination]);
        let reading = self.reading.map(|(key, ..)| key);
        let mut news = false;
        for place in 0..self.present.len() {
            let Present { key, addresses: (addresses, _), is_written, .. } = &self.present[place];
            let is_end = |end: &&Endpoint| addresses.is_known_as(&end.address);
            if !is_written
                && (reading == Some(*key) || ends.iter().flatten().any(|end| is_end(&end)))
            {
                self.present[place].is_written = true;
                self.write_namespace(place);
                news = true;
            }
        }
        if news {
            self.order();
        }
        self.read();
    }

    fn slot(&mut self, socket: &Counted) -> Item<SlotRow> {
        let next = self.slots.len() as u32;
        let known = self.slots.insert(slot_key(socket), (next, socket.bytes));
        match known {
            Some((number, _)) => {
                self.slots.insert(slot_key(socket), (number, socket.bytes));
                Item::Seen(number)
            }
            None => Item::New(SlotRow::of(socket)),
        }
    }
}

/// Answers queries about processes, and records the answers if there is a recording.
pub(crate) struct Recorded<'a> {
    pub(crate) owners: &'a mut Owners,
    pub(crate) recorder: Option<&'a Recorder>,
}

impl SocketOwners for Recorded<'_> {
    fn owner(&mut self, inode: Inode) -> Ownership {
        let owner = self.owners.owner(inode);
        if let Some(recorder) = self.recorder {
            recorder.owner(inode, owner);
        }
        owner
    }

    fn acceptor(&mut self, listeners: &[Inode]) -> Option<ProcessId> {
        let acceptor = SocketOwners::acceptor(self.owners, listeners);
        if let Some(recorder) = self.recorder {
            recorder.acceptor(listeners, acceptor);
        }
        acceptor
    }
}

impl ProcessNames for Recorded<'_> {
    fn refresh(&mut self, id: ProcessId) {
        self.owners.refresh(id);
    }

    fn described(&mut self, id: ProcessId) -> Option<Described> {
        let described = self.owners.described(id);
        if let Some(recorder) = self.recorder {
            recorder.named(id, described.as_ref());
        }
        described
    }

    fn is_there(&mut self, id: ProcessId) -> bool {
        let is_there = self.owners.is_there(id);
        if let Some(recorder) = self.recorder {
            recorder.there(id, is_there);
        }
        is_there
    }

    fn take_cut(&mut self) -> Vec<ProcessId> {
        let cut = self.owners.names().take_cut();
        match self.recorder {
            Some(recorder) => recorder.cut(cut),
            None => cut,
        }
    }
}
