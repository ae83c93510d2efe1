//! Lines of ended processes, which stay, in bounded memory.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::hash::BuildHasher;

use super::{Ledger, Line, Live, Map, Options};
use crate::attribution::Share;
use crate::brief::shortened;
use crate::model::owner::{Comm, Reason};
use crate::model::traffic::Name;
use crate::model::{Account, Kind};
use crate::processes::{Described, ProcessId, command_line};

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) kind: Kind,
    pub(super) account: Account,
    /// When a process of this line last ended.
    last: u64,
}

impl Ended {
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
            let Some(Live { line, bytes, .. }) = self.live.remove(&process) else { continue };
            let Line { name, kind, selected } = line;
            self.left_out += bytes.all() - bytes.selected(selected);
            if !selected.any() {
                let name = self.folded_name.clone();
                self.names.insert(process, Line { name, kind, selected });
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
            let new = Ended { kind, account: Account::default(), last: 0 };
            let ended = self.ended.entry(name.clone()).or_insert(new);
            ended.account += bytes.selected(selected);
            ended.last = self.endings;
            self.names.insert(process, Line { name, kind, selected });
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
        for line in self.names.values_mut() {
            if let Some(name) = renamed.get(&line.name) {
                line.name = name.clone();
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
            let Some(Ended { kind, account, last }) = self.ended.remove(&name) else { continue };
            let cut = shortened(&name, short);
            bytes -= name.len();
            self.ended_bytes -= name.len();
            if !self.ended.contains_key(&cut) {
                bytes += cut.len();
                self.ended_bytes += cut.len();
            }
            let new = Ended { kind, account: Account::default(), last: 0 };
            let ended = self.ended.entry(cut.clone()).or_insert(new);
            ended.account += account;
            ended.last = ended.last.max(last);
            renamed.insert(name, cut);
        }
    }

    /// Accounts a share of a process that only the kernel has seen, with this short name. It has ended, or
    /// will be seen.
    pub(super) fn credit_unseen(&mut self, share: &Share, comm: Comm) {
        let command_line = command_line(&[], comm.bytes());
        let line = self.options.naming.line(&Described { command_line, label: None });
        let Line { name, kind, selected } = line;
        let account = Account { total: share.traffic, recent: share.recent };
        if !(if share.local { selected.local } else { selected.remote }) {
            self.left_out += account;
            return;
        }
        if let Some(ended) = self.ended.get_mut(&name) {
            ended.account += account;
            return;
        }
        self.ended_bytes += name.len();
        self.endings += 1;
        self.ended.insert(name, Ended { kind, account, last: self.endings });
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
        self.retired = Some(self.options.naming.of_unattributed());
    }

    /// Takes over the lines of another ledger, which is [retired](Ledger::retire).
    pub(crate) fn inherit(&mut self, retired: Ledger) {
        for (name, Ended { kind, account, .. }) in retired.ended {
            let bytes = name.len();
            let ended = self.ended.entry(name).or_insert_with(|| {
                self.ended_bytes += bytes;
                Ended { kind, account: Account::default(), last: 0 }
            });
            ended.account += account;
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
