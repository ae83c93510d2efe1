//! What keys and the mouse do.

use super::columns::{Column, Columns};
use super::detail::Detail;
use super::filter::{self, Filter};
use super::input::Input;
use super::layout::Areas;
use super::rates::Window;
use super::rows::Key;
use super::state::{Place, Prompt, State};
use crate::render::units::Units;

/// Characters of a filter.
const LONGEST: usize = 200;
/// Lines of a turn of the wheel.
const WHEEL: isize = 3;

/// The units in the order of the key.
const UNITS: [Option<Units>; 5] =
    [Some(Units::BinBytes), Some(Units::BinBits), Some(Units::SiBytes), Some(Units::SiBits), None];

impl State {
    /// Where the user is.
    pub(super) fn place(&self) -> Place {
        self.places.last().copied().unwrap_or(Place::List)
    }

    /// The screen has this size from now on.
    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        (self.width, self.height) = (width, height);
        self.settle();
    }

    /// Handles a key.
    pub(super) fn input(&mut self, input: Input) {
        if input == Input::Control('c') {
            self.ended = true;
            return;
        }
        if self.prompt.is_some() && self.type_filter(input) {
            return;
        }
        if self.common(input) {
            return;
        }
        match self.place() {
            Place::List => self.in_list(input),
            Place::Columns => self.in_columns(input),
            Place::Detail | Place::Messages | Place::Help => self.in_text(input),
        }
    }

    /// Keys that do the same everywhere.
    fn common(&mut self, input: Input) -> bool {
        match input {
            Input::Char('q') => self.ended = true,
            Input::Char('?') => self.go(Place::Help),
            Input::Char('l') => self.go(Place::Messages),
            Input::Char('u') => {
                let at = UNITS.iter().position(|units| *units == self.units).unwrap_or_default();
                self.units = UNITS[(at + 1) % UNITS.len()];
            }
            Input::Char('w') => {
                let at = Window::MEANS.iter().position(|window| *window == self.window);
                let next = at.map_or(1, |at| (at + 1) % Window::MEANS.len());
                self.measure_by(Window::MEANS[next]);
            }
            Input::Char('r') => self.measure_by(match self.window {
                Window::Raw => Window::Seconds(10),
                Window::Seconds(_) => Window::Raw,
            }),
            Input::Char('t') => self.theme = self.theme.next(),
            Input::Char(' ') if self.place() != Place::Columns => self.freeze(),
            _ => return false,
        }
        true
    }

    fn measure_by(&mut self, window: Window) {
        self.window = window;
        self.resort();
    }

    /// Goes to another place; where the user is already, back.
    fn go(&mut self, place: Place) {
        if self.place() == place {
            return self.back();
        }
        self.places.retain(|of| *of != place);
        self.places.push(place);
        self.scroll = 0;
    }

    fn back(&mut self) {
        if self.places.len() > 1 {
            self.places.pop();
        }
        if !self.places.contains(&Place::Detail) {
            self.detail = None;
        }
        self.scroll = 0;
    }

    /// Handles a key while a filter is typed. Keys that move the selection do so here too.
    fn type_filter(&mut self, input: Input) -> bool {
        let Some(prompt) = &mut self.prompt else { return false };
        match input {
            Input::Char(c) if prompt.text.chars().count() < LONGEST => prompt.text.push(c),
            Input::Char(_) => {}
            Input::Backspace => {
                if prompt.text.pop().is_none() {
                    self.prompt = None;
                    return true;
                }
            }
            Input::Control('u') => prompt.text.clear(),
            Input::Tab => complete(&mut prompt.text),
            Input::Enter if prompt.error.is_some() => return true,
            Input::Enter => {
                self.prompt = None;
                return true;
            }
            Input::Escape => {
                self.prompt = None;
                self.filter_by(String::new(), Filter::default());
                return true;
            }
            _ => return false,
        }
        let text = prompt.text.clone();
        match Filter::parse(&text) {
            Ok(filter) => {
                prompt.error = None;
                self.filter_by(text, filter);
            }
            Err(error) => prompt.error = Some(error),
        }
        true
    }

    fn filter_by(&mut self, text: String, filter: Filter) {
        (self.filter_text, self.filter) = (text, filter);
        self.list();
    }

    fn in_list(&mut self, input: Input) {
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
            Input::Char('g') => self.group(),
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

    /// Where a key moves to in a list of this length.
    fn moved(&self, input: Input, from: usize, length: usize) -> Option<usize> {
        let page = isize::from(self.areas().list.max(1) as i16);
        let by = match input {
            Input::Up | Input::Char('k') => -1,
            Input::Down | Input::Char('j') => 1,
            Input::PageUp => -page,
            Input::PageDown => page,
            Input::WheelUp => -WHEEL,
            Input::WheelDown => WHEEL,
            Input::Home => isize::MIN,
            Input::End => isize::MAX,
            _ => return None,
        };
        Some(from.saturating_add_signed(by).min(length.saturating_sub(1)))
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

    fn in_columns(&mut self, input: Input) {
        let last = self.columns.all.len().saturating_sub(1);
        match input {
            Input::Escape | Input::Enter | Input::Char('c') => return self.back(),
            Input::Char(' ') => {
                let (_, wanted) = &mut self.columns.all[self.chosen];
                *wanted = !*wanted;
            }
            Input::Left | Input::Char('K') if self.chosen > 0 => {
                self.columns.all.swap(self.chosen, self.chosen - 1);
                self.chosen -= 1;
            }
            Input::Right | Input::Char('J') if self.chosen < last => {
                self.columns.all.swap(self.chosen, self.chosen + 1);
                self.chosen += 1;
            }
            Input::Delete | Input::Backspace => self.columns = Columns::default(),
            _ => {
                if let Some(to) = self.moved(input, self.chosen, self.columns.all.len()) {
                    self.chosen = to;
                }
            }
        }
        let room = usize::from(self.areas().text().max(1));
        self.scroll = self.scroll.clamp((self.chosen + 2).saturating_sub(room), self.chosen + 1);
    }

    fn in_text(&mut self, input: Input) {
        match input {
            Input::Escape | Input::Enter | Input::Backspace | Input::Left => self.back(),
            Input::Char('g' | 'm' | '/' | 'a' | 'c') => {}
            _ => {
                let length = self.text_lines().saturating_sub(usize::from(self.areas().text()));
                if let Some(to) = self.moved(input, self.scroll, length + 1) {
                    self.scroll = to;
                }
            }
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

    /// Where everything is on the screen.
    pub(super) fn areas(&self) -> Areas {
        Areas::of(self.height, self.prompt.is_some(), self.message().is_some())
    }
}

/// Completes the key of a filter that is being typed, if only one begins so.
fn complete(text: &mut String) {
    let word = text.rsplit(' ').next().unwrap_or_default();
    let mut keys = filter::KEYS.into_iter().filter(|key| !word.is_empty() && key.starts_with(word));
    if let (Some(key), None) = (keys.next(), keys.next()) {
        text.push_str(&key[word.len()..]);
        text.push(':');
    }
}
