//! What the screen shows, and what the user has chosen. Pure: time comes with the snapshots.

use std::sync::Arc;
use std::time::Instant;

use super::columns::{Column, Columns};
use super::detail::Detail;
use super::filter::Filter;
use super::order::Order;
use super::rates::{Meters, Window};
use super::rows::{self, Entry, Fact, Key, places};
use super::theme::Theme;
use crate::by::{By, Names, grouped};
use crate::model::traffic::Rate;
use crate::model::{Row, Snapshot};
use crate::render::Frame;
use crate::render::units::Units;

/// The window after which a row without bytes is idle.
const IDLE: Window = Window::Seconds(40);

/// What the screen is given at the start.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The program's name.
    pub program: &'static str,
    /// The host's name.
    pub host: String,
    /// The units at the start.
    pub units: Option<Units>,
    /// Whether totals are shown at the start, instead of rates.
    pub totals: bool,
    /// What rows are grouped by at the start; empty for the rows as they are.
    pub by: Vec<By>,
    /// Names of addresses and ports, if they are wanted.
    pub names: Option<Arc<dyn Names>>,
}

/// Where the user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The list.
    List,
    /// A row.
    Detail,
    /// The choice of columns.
    Columns,
    /// The messages.
    Messages,
    /// The keys.
    Help,
}

/// The text of a filter that is being typed, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompt {
    pub text: String,
    pub error: Option<String>,
}

/// What arrives while the screen is frozen.
#[derive(Clone, Debug)]
pub(super) struct Live {
    frame: Frame,
    meters: Meters<Key>,
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(super) setup: Setup,
    /// The refresh that is shown.
    pub(super) frame: Frame,
    /// Its rows, if they are grouped.
    grouped: Option<Vec<Row>>,
    groupings: Vec<Vec<By>>,
    grouping: usize,
    /// The first refresh.
    pub(super) begun: Option<Instant>,
    pub(super) meters: Meters<Key>,
    pub(super) live: Option<Box<Live>>,
    order: Order<Key>,
    /// All lines in order.
    pub(super) entries: Vec<Entry>,
    /// The indices of those that are listed.
    pub(super) listed: Vec<usize>,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) totals: bool,
    pub(super) window: Window,
    pub(super) units: Option<Units>,
    pub(super) theme: Theme,
    pub(super) columns: Columns,
    pub(super) shows_idle: bool,
    pub(super) filter: Filter,
    pub(super) filter_text: String,
    pub(super) prompt: Option<Prompt>,
    /// Where the user is; the last one is shown.
    pub(super) places: Vec<Place>,
    pub(super) detail: Option<Detail>,
    /// The selected line; none is the first.
    pub(super) selected: Option<Key>,
    /// The index of the selected line among those that are listed.
    pub(super) cursor: usize,
    /// The first line of the list on the screen, and the first of another text.
    pub(super) offset: usize,
    pub(super) scroll: usize,
    /// The selected column in the choice of columns.
    pub(super) chosen: usize,
    pub(super) width: u16,
    pub(super) height: u16,
    /// The number of messages at the last refresh, and when there were more than before.
    pub(super) said: usize,
    pub(super) said_at: Option<Instant>,
    /// Whether the user wants the program to end.
    pub(crate) ended: bool,
}

impl State {
    /// Nothing, until the first refresh.
    pub(crate) fn new(setup: Setup) -> State {
        let snapshot = Arc::new(Snapshot::default());
        let (above, alerts, if_empty) = Default::default();
        State {
            groupings: groupings(&setup.by),
            units: setup.units,
            totals: setup.totals,
            setup,
            frame: Frame { snapshot, above, if_empty, alerts },
            grouped: None,
            grouping: 0,
            begun: None,
            meters: Meters::default(),
            live: None,
            order: Order::default(),
            entries: Vec::new(),
            listed: Vec::new(),
            sort: Column::Share,
            reversed: false,
            window: Window::Seconds(10),
            theme: Theme::of_environment(),
            columns: Columns::default(),
            shows_idle: false,
            filter: Filter::default(),
            filter_text: String::new(),
            prompt: None,
            places: vec![Place::List],
            detail: None,
            selected: None,
            cursor: 0,
            offset: 0,
            scroll: 0,
            chosen: 0,
            width: 80,
            height: 24,
            said: 0,
            said_at: None,
            ended: false,
        }
    }

    /// Takes a refresh. The same one may come again with other messages.
    pub(crate) fn refresh(&mut self, frame: Frame) {
        let shown = self.live.as_ref().map_or(&self.frame, |live| &live.frame);
        let is_new = shown.snapshot.seq != frame.snapshot.seq;
        let snapshot = frame.snapshot.clone();
        self.begun.get_or_insert(snapshot.instant);
        if frame.above.len() != self.said || frame.above.last() != self.frame.above.last() {
            (self.said, self.said_at) = (frame.above.len(), Some(snapshot.instant));
        }
        if let Some(live) = &mut self.live {
            if is_new {
                let by = &self.groupings[self.grouping];
                let grouped = rows_of(by, &snapshot, self.setup.names.as_deref());
                feed(&mut live.meters, &snapshot, grouped.as_deref().unwrap_or(&snapshot.rows));
            }
            live.frame = frame;
            return;
        }
        self.frame = frame;
        if is_new {
            self.grouped = self.rows_of(&snapshot);
            let rows = self.grouped.as_deref().unwrap_or(&snapshot.rows);
            feed(&mut self.meters, &snapshot, rows);
            if let Some(detail) = &mut self.detail {
                detail.feed(&snapshot, rows);
            }
            self.arrange();
        }
    }

    /// What rows are grouped by; empty for the rows as they are.
    pub(super) fn by(&self) -> &[By] {
        &self.groupings[self.grouping]
    }

    fn rows_of(&self, snapshot: &Snapshot) -> Option<Vec<Row>> {
        rows_of(self.by(), snapshot, self.setup.names.as_deref())
    }

    /// The rows of the refresh, grouped as the user has chosen.
    pub(super) fn rows(&self) -> &[Row] {
        self.grouped.as_deref().unwrap_or(&self.frame.snapshot.rows)
    }

    /// The row of a line.
    pub(super) fn row(&self, entry: &Entry) -> Option<&Row> {
        self.rows().get(entry.row?)
    }

    /// Stops showing what is new, or continues.
    pub(super) fn freeze(&mut self) {
        match self.live.take() {
            Some(live) => {
                let Live { frame, meters } = *live;
                self.meters = meters;
                self.frame = frame;
                self.grouped = self.rows_of(&self.frame.snapshot);
                self.detail.iter_mut().for_each(Detail::restart);
                self.arrange();
            }
            None => {
                let (frame, meters) = (self.frame.clone(), self.meters.clone());
                self.live = Some(Box::new(Live { frame, meters }));
            }
        }
    }

    /// Groups by the next attribute. Histories begin anew, since the rows are others.
    pub(super) fn group(&mut self) {
        self.grouping = (self.grouping + 1) % self.groupings.len();
        self.grouped = self.rows_of(&self.frame.snapshot);
        let snapshot = self.frame.snapshot.clone();
        let restart = |meters: &mut Meters<Key>, rows: &[Row]| {
            *meters = Meters::default();
            feed(meters, &snapshot, rows);
        };
        restart(&mut self.meters, self.grouped.as_deref().unwrap_or(&snapshot.rows));
        if let Some(live) = &mut self.live {
            live.meters = self.meters.clone();
        }
        (self.selected, self.offset) = (None, 0);
        self.resort();
    }

    /// Forgets the order and makes it anew.
    pub(super) fn resort(&mut self) {
        self.order.reset();
        self.arrange();
    }

    /// Computes the lines: their rates, their order, and which of them are listed.
    pub(super) fn arrange(&mut self) {
        let mut entries = rows::entries(&self.frame.snapshot, self.rows());
        let steady = match self.window {
            Window::Raw | Window::Seconds(..10) => Window::Seconds(10),
            window => window,
        };
        let snapshot = self.frame.snapshot.clone();
        for entry in &mut entries {
            let raw = || {
                let account = match (&entry.key, entry.row) {
                    (_, Some(row)) => self.rows().get(row).map(|row| row.account),
                    (Key::Reason(reason), None) => snapshot
                        .unattributed
                        .iter()
                        .find(|of| of.reason == *reason)
                        .map(|of| of.account),
                    _ => None,
                };
                account.map_or(Rate::default(), |account| snapshot.rate(&account))
            };
            let rate = |window| self.meters.rate(&entry.key, window);
            entry.rate = match self.window {
                Window::Raw => raw(),
                window => rate(window).unwrap_or_else(raw),
            };
            let mean = rate(steady).unwrap_or_else(raw);
            entry.steady = match self.sort {
                Column::In => mean.received,
                Column::Out => mean.sent,
                _ => mean.received + mean.sent,
            };
            let lately = rate(IDLE).unwrap_or_else(raw);
            entry.active = lately.received + lately.sent > 0.0;
        }
        self.sort(&mut entries);
        self.entries = entries;
        self.list();
    }

    /// Whether the order is by a rate.
    pub(super) fn is_steady(&self) -> bool {
        matches!(self.sort, Column::In | Column::Out) || self.sort == Column::Share && !self.totals
    }

    fn sort(&mut self, entries: &mut Vec<Entry>) {
        // Among equals: by bytes, then by name.
        let name = |entry: &Entry| match &entry.key {
            Key::Row(name) => (0, name.clone(), 0),
            Key::Reason(reason) => (1, [].into(), reason.index()),
            Key::Sum => (2, [].into(), 0),
        };
        entries.sort_by_cached_key(|entry| (std::cmp::Reverse(entry.total.total()), name(entry)));
        if self.is_steady() {
            self.order.arrange(entries, |entry| &entry.key, |entry| entry.steady);
        } else {
            let rows = self.rows();
            let row = |entry: &Entry| entry.row.and_then(|row| rows.get(row));
            let text = |fact: Fact, entry: &Entry| {
                row(entry).and_then(|row| fact.all(row).first().map(|name| (*name).clone()))
            };
            let least = |entry: &Entry| row(entry)?.processes.iter().map(|of| of.pid).min();
            // What has no text comes last.
            let last = |text: Option<_>| (text.is_none(), text);
            match self.sort {
                Column::TotalIn => entries.sort_by_key(|of| std::cmp::Reverse(of.total.received)),
                Column::TotalOut => entries.sort_by_key(|of| std::cmp::Reverse(of.total.sent)),
                Column::Name => entries.sort_by_cached_key(name),
                Column::User => entries.sort_by_cached_key(|of| last(text(Fact::User, of))),
                Column::Program => entries.sort_by_cached_key(|of| last(text(Fact::Program, of))),
                Column::Place => entries.sort_by_cached_key(|of| {
                    last(row(of).and_then(|row| places(row).first().map(|name| (*name).clone())))
                }),
                Column::Pid => {
                    entries.sort_by_cached_key(|of| (least(of).is_none(), least(of)));
                }
                Column::Ends => entries.sort_by_cached_key(|of| {
                    std::cmp::Reverse(row(of).map_or(0, |row| row.details.len()))
                }),
                // Sorted by all bytes already.
                _ => {}
            }
        }
    }

    /// Chooses the lines that are listed.
    pub(super) fn list(&mut self) {
        let is_listed = |entry: &Entry| {
            (self.shows_idle || self.totals || entry.active)
                && self.filter.matches(&entry.key, self.row(entry))
        };
        let mut listed: Vec<usize> = (0..self.entries.len()).collect();
        listed.retain(|at| is_listed(&self.entries[*at]));
        if self.reversed {
            listed.reverse();
        }
        self.listed = listed;
        self.settle();
    }
}

/// What rows can be grouped by, in the order of the key; nothing for the rows as they are.
const GROUPINGS: [&[By]; 12] = [
    &[],
    &[By::Program],
    &[By::User],
    &[By::Unit],
    &[By::Container],
    &[By::Pod],
    &[By::Remote],
    &[By::RemotePort],
    &[By::Interface],
    &[By::Protocol],
    &[By::Process],
    &[By::Exe],
];

/// The groupings that the key cycles through, from the one at the start.
fn groupings(first: &[By]) -> Vec<Vec<By>> {
    let first = if first == [By::Command] { &[] } else { first };
    let mut all: Vec<Vec<By>> = GROUPINGS.iter().map(|by| by.to_vec()).collect();
    match all.iter().position(|by| by == first) {
        Some(at) => all.rotate_left(at),
        None => all.insert(0, first.to_vec()),
    }
    all
}

/// What a grouping is called.
pub(super) fn called(by: &[By]) -> String {
    match by {
        [] => "command line".to_owned(),
        by => by.iter().map(|by| by.name()).collect::<Vec<_>>().join(", "),
    }
}

/// The rows of a snapshot, grouped; `None` if they stay as they are.
fn rows_of(by: &[By], snapshot: &Snapshot, names: Option<&dyn Names>) -> Option<Vec<Row>> {
    (!by.is_empty()).then(|| grouped(snapshot, by, names))
}

/// Adds a refresh to the histories.
fn feed(meters: &mut Meters<Key>, snapshot: &Snapshot, rows: &[Row]) {
    // The first refresh may have the bytes of a whole day.
    if snapshot.elapsed.is_zero() {
        return;
    }
    meters.begin(snapshot.elapsed);
    meters.add(&Key::Sum, snapshot.counted.recent);
    rows.iter().for_each(|row| meters.add(&Key::Row(row.name.clone()), row.account.recent));
    for of in &snapshot.unattributed {
        meters.add(&Key::Reason(of.reason), of.account.recent);
    }
}
