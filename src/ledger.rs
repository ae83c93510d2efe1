//! Totals and rates per process, over time and in bounded memory.
//!
//! The ledger knows neither where bytes come from nor how they are shown. Its time is what its
//! caller says it is.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::filter::Filter;
use crate::monitor::{Reason, Share};
use crate::processes::{CommandLine, ProcessId};
use crate::traffic::{Row, Traffic};

type Map<K, V> = HashMap<K, V, RandomState>;

/// The name of the line in which the oldest ended processes are folded together.
pub const ENDED: &str = "(ended)";

/// What a ledger counts and how much it remembers.
#[derive(Debug)]
pub struct Options {
    /// Which command lines have a line.
    pub filter: Filter,
    /// Whether flows that never left this host are left out.
    pub ignore_local: bool,
    /// How many command lines of ended processes are remembered by name.
    pub ended_lines: usize,
    /// How many bytes of memory their names may take.
    pub ended_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            filter: Filter::default(),
            ignore_local: false,
            ended_lines: 1000,
            ended_bytes: 4 << 20,
        }
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

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    total: Traffic,
    /// Bytes of this refresh.
    recent: Traffic,
}

impl Account {
    fn credit(&mut self, share: &Share) {
        self.total += share.traffic;
        self.recent += share.recent;
    }
}

#[derive(Debug)]
struct Live {
    command_line: CommandLine,
    /// Whether the filter selects it: asked once for a command line, not once a refresh.
    selected: bool,
    account: Account,
}

#[derive(Debug)]
struct Ended {
    account: Account,
    /// When a process of this line ended last: the order of folding.
    last: u64,
}

/// Accounts the shares of processes.
#[derive(Debug)]
pub struct Ledger {
    options: Options,
    live: Map<ProcessId, Live>,
    /// The command lines of ended processes whose flows may still bring bytes; `None` for one that
    /// the filter leaves out.
    names: Map<ProcessId, Option<CommandLine>>,
    ended: Map<CommandLine, Ended>,
    ended_bytes: usize,
    endings: u64,
    folded: Account,
    unattributed: [Account; Reason::ALL.len()],
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
            unattributed: Default::default(),
            refreshed: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Begins a refresh: what comes now is what its rates are made of.
    pub fn begin(&mut self) {
        for live in self.live.values_mut() {
            live.account.recent = Traffic::ZERO;
        }
        for ended in self.ended.values_mut() {
            ended.account.recent = Traffic::ZERO;
        }
        for account in self.unattributed.iter_mut().chain([&mut self.folded]) {
            account.recent = Traffic::ZERO;
        }
    }

    /// Accounts a share. `command_line` names a process that has none of the ledger's lines yet.
    pub fn credit(&mut self, share: &Share, command_line: impl FnOnce() -> CommandLine) {
        if share.local && self.options.ignore_local {
            return;
        }
        if let Some(reason) = share.from {
            self.unattributed[reason.index()].total -= share.traffic - share.recent;
        }
        let process = match share.to {
            Ok(process) => process,
            Err(reason) => return self.unattributed[reason.index()].credit(share),
        };
        if let Some(live) = self.live.get_mut(&process) {
            return live.account.credit(share);
        }
        match self.names.get(&process) {
            Some(Some(name)) => {
                let line = self.ended.get_mut(name).map(|ended| &mut ended.account);
                return line.unwrap_or(&mut self.folded).credit(share);
            }
            Some(None) => return,
            None => {}
        }
        let mut live =
            Live { selected: false, command_line: command_line(), account: Account::default() };
        live.selected = self.options.filter.selects(&live.command_line);
        live.account.credit(share);
        self.live.insert(process, live);
    }

    /// Renames a process that has called exec or set its title. Its bytes move along: a line is
    /// what its processes are called now.
    pub fn rename(&mut self, process: ProcessId, command_line: &CommandLine) {
        if let Some(live) = self.live.get_mut(&process)
            && live.command_line != *command_line
        {
            live.command_line = command_line.clone();
            live.selected = self.options.filter.selects(command_line);
        }
    }

    /// Processes that have brought bytes in this refresh.
    pub fn active(&self) -> impl Iterator<Item = ProcessId> {
        self.live.iter().filter(|(_, l)| !l.account.recent.is_zero()).map(|(process, _)| *process)
    }

    /// Processes that have ended: their bytes stay on their command line.
    pub fn ended(&mut self, processes: impl IntoIterator<Item = ProcessId>) {
        for process in processes {
            let Some(live) = self.live.remove(&process) else { continue };
            if !live.selected {
                self.names.insert(process, None);
                continue;
            }
            self.names.insert(process, Some(live.command_line.clone()));
            if !self.ended.contains_key(&live.command_line) {
                self.ended_bytes += live.command_line.len();
            }
            let ended = self
                .ended
                .entry(live.command_line)
                .or_insert(Ended { account: Account::default(), last: 0 });
            ended.account.total += live.account.total;
            ended.account.recent += live.account.recent;
            self.endings += 1;
            ended.last = self.endings;
        }
        self.fold();
    }

    /// Forgets the names of ended processes to which no flow belongs any more.
    pub fn keep_names_of<S: BuildHasher>(&mut self, referenced: &HashSet<ProcessId, S>) {
        self.names.retain(|process, _| referenced.contains(process));
    }

    /// Folds the oldest ended lines into one where there are too many; those that a living process
    /// shares are no trouble, since they are shown anyway.
    fn fold(&mut self) {
        let too_many = |ledger: &Ledger| {
            ledger.ended.len() > ledger.options.ended_lines
                || ledger.ended_bytes > ledger.options.ended_bytes
        };
        if !too_many(self) {
            return;
        }
        let living: HashSet<&CommandLine> = self.live.values().map(|l| &l.command_line).collect();
        let mut oldest: Vec<(u64, CommandLine)> = self
            .ended
            .iter()
            .filter(|(name, _)| !living.contains(name))
            .map(|(name, ended)| (ended.last, name.clone()))
            .collect();
        oldest.sort_unstable();
        for (_, name) in oldest {
            if !too_many(self) {
                break;
            }
            if let Some(ended) = self.ended.remove(&name) {
                self.ended_bytes -= name.len();
                self.folded.total += ended.account.total;
                self.folded.recent += ended.account.recent;
            }
        }
    }

    /// Ends a refresh that was taken `at` this time.
    pub fn end(&mut self, at: Instant) {
        self.elapsed =
            self.refreshed.map_or(Duration::ZERO, |before| at.saturating_duration_since(before));
        self.refreshed = Some(at);
    }

    /// A row for each command line that the filter selects, and one for the folded ones; those
    /// without bytes too, in no order.
    pub fn rows(&self, show: Show) -> Vec<Row> {
        let live = self.live.values().filter(|l| l.selected).map(|l| (&l.command_line, &l.account));
        let ended = self.ended.iter().map(|(command_line, e)| (command_line, &e.account));
        let mut lines: Map<&[u8], Account> = Map::default();
        for (command_line, account) in live.chain(ended) {
            let line = lines.entry(command_line).or_default();
            line.total += account.total;
            line.recent += account.recent;
        }
        let mut rows: Vec<Row> = lines
            .into_iter()
            .map(|(name, account)| Row::new(self.shown(&account, show), name.to_vec()))
            .collect();
        rows.push(Row::new(self.shown(&self.folded, show), ENDED));
        rows
    }

    /// A row for each reason why bytes have no process, such as `(forwarded)`.
    pub fn unattributed(&self, show: Show) -> Vec<Row> {
        Reason::ALL
            .into_iter()
            .zip(&self.unattributed)
            .map(|(reason, account)| Row::new(self.shown(account, show), format!("({reason})")))
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
