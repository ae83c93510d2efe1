//! What keys and the mouse do in the list.

use super::columns::Column;
use super::detail::Detail;
use super::filter::Filter;
use super::input::Input;
use super::rows::Key;
use super::state::{Place, Prompt, State};

impl State {
    /// Handles a key in the list.
    pub(super) fn in_list(&mut self, input: Input) {
        match input {
            Input::Char('/') => {
                self.prompt = Some(Prompt { text: self.filter_text.clone(), error: None });
            }
            Input::Escape if !self.filter.is_empty() => {
                self.filter_by(String::new(), Filter::default());
            }
            Input::Escape => (self.selected, self.cursor) = (None, 0),
            Input::Char('s') | Input::Right => self.sort_by_next(1),
            Input::Char('S') | Input::Left => self.sort_by_next(-1),
            Input::Char('o') => self.reverse(),
            Input::Char('m') => {
                self.totals = !self.totals;
                self.sort = Column::Share;
                self.resort();
            }
            Input::Char(key @ ('g' | 'G')) => self.group(key == 'g'),
            Input::Char('a') => {
                self.shows_idle = !self.shows_idle;
                self.list();
            }
            Input::Char('c') => self.go(Place::Columns),
            Input::Enter => self.open(),
            Input::Click(x, y) => self.click(x, y),
            _ => {
                if let Some(to) = self.moved(input, self.cursor, self.listed.len()) {
                    self.select(to);
                }
            }
        }
        self.settle();
    }

    /// Selects a line of the list.
    fn select(&mut self, at: usize) {
        // At the top the selection does not follow a row: it stays there.
        self.selected =
            self.listed.get(at).filter(|_| at > 0).map(|at| self.entries[*at].key.clone());
        self.cursor = at;
    }

    /// The line that is selected.
    pub(super) fn selected_key(&self) -> Option<&Key> {
        let at = self.listed.get(self.cursor)?;
        Some(&self.entries[*at].key)
    }

    /// Opens the selected line.
    fn open(&mut self) {
        let Some(key) = self.selected_key().cloned() else { return };
        self.selected = Some(key.clone());
        let mut detail = Detail::new(key);
        detail.feed(&self.frame.snapshot, self.rows());
        self.detail = Some(detail);
        self.go(Place::Detail);
    }

    fn sort_by_next(&mut self, by: isize) {
        let width = self.width;
        let placed = self.columns.placed(width, self.units, self.totals);
        let shown: Vec<Column> =
            placed.iter().map(|placed| placed.column).filter(|column| column.can_sort()).collect();
        if shown.is_empty() {
            return;
        }
        let at = shown.iter().position(|column| *column == self.sort).unwrap_or_default();
        let next = (at as isize + by).rem_euclid(shown.len() as isize);
        self.sort_by(shown[next as usize]);
    }

    fn sort_by(&mut self, column: Column) {
        (self.sort, self.reversed) = (column, false);
        self.resort();
    }

    fn reverse(&mut self) {
        self.reversed = !self.reversed;
        self.list();
    }

    fn click(&mut self, x: u16, y: u16) {
        let areas = self.areas();
        if areas.titles && y == areas.header {
            let placed = self.columns.placed(self.width, self.units, self.totals);
            let at = placed.iter().rev().find(|placed| placed.x <= x);
            match at.map(|placed| placed.column).filter(|column| column.can_sort()) {
                Some(column) if column == self.sort => self.reverse(),
                Some(column) => self.sort_by(column),
                None => {}
            }
            return;
        }
        let Some(line) = y.checked_sub(areas.first_line()).filter(|line| *line < areas.list) else {
            return;
        };
        let at = self.offset + usize::from(line);
        if at >= self.listed.len() {
            return;
        }
        let again = at == self.cursor && self.selected.is_some();
        self.select(at);
        self.selected = self.selected_key().cloned();
        if again {
            self.open();
        }
    }

    /// Keeps the selection on its row, and on the screen.
    pub(super) fn settle(&mut self) {
        let last = self.listed.len().saturating_sub(1);
        let is_selected = |at: &usize| Some(&self.entries[*at].key) == self.selected.as_ref();
        self.cursor = match (&self.selected, self.listed.iter().position(is_selected)) {
            (None, _) => 0,
            (Some(_), Some(at)) => at,
            (Some(_), None) => self.cursor.min(last),
        };
        // A row that has left the list leaves the selection to the one that has its place.
        if self.selected.is_some() && self.cursor > 0 {
            self.selected = self.selected_key().cloned().or(self.selected.take());
        }
        let room = usize::from(self.areas().list.max(1));
        self.offset = self.offset.clamp((self.cursor + 1).saturating_sub(room), self.cursor);
        self.offset = self.offset.min(self.listed.len().saturating_sub(room));
    }
}
