//! What keys and the mouse do.

use super::columns::Columns;
use super::filter::{self, Filter};
use super::input::Input;
use super::layout::Areas;
use super::rates::Window;
use super::state::{Place, State};
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
    pub(super) fn go(&mut self, place: Place) {
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

    pub(super) fn filter_by(&mut self, text: String, filter: Filter) {
        (self.filter_text, self.filter) = (text, filter);
        self.list();
    }

    /// Where a key moves to in a list of this length.
    pub(super) fn moved(&self, input: Input, from: usize, length: usize) -> Option<usize> {
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
            Input::Delete | Input::Backspace => self.columns = Columns::of(&self.setup.columns),
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
            _ => {
                let length = self.text_lines().saturating_sub(usize::from(self.areas().text()));
                if let Some(to) = self.moved(input, self.scroll, length + 1) {
                    self.scroll = to;
                }
            }
        }
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
