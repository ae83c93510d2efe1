//! The lines of the list: their rates, their order, and which of them are listed.

use std::cmp::Reverse;

use super::columns::Column;
use super::rates::Window;
use super::rows::{self, Entry, Fact, Key, places};
use super::state::State;
use crate::model::traffic::Rate;

/// The window after which a row without bytes is idle.
const IDLE: Window = Window::Seconds(40);

impl State {
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
        };
        entries.sort_by_cached_key(|entry| (Reverse(entry.total.total()), name(entry)));
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
                Column::TotalIn => entries.sort_by_key(|of| Reverse(of.total.received)),
                Column::TotalOut => entries.sort_by_key(|of| Reverse(of.total.sent)),
                Column::Name => entries.sort_by_cached_key(name),
                Column::User => entries.sort_by_cached_key(|of| last(text(Fact::User, of))),
                Column::Program => entries.sort_by_cached_key(|of| last(text(Fact::Program, of))),
                Column::Place => entries.sort_by_cached_key(|of| {
                    last(row(of).and_then(|row| places(row).first().map(|name| (*name).clone())))
                }),
                Column::Pid => {
                    entries.sort_by_cached_key(|of| (least(of).is_none(), least(of)));
                }
                Column::Ends => entries
                    .sort_by_cached_key(|of| Reverse(row(of).map_or(0, |row| row.details.len()))),
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
