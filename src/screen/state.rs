//! What the screen shows, and what the user has chosen. Pure: time comes with the snapshots.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::columns::{Column, Columns};
use super::detail::Detail;
use super::filter::Filter;
use super::order::Order;
use super::rates::{Meters, Window};
use super::rows::{Entry, Key};
use super::theme::Theme;
use crate::by::{By, Names, grouped};
use crate::model::{Row, Snapshot};
use crate::render::Frame;
use crate::render::units::Units;

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
    /// The columns at the start; empty for those that matter most.
    pub columns: Vec<Column>,
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
    sums: Meters<()>,
}

/// The state of the screen.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(super) setup: Setup,
    /// The refresh that is shown.
    pub(super) frame: Frame,
    /// Its rows, if they are grouped.
    grouped: Option<Vec<Row>>,
    /// What rows can be grouped by, in the order of the key; the first one is that of now.
    pub(super) groupings: VecDeque<Vec<By>>,
    /// The first refresh.
    pub(super) begun: Option<Instant>,
    pub(super) meters: Meters<Key>,
    /// The bytes of everything.
    pub(super) sums: Meters<()>,
    pub(super) live: Option<Box<Live>>,
    pub(super) order: Order<Key>,
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
            units: setup.units,
            totals: setup.totals,
            groupings: groupings(&setup.by),
            frame: Frame { snapshot, above, if_empty, alerts },
            grouped: None,
            begun: None,
            meters: Meters::default(),
            sums: Meters::default(),
            live: None,
            order: Order::default(),
            entries: Vec::new(),
            listed: Vec::new(),
            sort: Column::Share,
            reversed: false,
            window: Window::Seconds(10),
            theme: Theme::of_environment(),
            columns: Columns::of(&setup.columns),
            setup,
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
        let grouped = if is_new { self.rows_of(&snapshot) } else { None };
        if let Some(live) = &mut self.live {
            if is_new {
                feed(&mut live.meters, &snapshot, grouped.as_deref().unwrap_or(&snapshot.rows));
                feed_sum(&mut live.sums, &snapshot);
            }
            live.frame = frame;
            return;
        }
        self.frame = frame;
        if is_new {
            self.grouped = grouped;
            let rows = self.grouped.as_deref().unwrap_or(&snapshot.rows);
            feed(&mut self.meters, &snapshot, rows);
            feed_sum(&mut self.sums, &snapshot);
            if let Some(detail) = &mut self.detail {
                detail.feed(&snapshot, rows);
            }
            self.arrange();
        }
    }

    /// The rows of the refresh, grouped as the user has chosen.
    pub(super) fn rows(&self) -> &[Row] {
        self.grouped.as_deref().unwrap_or(&self.frame.snapshot.rows)
    }

    /// What rows are grouped by; nothing if they are shown as they are.
    pub(super) fn by(&self) -> &[By] {
        self.groupings.front().map_or(&[], |by| by)
    }

    /// The rows of a snapshot, grouped; `None` if they stay as they are.
    fn rows_of(&self, snapshot: &Snapshot) -> Option<Vec<Row>> {
        let by = self.by();
        (!by.is_empty()).then(|| grouped(snapshot, by, self.setup.names.as_deref()))
    }

    /// The row of a line.
    pub(super) fn row(&self, entry: &Entry) -> Option<&Row> {
        self.rows().get(entry.row?)
    }

    /// Stops showing what is new, or continues.
    pub(super) fn freeze(&mut self) {
        match self.live.take() {
            Some(live) => {
                let Live { frame, meters, sums } = *live;
                (self.frame, self.meters, self.sums) = (frame, meters, sums);
                self.grouped = self.rows_of(&self.frame.snapshot);
                self.detail.iter_mut().for_each(Detail::restart);
                self.arrange();
            }
            None => {
                let (frame, meters) = (self.frame.clone(), self.meters.clone());
                let sums = self.sums.clone();
                self.live = Some(Box::new(Live { frame, meters, sums }));
            }
        }
    }

    /// Groups by the next attribute, or the one before. Histories begin anew, since the rows are others.
    pub(super) fn group(&mut self, next: bool) {
        match next {
            true => self.groupings.rotate_left(1),
            false => self.groupings.rotate_right(1),
        }
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
}

/// What rows can be grouped by, in the order of the key: first what is asked for.
fn groupings(first: &[By]) -> VecDeque<Vec<By>> {
    // Rows as they are have a command line each, or an application.
    let first = if first == [By::Command] { &[] } else { first };
    let single = [
        By::Process,
        By::Program,
        By::Exe,
        By::User,
        By::Unit,
        By::Container,
        By::Pod,
        By::Remote,
        By::RemotePort,
        By::Interface,
        By::Protocol,
    ];
    // As they are, and by each of these.
    let known = [Vec::new()].into_iter().chain(single.map(|by| vec![by]));
    [first.to_vec()].into_iter().chain(known.filter(|by| by != first)).collect()
}

/// Adds a refresh to the histories.
fn feed(meters: &mut Meters<Key>, snapshot: &Snapshot, rows: &[Row]) {
    // The first refresh may have the bytes of a whole day.
    if snapshot.elapsed.is_zero() {
        return;
    }
    meters.begin(snapshot.elapsed);
    rows.iter().for_each(|row| meters.add(&Key::Row(row.name.clone()), row.account.recent));
    for of in &snapshot.unattributed {
        meters.add(&Key::Reason(of.reason), of.account.recent);
    }
}

/// Adds a refresh to the history of everything.
fn feed_sum(sums: &mut Meters<()>, snapshot: &Snapshot) {
    if !snapshot.elapsed.is_zero() {
        sums.begin(snapshot.elapsed);
        sums.add(&(), snapshot.counted.recent);
    }
}
