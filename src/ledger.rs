//! Totals and rates per process, over time and in bounded memory.
//!
//! The ledger knows neither where bytes come from nor how they are shown. Its time is what its
//! caller says it is.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::brief::{is_shortened, shortened};
use crate::lookalike::{distinct, marked};
use crate::monitor::{Reason, Share};
use crate::processes::{Described, ProcessId};
use crate::selection::{Selected, Selection};
use crate::traffic::{Name, Row, Traffic};

type Map<K, V> = HashMap<K, V, RandomState>;

/// The name of the line in which the smallest ended lines are folded together.
pub const ENDED: &str = "(ended)";

/// Where the bytes of a process stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How its line is named. No process may have the name of a line of the program's own: see
    /// [`crate::lookalike`].
    pub name: Name,
    /// Which of its bytes stand there; the others are shown nowhere.
    pub selected: Selected,
}

/// Decides on which line a process stands. Asked when its first bytes come, and again only when it
/// has changed what it is called.
pub trait Naming: fmt::Debug + Send {
    /// The line of such a process.
    fn line(&mut self, process: &Described) -> Line;

    /// What is shown of the bytes that have no process.
    fn of_unattributed(&self) -> Selected;
}

/// A process stands on the line of its command line.
impl Naming for Selection {
    fn line(&mut self, process: &Described) -> Line {
        Line { name: distinct(&process.command_line), selected: self.of(&process.command_line) }
    }

    fn of_unattributed(&self) -> Selected {
        Selection::of_unattributed(self)
    }
}

/// What a ledger shows and how much it remembers.
#[derive(Debug)]
pub struct Options {
    /// Who stands on which line.
    pub naming: Box<dyn Naming>,
    /// How many lines on which only ended processes stand are remembered by name.
    pub ended_lines: usize,
    /// How many bytes of memory their names may take. Where that is not enough the longest are cut.
    pub ended_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { naming: Box::<Selection>::default(), ended_lines: 1000, ended_bytes: 4 << 20 }
    }
}

/// What a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// All bytes so far.
    Traffic,
    /// Bytes per second since the refresh before, rounded down.
    Bandwidth,
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// All bytes so far.
    pub total: Traffic,
    /// Those of this refresh.
    pub recent: Traffic,
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Account) {
        self.total += other.total;
        self.recent += other.recent;
    }
}

/// The bytes of a process or a reason, those that never left this host apart.
#[derive(Clone, Copy, Debug, Default)]
struct Both {
    remote: Account,
    local: Account,
}

impl Both {
    fn of(&mut self, share: &Share) -> &mut Account {
        if share.local { &mut self.local } else { &mut self.remote }
    }

    fn credit(&mut self, share: &Share) {
        *self.of(share) += Account { total: share.traffic, recent: share.recent };
    }

    fn begin(&mut self) {
        self.remote.recent = Traffic::ZERO;
        self.local.recent = Traffic::ZERO;
    }

    fn selected(&self, selected: Selected) -> Account {
        let mut sum = if selected.remote { self.remote } else { Account::default() };
        if selected.local {
            sum += self.local;
        }
        sum
    }
}

#[derive(Debug)]
struct Live {
    process: Described,
    line: Line,
    bytes: Both,
}

#[derive(Debug)]
struct Ended {
    account: Account,
    /// When a process of this line ended last.
    last: u64,
}

impl Ended {
    /// The order of folding: the smallest first, of those that are as big the newest. No number of lines
    /// pushes out one that has carried more, or as much and before them.
    fn worth(&self) -> (u64, Reverse<u64>) {
        (self.account.total.total(), Reverse(self.last))
    }
}

/// Whether a process is what it was, with names that were cut.
fn is_cut(before: &Described, now: &Described) -> bool {
    let same = |before: &Name, now: &Name| before == now || is_shortened(before, now);
    let label = match (&before.label, &now.label) {
        (Some(before), Some(now)) => same(&before.name, &now.name),
        (before, now) => before.is_none() && now.is_none(),
    };
    label && same(&before.command_line, &now.command_line)
}

/// Accounts the shares of processes.
#[derive(Debug)]
pub struct Ledger {
    options: Options,
    live: Map<ProcessId, Live>,
    /// The lines of ended processes whose flows may still bring bytes: names of `ended`, or the folded one.
    names: Map<ProcessId, Line>,
    ended: Map<Name, Ended>,
    ended_bytes: usize,
    endings: u64,
    folded: Account,
    folded_name: Name,
    unattributed: [Both; Reason::ALL.len()],
    refreshed: Option<Instant>,
    elapsed: Duration,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(options: Options) -> Ledger {
        Ledger {
            options,
            live: Map::default(),
            names: Map::default(),
            ended: Map::default(),
            ended_bytes: 0,
            endings: 0,
            folded: Account::default(),
            folded_name: ENDED.as_bytes().into(),
            unattributed: Default::default(),
            refreshed: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Begins a refresh: what comes now is what its rates are made of.
    pub fn begin(&mut self) {
        for live in self.live.values_mut() {
            live.bytes.begin();
        }
        for ended in self.ended.values_mut() {
            ended.account.recent = Traffic::ZERO;
        }
        self.unattributed.iter_mut().for_each(Both::begin);
        self.folded.recent = Traffic::ZERO;
    }

    /// Accounts a share. `describe` tells of a process that has no line yet.
    pub fn credit(&mut self, share: &Share, describe: impl FnOnce() -> Described) {
        if let Some(reason) = share.from {
            let stood = self.unattributed[reason.index()].of(share);
            stood.total -= share.traffic - share.recent;
        }
        let process = match share.to {
            Ok(process) => process,
            Err(reason) => return self.unattributed[reason.index()].credit(share),
        };
        if let Some(live) = self.live.get_mut(&process) {
            return live.bytes.credit(share);
        }
        if let Some(Line { name, selected }) = self.names.get(&process) {
            if (share.local && selected.local) || (!share.local && selected.remote) {
                let line = self.ended.get_mut(name).map(|ended| &mut ended.account);
                *line.unwrap_or(&mut self.folded) +=
                    Account { total: share.traffic, recent: share.recent };
            }
            return;
        }
        let described = describe();
        let line = self.options.naming.line(&described);
        let mut live = Live { process: described, line, bytes: Both::default() };
        live.bytes.credit(share);
        self.live.insert(process, live);
    }

    /// Tells what a process is now, which may have called exec or set its title. Its bytes move
    /// along: a line is what its processes are called now. Where the name was only cut, what was decided by
    /// the whole of it stays.
    pub fn rename(&mut self, process: ProcessId, described: &Described) {
        let Some(live) = self.live.get_mut(&process).filter(|live| live.process != *described)
        else {
            return;
        };
        let before = std::mem::replace(&mut live.process, described.clone());
        if !is_cut(&before, described) {
            live.line = self.options.naming.line(described);
            return;
        }
        let lines = [&before, described].map(|of| {
            let label = of.label.as_ref().map(|label| &label.name);
            [Some(&of.command_line), label].into_iter().flatten()
        });
        let [before, now] = lines;
        for (before, now) in before.zip(now) {
            for named in [distinct, marked] {
                if live.line.name == named(before) {
                    live.line.name = named(now);
                    return;
                }
            }
        }
    }

    /// Decides anew for every process that lives. What has ended stays where it stood.
    pub fn set_naming(&mut self, naming: Box<dyn Naming>) {
        self.options.naming = naming;
        for live in self.live.values_mut() {
            live.line = self.options.naming.line(&live.process);
        }
    }

    /// Processes that have brought bytes in this refresh.
    pub fn active(&self) -> impl Iterator<Item = ProcessId> {
        let brought = |live: &Live| !live.bytes.selected(Selected::ALL).recent.is_zero();
        self.live.iter().filter(move |(_, live)| brought(live)).map(|(process, _)| *process)
    }

    /// Processes that have ended: their bytes stay on their line.
    pub fn ended(&mut self, processes: impl IntoIterator<Item = ProcessId>) {
        for process in processes {
            let Some(Live { line, bytes, .. }) = self.live.remove(&process) else { continue };
            let Line { name, selected } = line;
            if !selected.any() {
                self.names.insert(process, Line { name: self.folded_name.clone(), selected });
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
            let new = Ended { account: Account::default(), last: 0 };
            let ended = self.ended.entry(name.clone()).or_insert(new);
            ended.account += bytes.selected(selected);
            ended.last = self.endings;
            self.names.insert(process, Line { name, selected });
        }
        self.fold();
    }

    /// Forgets the names of ended processes to which no flow belongs any more.
    pub fn keep_names_of<S: BuildHasher>(&mut self, referenced: &HashSet<ProcessId, S>) {
        self.names.retain(|process, _| referenced.contains(process));
    }

    /// Folds ended lines into one where there are too many, and cuts names where they take too many bytes.
    /// Lines that a living process shares are no trouble, since they are shown anyway.
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

    /// Folds the lines of the least worth, but for the few that ended last, which somebody may look for.
    fn fold_lines(&mut self, living: &HashSet<Name>, renamed: &mut Map<Name, Name>) {
        let most = self.options.ended_lines;
        // A quarter of the room at once: so they are put in order for every 250th end, not for each.
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

    /// Cuts the longest names, of those that are about as long the newest first, until a quarter of the room
    /// is free. No line is folded because of others' names.
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
            let Some(Ended { account, last }) = self.ended.remove(&name) else { continue };
            let cut = shortened(&name, short);
            bytes -= name.len();
            self.ended_bytes -= name.len();
            if !self.ended.contains_key(&cut) {
                bytes += cut.len();
                self.ended_bytes += cut.len();
            }
            let new = Ended { account: Account::default(), last: 0 };
            let ended = self.ended.entry(cut.clone()).or_insert(new);
            ended.account += account;
            ended.last = ended.last.max(last);
            renamed.insert(name, cut);
        }
    }

    /// Ends a refresh that was taken `at` this time.
    pub fn end(&mut self, at: Instant) {
        self.elapsed =
            self.refreshed.map_or(Duration::ZERO, |before| at.saturating_duration_since(before));
        self.refreshed = Some(at);
    }

    /// How long this refresh has lasted; no time for the first one.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// What stands on each line, and on the one of what was folded; lines without bytes too, in no
    /// order.
    pub fn lines(&self) -> impl Iterator<Item = (&Name, Account)> {
        let live = self.live.values().filter(|live| live.line.selected.any());
        let live = live.map(|live| (&live.line.name, live.bytes.selected(live.line.selected)));
        let ended = self.ended.iter().map(|(name, ended)| (name, ended.account));
        let mut lines: Map<&Name, Account> = Map::default();
        for (name, account) in live.chain(ended).chain([(&self.folded_name, self.folded)]) {
            *lines.entry(name).or_default() += account;
        }
        lines.into_iter()
    }

    /// What has no process, for each reason why.
    pub fn unattributed_lines(&self) -> impl Iterator<Item = (Reason, Account)> {
        let selected = self.options.naming.of_unattributed();
        let accounts = self.unattributed.iter().map(move |both| both.selected(selected));
        Reason::ALL.into_iter().zip(accounts)
    }

    /// A row for each line, and one for the folded ones; those without bytes too, in no order.
    pub fn rows(&self, show: Show) -> Vec<Row> {
        let row = |(name, account): (&Name, Account)| Row {
            traffic: self.shown(&account, show),
            name: name.clone(),
        };
        self.lines().map(row).collect()
    }

    /// A row for each reason why bytes have no process, such as `(forwarded)`.
    pub fn unattributed(&self, show: Show) -> Vec<Row> {
        self.unattributed_lines()
            .map(|(reason, account)| Row::new(self.shown(&account, show), format!("({reason})")))
            .collect()
    }

    fn shown(&self, account: &Account, show: Show) -> Traffic {
        match show {
            Show::Traffic => account.total,
            Show::Bandwidth => account.recent.rate_over(self.elapsed).floor(),
        }
    }
}

#[cfg(test)]
mod tests;
