//! Totals and rates per process, over time and in bounded memory.
//!
//! The ledger knows neither the sources of bytes nor the outputs. The caller supplies the time.

mod details;
mod ended;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::attribution::Share;
use crate::brief::is_shortened;
use crate::lookalike::{distinct, marked};
use crate::model::owner::{Owner, Reason};
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Attributes, Kind, Part, Process, Rows, Unattributed};
use crate::processes::{Described, ProcessId};
use crate::selection::{Only, Selected, Selection};

use details::{Details, Room};
use ended::Ended;

type Map<K, V> = HashMap<K, V, RandomState>;

/// The name of the line into which the smallest ended lines are folded.
pub(crate) const ENDED: &str = "(ended)";

/// The line of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The name of the line. No process may have the name of a line of the program's own: see
    /// module `lookalike`.
    pub name: Name,
    /// The kind of the line.
    pub kind: Kind,
    /// The part of its bytes that the line shows; the rest is left out.
    pub selected: Selected,
}

/// Decides the line of a process: when its first bytes come, and again only when its name has
/// changed.
pub(crate) trait Naming: fmt::Debug + Send {
    /// The line of a process with this name.
    fn line(&mut self, process: &Described) -> Line;

    /// The part of the bytes without a process that is shown.
    fn of_unattributed(&self) -> Selected;
}

/// Without groups, the line of a process is that of its command line.
impl Naming for Selection {
    fn line(&mut self, process: &Described) -> Line {
        let selected = self.of(&process.command_line);
        Line { name: distinct(&process.command_line), kind: Kind::Process, selected }
    }

    fn of_unattributed(&self) -> Selected {
        Selection::of_unattributed(self)
    }
}

/// The options of a ledger.
#[derive(Debug)]
pub(crate) struct Options {
    /// Decides the lines of processes.
    pub naming: Box<dyn Naming>,
    /// Maximum number of lines of ended processes that are kept by name.
    pub ended_lines: usize,
    /// Maximum bytes of the names of ended processes. Beyond it the longest are cut.
    pub ended_bytes: usize,
    /// Whether the bytes of each remote end are kept.
    pub details: bool,
    /// The processes whose bytes are shown; those of others are left out.
    pub only: Only,
}

impl Options {
    /// The line of a process.
    fn line(&mut self, process: ProcessId, described: &Described) -> Line {
        let mut line = self.naming.line(described);
        if !self.only.selects(process, described.attributes.as_deref()) {
            line.selected = Selected::default();
        }
        line
    }

    /// The part of the bytes without a process that is shown.
    fn of_unattributed(&self) -> Selected {
        if self.only.is_all() { self.naming.of_unattributed() } else { Selected::default() }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            naming: Box::<Selection>::default(),
            ended_lines: 1000,
            ended_bytes: 4 << 20,
            details: false,
            only: Only::default(),
        }
    }
}

/// The bytes of a process or a reason; local ones separately.
#[derive(Clone, Copy, Debug, Default)]
struct Both {
    remote: Account,
    local: Account,
}

impl Both {
    fn place(&mut self, local: bool) -> &mut Account {
        if local { &mut self.local } else { &mut self.remote }
    }

    fn credit(&mut self, share: &Share) {
        *self.place(share.local) += Account { total: share.traffic, recent: share.recent };
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

    fn add(&mut self, other: Both) {
        self.remote += other.remote;
        self.local += other.local;
    }

    fn all(&self) -> Account {
        self.selected(Selected::ALL)
    }
}

#[derive(Debug)]
struct Live {
    process: Described,
    line: Line,
    bytes: Both,
    /// `None` if they are not kept.
    details: Option<Box<Details>>,
}

impl Live {
    fn credit(&mut self, share: &Share, room: &mut Room) {
        self.bytes.credit(share);
        if let Some(details) = &mut self.details {
            details.credit(share, room);
        }
    }
}

/// Where bytes of ended processes go that come late. Processes that ended alike share one.
#[derive(Debug, PartialEq, Eq)]
struct Late {
    name: Name,
    selected: Selected,
    attributes: Option<Arc<Attributes>>,
}

/// Whether a process is the same as before, except for names that were cut.
fn is_cut(before: &Described, now: &Described) -> bool {
    let same = |before: &Name, now: &Name| before == now || is_shortened(before, now);
    let label = match (&before.label, &now.label) {
        (Some(before), Some(now)) => same(&before.name, &now.name),
        (before, now) => before.is_none() && now.is_none(),
    };
    label && same(&before.command_line, &now.command_line)
}

/// Accounts shares.
#[derive(Debug)]
pub(crate) struct Ledger {
    options: Options,
    live: Map<ProcessId, Live>,
    /// The lines of ended processes whose flows may still bring bytes: names of `ended`, or the
    /// folded line.
    names: Map<ProcessId, Arc<Late>>,
    ended: Map<Name, Ended>,
    ended_bytes: usize,
    endings: u64,
    folded: Account,
    folded_name: Name,
    unattributed: [Both; Reason::ALL.len()],
    /// Bytes of ended processes that are on no line.
    left_out: Account,
    /// All bytes ever credited.
    counted: Account,
    /// The shown part of bytes without a process, once nothing is credited any more.
    retired: Option<Selected>,
    refreshed: Option<Instant>,
    elapsed: Duration,
    room: Room,
}

impl Ledger {
    /// An empty ledger.
    pub(crate) fn new(options: Options) -> Ledger {
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
            left_out: Account::default(),
            counted: Account::default(),
            retired: None,
            refreshed: None,
            elapsed: Duration::ZERO,
            room: Room { listed: 0, sets: 0 },
        }
    }

    /// Starts a refresh: rates are made of bytes from here on.
    pub(crate) fn begin(&mut self) {
        if self.options.details {
            self.room.sets = self.live.len() + self.ended.len();
        }
        for live in self.live.values_mut() {
            live.bytes.begin();
            live.details.iter_mut().for_each(|details| details.begin(&mut self.room));
        }
        for ended in self.ended.values_mut() {
            ended.begin(&mut self.room);
        }
        self.unattributed.iter_mut().for_each(Both::begin);
        for account in [&mut self.folded, &mut self.left_out, &mut self.counted] {
            account.recent = Traffic::ZERO;
        }
    }

    /// Accounts a share. `describe` gives the name of a process that has no line yet.
    pub(crate) fn credit(&mut self, share: &Share, describe: impl FnOnce() -> Described) {
        self.counted += Account { total: share.traffic, recent: share.recent };
        if let Some(reason) = share.from {
            let moved = share.traffic - share.recent;
            self.unattributed[reason.index()].place(share.local).total -= moved;
            self.counted.total -= moved;
        }
        let process = match share.to {
            Owner::Process(process) => process,
            Owner::Unseen { pid, comm } => {
                let process = ProcessId { pid, start_time: 0 };
                return self.credit_unseen(share, process, comm);
            }
            Owner::Nobody(reason) => return self.unattributed[reason.index()].credit(share),
        };
        if let Some(live) = self.live.get_mut(&process) {
            return live.credit(share, &mut self.room);
        }
        if let Some(late) = self.names.get(&process) {
            let Late { name, selected, attributes } = &**late;
            let is_selected = if share.local { selected.local } else { selected.remote };
            let account = Account { total: share.traffic, recent: share.recent };
            match self.ended.get_mut(name) {
                _ if !is_selected => self.left_out += account,
                Some(ended) => {
                    ended.credit(share, attributes, self.options.details, &mut self.room);
                }
                None => self.folded += account,
            }
            return;
        }
        let described = describe();
        let line = self.options.line(process, &described);
        let details = self.options.details.then(Box::default);
        let mut live = Live { process: described, line, bytes: Both::default(), details };
        live.credit(share, &mut self.room);
        self.live.insert(process, live);
    }

    /// Updates the name of a process, which may have called exec or set its title. Its bytes move along: a
    /// line has the current name of its processes. If the name was only cut, the decisions made by the
    /// whole name stay.
    pub(crate) fn rename(&mut self, process: ProcessId, described: &Described) {
        let Some(live) = self.live.get_mut(&process).filter(|live| live.process != *described)
        else {
            return;
        };
        let before = std::mem::replace(&mut live.process, described.clone());
        let is_whole = before.command_line == described.command_line;
        if !is_cut(&before, described) || is_whole && before.label == described.label {
            live.line = self.options.line(process, described);
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

    /// Decides the line of every living process again. Bytes of ended ones stay on their lines.
    pub(crate) fn set_naming(&mut self, naming: Box<dyn Naming>) {
        self.options.naming = naming;
        for (process, live) in &mut self.live {
            live.line = self.options.line(*process, &live.process);
        }
    }

    /// Processes that had bytes in this refresh.
    pub(crate) fn active(&self) -> impl Iterator<Item = ProcessId> {
        let brought = |live: &Live| !live.bytes.all().recent.is_zero();
        self.live.iter().filter(move |(_, live)| brought(live)).map(|(process, _)| *process)
    }

    /// Ends a refresh that was taken `at` this time.
    pub(crate) fn end(&mut self, at: Instant) {
        self.elapsed =
            self.refreshed.map_or(Duration::ZERO, |before| at.saturating_duration_since(before));
        self.refreshed = Some(at);
    }

    /// Whether the bytes of each remote end are kept.
    pub(crate) fn has_details(&self) -> bool {
        self.options.details
    }

    /// Length of this refresh; zero for the first one.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether recent bytes have no known time: there was no refresh before.
    fn is_timeless(&self) -> bool {
        self.elapsed.is_zero()
    }

    /// An account whose recent bytes are zero if their time is unknown.
    fn timed(&self, account: Account) -> Account {
        if self.is_timeless() { Account { recent: Traffic::ZERO, ..account } } else { account }
    }

    /// Adds all lines, including the folded one.
    pub(crate) fn add_rows(&self, rows: &mut Rows) {
        let timed = |account| self.timed(account);
        for (id, Live { process, line, bytes, details }) in &self.live {
            let account = self.timed(bytes.selected(line.selected));
            if account.is_zero() {
                continue;
            }
            let row = rows.add(&line.name, line.kind, account);
            let details = details.as_ref();
            row.processes.push(Process {
                pid: id.pid,
                start: id.start_time,
                command_line: process.command_line.clone(),
                account,
                attributes: process.attributes.clone(),
                details: details.map_or_else(Vec::new, |of| of.selected(line.selected, timed)),
                facts: None,
            });
        }
        rows.reserve(self.ended.len() + 1);
        for (name, ended) in &self.ended {
            let row = rows.add(name, ended.kind, self.timed(ended.account));
            row.parts.extend(ended.parts().map(|(attributes, account, details)| Part {
                attributes: attributes.clone(),
                account: self.timed(account),
                details: details.map_or_else(Vec::new, |of| of.selected(Selected::ALL, timed)),
            }));
        }
        if !self.folded.is_zero() {
            rows.add(&self.folded_name, Kind::Folded, self.timed(self.folded));
        }
    }

    /// The shown part of the bytes without a process.
    fn of_unattributed(&self) -> Selected {
        self.retired.unwrap_or_else(|| self.options.of_unattributed())
    }

    /// Bytes without a process, for each reason that has any.
    pub(crate) fn unattributed(&self) -> impl Iterator<Item = Unattributed> {
        let selected = self.of_unattributed();
        let accounts =
            self.unattributed.iter().map(move |both| self.timed(both.selected(selected)));
        Reason::ALL
            .into_iter()
            .zip(accounts)
            .map(|(reason, account)| Unattributed { reason, account })
            .filter(|unattributed| !unattributed.account.is_zero())
    }

    /// Bytes neither on a line nor under a reason, because they are not selected.
    pub(crate) fn left_out(&self) -> Account {
        let left_out = |bytes: &Both, selected| bytes.all() - bytes.selected(selected);
        let of_unattributed = self.of_unattributed();
        let live = self.live.values().map(|live| left_out(&live.bytes, live.line.selected));
        let unattributed = self.unattributed.iter().map(|both| left_out(both, of_unattributed));
        self.timed(live.chain(unattributed).chain([self.left_out]).sum())
    }

    /// All credited bytes: on lines, under reasons, and [left out](Ledger::left_out).
    pub(crate) fn counted(&self) -> Account {
        self.timed(self.counted)
    }
}

#[cfg(test)]
mod tests;
