//! Lines of ended processes, which stay, in bounded memory.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::details::{Details, Room};
use super::{Late, Ledger, Line, Live, Map, Options};
use crate::attribution::Share;
use crate::brief::shortened;
use crate::model::owner::{Comm, Reason};
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Attributes, Kind};
use crate::processes::{Described, ProcessId, command_line};

/// Attributes by which the bytes of a line are kept apart; the rest is one more part.
const PARTS: usize = 16;

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) kind: Kind,
    pub(super) account: Account,
    /// When a process of this line last ended.
    last: u64,
    /// Where late bytes of the process went that ended last.
    late: Option<Arc<Late>>,
    /// The same bytes by attributes, if attributes or remote ends are kept.
    parts: Vec<Ending>,
}

/// The last one, if it is the same. There may be tens of thousands of processes.
fn shared(last: &mut Option<Arc<Late>>, late: Late) -> Arc<Late> {
    let known = last.take().filter(|last| **last == late);
    last.insert(known.unwrap_or_else(|| Arc::new(late))).clone()
}

/// The bytes of ended processes with the same attributes.
#[derive(Debug)]
struct Ending {
    attributes: Option<Arc<Attributes>>,
    account: Account,
    details: Option<Box<Details>>,
}

impl Ended {
    fn new(kind: Kind) -> Ended {
        Ended { kind, account: Account::default(), last: 0, late: None, parts: Vec::new() }
    }

    /// Starts a refresh.
    pub(super) fn begin(&mut self, room: &mut Room) {
        self.account.recent = Traffic::ZERO;
        for part in &mut self.parts {
            part.account.recent = Traffic::ZERO;
            part.details.iter_mut().for_each(|details| details.begin(room));
        }
    }

    /// Adds late bytes of an ended process with these attributes.
    pub(super) fn credit(
        &mut self,
        share: &Share,
        attributes: &Option<Arc<Attributes>>,
        has_details: bool,
        room: &mut Room,
    ) {
        let account = Account { total: share.traffic, recent: share.recent };
        self.account += account;
        if let Some(part) = self.part(attributes, has_details) {
            part.account += account;
            part.details.iter_mut().for_each(|details| details.credit(share, room));
        }
    }

    /// The part with these attributes; `None` if there is nothing to keep apart.
    fn part(
        &mut self,
        attributes: &Option<Arc<Attributes>>,
        has_details: bool,
    ) -> Option<&mut Ending> {
        if attributes.is_none() && !has_details && self.parts.is_empty() {
            return None;
        }
        let is_full = self.parts.len() >= PARTS;
        let known = self.parts.iter().position(|part| part.attributes == *attributes);
        let rest = || self.parts.iter().position(|part| part.attributes.is_none());
        let at = known.or_else(|| if is_full { rest() } else { None }).unwrap_or_else(|| {
            let attributes = if is_full { None } else { attributes.clone() };
            let details = has_details.then(Box::default);
            self.parts.push(Ending { attributes, account: Account::default(), details });
            self.parts.len() - 1
        });
        self.parts.get_mut(at)
    }

    /// Adds the bytes of an ended process, or of another line.
    fn add(
        &mut self,
        attributes: &Option<Arc<Attributes>>,
        account: Account,
        details: Option<Box<Details>>,
        room: &mut Room,
    ) {
        self.account += account;
        match (self.part(attributes, details.is_some()), details) {
            (None, _) => {}
            (Some(part), None) => part.account += account,
            (Some(part), Some(details)) => {
                part.account += account;
                part.details.get_or_insert_default().absorb(*details, room);
            }
        }
    }

    /// Adds all bytes of another line.
    fn absorb(&mut self, other: Ended, room: &mut Room) {
        let rest = other.parts.iter().fold(other.account, |rest, part| rest - part.account);
        for Ending { attributes, account, details } in other.parts {
            self.add(&attributes, account, details, room);
        }
        self.account += rest;
    }

    /// The bytes of each part.
    pub(super) fn parts(
        &self,
    ) -> impl Iterator<Item = (&Option<Arc<Attributes>>, Account, Option<&Details>)> {
        self.parts.iter().map(|part| (&part.attributes, part.account, part.details.as_deref()))
    }

    /// The number of remote ends that it lists.
    fn listed(&self) -> usize {
        self.parts.iter().filter_map(|part| part.details.as_ref()).map(|of| of.len()).sum()
    }
    /// The order of folding: the smallest first; of equal ones the newest. So new lines never push out a
    /// line with as many bytes or more.
    fn worth(&self) -> (u64, Reverse<u64>) {
        (self.account.total.total(), Reverse(self.last))
    }
}

impl Ledger {
    /// Notes ended processes: their bytes stay on their line.
    pub(crate) fn ended(&mut self, processes: impl IntoIterator<Item = ProcessId>) {
        for process in processes {
            let Some(live) = self.live.remove(&process) else { continue };
            let Live { line, bytes, mut details, process: Described { attributes, .. } } = live;
            let Line { name, kind, selected } = line;
            self.left_out += bytes.all() - bytes.selected(selected);
            details.iter_mut().for_each(|of| of.select(selected, &mut self.room));
            if !selected.any() {
                let name = self.folded_name.clone();
                let late = Late { name, selected, attributes: None };
                self.names.insert(process, Arc::new(late));
                continue;
            }
            // Lines of one name share its memory.
            let name = match self.ended.get_key_value(&name) {
                Some((name, _)) => name.clone(),
                None => {
                    self.ended_bytes += name.len();
                    name
                }
            };
            self.endings += 1;
            let ended = self.ended.entry(name.clone()).or_insert_with(|| Ended::new(kind));
            ended.add(&attributes, bytes.selected(selected), details, &mut self.room);
            ended.last = self.endings;
            let late = Late { name, selected, attributes };
            self.names.insert(process, shared(&mut ended.late, late));
        }
        self.fold();
    }

    /// Drops the names of ended processes that own no flow any more.
    pub(crate) fn keep_names_of<S: BuildHasher>(&mut self, referenced: &HashSet<ProcessId, S>) {
        self.names.retain(|process, _| referenced.contains(process));
    }

    /// Folds ended lines into one if there are too many, and cuts names if they take too many bytes. Lines
    /// that a living process shares don't matter, since they are shown anyway.
    fn fold(&mut self) {
        let Options { ended_lines, ended_bytes, .. } = self.options;
        if self.ended.len() <= ended_lines && self.ended_bytes <= ended_bytes {
            return;
        }
        let living: HashSet<Name> = self.live.values().map(|live| live.line.name.clone()).collect();
        let mut renamed = Map::default();
        if self.ended.len() > ended_lines {
            self.fold_lines(&living, &mut renamed);
        }
        if self.ended_bytes > ended_bytes {
            self.cut_names(&living, &mut renamed);
        }
        if renamed.is_empty() {
            return;
        }
        let mut last = None;
        for late in self.names.values_mut() {
            if let Some(name) = renamed.get(&late.name) {
                let Late { selected, attributes, .. } = &**late;
                let (name, selected) = (name.clone(), *selected);
                *late = shared(&mut last, Late { name, selected, attributes: attributes.clone() });
            }
        }
    }

    /// Folds the lowest lines, except the few that ended last, which a user may look for.
    fn fold_lines(&mut self, living: &HashSet<Name>, renamed: &mut Map<Name, Name>) {
        let most = self.options.ended_lines;
        // A quarter at once, so that sorting is needed at every 250th end, not at each.
        let lines = most - most / 4;
        let newest = self.endings.saturating_sub(most as u64 / 10);
        let mut folding: Vec<(bool, (u64, Reverse<u64>), Name)> = self
            .ended
            .iter()
            .filter(|(name, _)| !living.contains(*name))
            .map(|(name, ended)| (ended.last > newest, ended.worth(), name.clone()))
            .collect();
        folding.sort_unstable();
        let count = self.ended.len().saturating_sub(lines);
        for (.., name) in folding.into_iter().take(count) {
            if let Some(ended) = self.ended.remove(&name) {
                self.ended_bytes -= name.len();
                self.room.listed -= ended.listed();
                self.folded += ended.account;
                renamed.insert(name, self.folded_name.clone());
            }
        }
    }

    /// Cuts the longest names, of similar lengths the newest first, until a quarter of the bytes is free. No
    /// line is folded because of other lines' names.
    fn cut_names(&mut self, living: &HashSet<Name>, renamed: &mut Map<Name, Name>) {
        let Options { ended_lines, ended_bytes, .. } = self.options;
        let room = ended_bytes - ended_bytes / 4;
        let short = room / ended_lines.max(1);
        let alone = self.ended.iter().filter(|(name, _)| !living.contains(*name));
        let mut bytes: usize = alone.clone().map(|(name, _)| name.len()).sum();
        if bytes <= ended_bytes {
            return;
        }
        let mut long: Vec<(u32, u64, Name)> = alone
            .filter(|(name, _)| name.len() > short)
            .map(|(name, ended)| (name.len().ilog2(), ended.last, name.clone()))
            .collect();
        long.sort_unstable();
        while bytes > room
            && let Some((.., name)) = long.pop()
        {
            let Some(whole) = self.ended.remove(&name) else { continue };
            let cut = shortened(&name, short);
            bytes -= name.len();
            self.ended_bytes -= name.len();
            if !self.ended.contains_key(&cut) {
                bytes += cut.len();
                self.ended_bytes += cut.len();
            }
            let new = || Ended::new(whole.kind);
            let ended = self.ended.entry(cut.clone()).or_insert_with(new);
            ended.last = ended.last.max(whole.last);
            ended.absorb(whole, &mut self.room);
            renamed.insert(name, cut);
        }
    }

    /// Accounts a share of a process that only the kernel has seen, with this short name. It has ended, or
    /// will be seen.
    pub(super) fn credit_unseen(&mut self, share: &Share, process: ProcessId, comm: Comm) {
        let command_line = command_line(&[], comm.bytes());
        let line = self.options.line(process, &Described::of(command_line));
        let Line { name, kind, selected } = line;
        let account = Account { total: share.traffic, recent: share.recent };
        if !(if share.local { selected.local } else { selected.remote }) {
            self.left_out += account;
            return;
        }
        let has_details = self.options.details;
        if let Some(ended) = self.ended.get_mut(&name) {
            return ended.credit(share, &None, has_details, &mut self.room);
        }
        self.ended_bytes += name.len();
        self.endings += 1;
        let mut ended = Ended { last: self.endings, ..Ended::new(kind) };
        ended.credit(share, &None, has_details, &mut self.room);
        self.ended.insert(name, ended);
        self.fold();
    }

    /// Stops crediting: all living processes are treated as ended.
    pub(crate) fn retire(&mut self) {
        let all: Vec<ProcessId> = self.live.keys().copied().collect();
        self.ended(all);
        self.names.clear();
        // Nothing is read any more.
        let unread = std::mem::take(&mut self.unattributed[Reason::Unread.index()]);
        self.unattributed[Reason::Exited.index()].add(unread);
        self.retired = Some(self.options.of_unattributed());
    }

    /// Takes over the lines of another ledger, which is [retired](Ledger::retire).
    pub(crate) fn inherit(&mut self, retired: Ledger) {
        self.room.listed += retired.room.listed;
        for (name, whole) in retired.ended {
            let bytes = name.len();
            let ended = self.ended.entry(name).or_insert_with(|| {
                self.ended_bytes += bytes;
                Ended::new(whole.kind)
            });
            ended.absorb(whole, &mut self.room);
        }
        self.folded += retired.folded;
        self.left_out += retired.left_out;
        self.counted += retired.counted;
        for (both, other) in self.unattributed.iter_mut().zip(retired.unattributed) {
            both.add(other);
        }
        self.fold();
    }
}
