//! The screen in files: what is drawn, as text.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::examples;
use super::input::Input;
use super::rows::Key;
use super::state::{Setup, State};
use super::theme::Theme;
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Kind, Process, Row, Snapshot};
use crate::render::Frame;
use crate::render::units::Units;

/// A state that does not depend on the environment.
pub(super) fn state() -> State {
    let host = "web-3.example.org".to_owned();
    let setup = Setup {
        program: "runmonitor",
        host,
        units: Some(Units::BinBytes),
        totals: false,
        by: Vec::new(),
        columns: Vec::new(),
        names: None,
    };
    let mut state = State::new(setup);
    state.theme = Theme::Colours;
    state
}

/// After the refreshes of this many seconds of the example.
pub(super) fn after(seconds: u64) -> State {
    let mut state = state();
    (0..=seconds).for_each(|second| state.refresh(examples::frame(examples::at(second))));
    state
}

/// What is drawn at this size.
pub(super) fn drawn(state: &mut State, width: u16, height: u16) -> Buffer {
    state.resize(width, height);
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    state.draw(&mut buffer);
    buffer
}

/// A buffer as text. A wide character takes two cells of it, of which the second is empty.
fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                line.push_str(symbol);
                skip = unicode_width::UnicodeWidthStr::width(symbol);
            }
            skip = skip.saturating_sub(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn press(state: &mut State, keys: &str) {
    keys.chars().for_each(|c| state.input(Input::Char(c)));
}

/// Compares with a file of `tests/fixtures/screen`, or writes it.
fn keep(name: &str, state: &mut State, width: u16, height: u16) {
    let text = text(&drawn(state, width, height));
    keep_text(&format!("tests/fixtures/screen/{name}.{width}x{height}.txt"), &text);
}

/// Compares a text with a file of the repository, or writes it.
pub(super) fn keep_text(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("BWMON_WRITE_PAGES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is not what is drawn; write it anew: BWMON_WRITE_PAGES=1 cargo test --lib screen\n{text}"
    );
}

#[test]
fn the_list_at_several_sizes() {
    let mut state = after(75);
    for (width, height) in [(200, 50), (120, 30), (80, 24), (40, 10), (20, 5)] {
        keep("list", &mut state, width, height);
    }
}

/// Real traffic: a recording of short connections, as it was counted.
#[test]
fn the_list_of_a_recording() {
    let path = "tests/fixtures/recordings/ebpf-churn.jsonl";
    let file = fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let player = crate::replay::Player::open(std::io::BufReader::new(file)).unwrap();
    let mut state = state();
    for refresh in player {
        state.refresh(examples::frame(refresh.unwrap().snapshot));
    }
    keep("recording", &mut state, 120, 30);
    press(&mut state, "m");
    keep("recording-totals", &mut state, 80, 24);
}

#[test]
fn the_list_without_rates_yet_and_without_anything() {
    keep("first", &mut after(0), 80, 24);
    let mut nothing = state();
    nothing.refresh(examples::frame(Snapshot { seq: 1, ..Snapshot::default() }));
    keep("empty", &mut nothing, 80, 24);
}

#[test]
fn totals_and_idle_rows() {
    let mut state = after(75);
    press(&mut state, "m");
    keep("totals", &mut state, 120, 30);
    press(&mut state, "mauu");
    keep("idle", &mut state, 120, 30);
    press(&mut state, "uu");
    keep("plain-bytes", &mut state, 120, 30);
}

#[test]
fn groups() {
    let mut state = after(75);
    press(&mut state, "gggg");
    (76..90).for_each(|second| state.refresh(examples::frame(examples::at(second))));
    keep("by-user", &mut state, 120, 30);
    press(&mut state, "ggggg");
    (90..100).for_each(|second| state.refresh(examples::frame(examples::at(second))));
    keep("by-remote-port", &mut state, 120, 30);
    press(&mut state, "GGGGGGGGG");
    assert_eq!(state.by(), []);
}

#[test]
fn a_filter_that_is_typed() {
    let mut state = after(75);
    press(&mut state, "/user:jo");
    keep("filter", &mut state, 80, 24);
    press(&mut state, " /(");
    keep("filter-wrong", &mut state, 80, 24);
    // The last one that was right stays.
    assert_eq!(state.listed.len(), 2);
    state.input(Input::Escape);
    assert!(state.filter.is_empty() && state.prompt.is_none());
}

#[test]
fn a_row_with_its_remote_ends() {
    let mut state = after(75);
    press(&mut state, "j");
    let second = state.selected_key().cloned().unwrap();
    state.input(Input::Enter);
    for (pid, parent) in [(812, 811), (813, 811), (814, 811), (815, 811)] {
        state.learn_parents(
            pid,
            vec![(parent, Name::from(*b"nginx")), (1, Name::from(*b"sys\x1b[2Jtemd"))],
        );
    }
    (76..90).for_each(|second| state.refresh(examples::frame(examples::at(second))));
    keep("detail", &mut state, 120, 40);
    keep("detail", &mut state, 80, 24);
    state.input(Input::End);
    keep("detail-end", &mut state, 80, 24);
    state.input(Input::Escape);
    assert_eq!(state.selected_key(), Some(&second));
}

#[test]
fn bytes_without_a_process_are_explained() {
    let mut state = after(75);
    press(&mut state, "/kernel");
    state.input(Input::Enter);
    state.input(Input::Enter);
    keep("reason", &mut state, 80, 24);
}

#[test]
fn help_columns_and_messages() {
    let mut state = after(75);
    press(&mut state, "?");
    keep("help", &mut state, 80, 50);
    state.input(Input::Escape);
    press(&mut state, "cj ");
    keep("columns", &mut state, 80, 24);
    state.input(Input::Escape);
    keep("columns-chosen", &mut state, 120, 30);
    let mut frame = examples::frame(examples::at(76));
    frame.above = vec![
        "runmonitor: source ebpf: the kernel counts".to_owned(),
        "runmonitor: another one".to_owned(),
    ];
    state.refresh(frame.clone());
    keep("message", &mut state, 80, 24);
    press(&mut state, "l");
    keep("messages", &mut state, 80, 24);
    press(&mut state, "l");
    let alert = "2026-01-02 03:04:05: Web exceeding 'in' bandwidth limit".to_owned();
    state.refresh(Frame { alerts: vec![alert], snapshot: Arc::new(examples::at(77)), ..frame });
    keep("alert", &mut state, 80, 24);
}

#[test]
fn what_is_frozen_stays_while_counting_goes_on() {
    let mut state = after(75);
    press(&mut state, " ");
    let before = text(&drawn(&mut state, 120, 30));
    (76..400).for_each(|second| state.refresh(examples::frame(examples::at(second))));
    assert_eq!(text(&drawn(&mut state, 120, 30)), before);
    keep("frozen", &mut state, 120, 30);
    press(&mut state, " ");
    let mut other = after(399);
    assert_eq!(text(&drawn(&mut state, 120, 30)), text(&drawn(&mut other, 120, 30)));
}

#[test]
fn ascii_without_colours() {
    let mut state = after(75);
    state.theme = Theme::Ascii;
    let buffer = drawn(&mut state, 120, 30);
    assert!(text(&buffer).is_ascii());
    keep("ascii", &mut state, 120, 30);
    for theme in [Theme::Plain, Theme::Ascii] {
        state.theme = theme;
        let buffer = drawn(&mut state, 120, 30);
        assert!(buffer.content.iter().all(|cell| cell.fg == ratatui::style::Color::Reset));
    }
}

fn row(name: &[u8], bytes: u64) -> Row {
    let account = Account { total: Traffic::new(bytes, bytes), recent: Traffic::new(bytes, bytes) };
    let processes = vec![Process { account, ..Process::of(1) }];
    Row { account, processes, ..Row::of(name.into(), Kind::Process) }
}

pub(super) fn of_rows(rows: Vec<Row>) -> State {
    let mut state = state();
    for second in 0..2 {
        state.refresh(examples::frame(examples::of_rows(second, rows.clone())));
    }
    state
}

#[test]
fn hostile_names() {
    let names: [&[u8]; 9] = [
        b"evil\x1b]0;title\x07\x1b[2J\x1b[1;1Hfake",
        "\u{9b}31mred".as_bytes(),
        "user\u{202e}gpj.exe".as_bytes(),
        "\u{5e9}\u{5dc}\u{5d5}\u{5dd} right to left".as_bytes(),
        "世界世界世界世界世界世界世界世界世界世界世界世界世界世界世界".as_bytes(),
        "e\u{301}e\u{301}\u{323} combining".as_bytes(),
        "\u{301}\u{302} combining at the beginning".as_bytes(),
        b"\xff\xfe\n\r\tnew lines",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} family \u{1f1e9}\u{1f1ea}".as_bytes(),
    ];
    let rows = names.iter().zip(1..).map(|(name, at)| row(name, 100_000 / at)).collect();
    let mut state = of_rows(rows);
    keep("hostile", &mut state, 80, 24);
    keep("hostile", &mut state, 40, 16);
    // A terminal that is not UTF-8: also in an open row, and in the help, whose keys are arrows.
    state.theme = Theme::EightBit;
    for key in [None, Some(Input::Enter), Some(Input::Char('?')), Some(Input::Char('t'))] {
        key.into_iter().for_each(|key| state.input(key));
        let shown = text(&drawn(&mut state, 80, 24));
        assert!(shown.is_ascii(), "{shown}");
    }
}

#[test]
fn many_rows_are_scrolled() {
    let rows =
        (0..500).map(|at| row(format!("process {at:03}").as_bytes(), 5_000_000 - at * 10_000));
    let mut state = of_rows(rows.collect());
    state.resize(80, 24);
    (0..3).for_each(|_| state.input(Input::PageDown));
    keep("scrolled", &mut state, 80, 24);
    state.input(Input::End);
    keep("scrolled-end", &mut state, 80, 24);
    state.input(Input::Home);
    assert_eq!((state.cursor, state.offset), (0, 0));
}

#[test]
fn a_click_on_a_title_sorts_and_a_second_one_reverses() {
    let mut state = after(75);
    state.resize(120, 30);
    let placed = state.columns.placed(120, state.units, false);
    let of = |column| placed.iter().find(|placed| placed.column == column).unwrap().x;
    let out = of(super::columns::Column::Out);
    state.input(Input::Click(out + 2, 4));
    assert_eq!((state.sort, state.reversed), (super::columns::Column::Out, false));
    let first = state.listed.clone();
    state.input(Input::Click(out + 2, 4));
    assert!(state.reversed);
    assert_eq!(state.listed, first.into_iter().rev().collect::<Vec<_>>());
    // A row is selected, then opened.
    state.input(Input::Click(30, 6));
    assert_eq!((state.cursor, state.detail.is_some()), (1, false));
    state.input(Input::Click(30, 6));
    assert!(state.detail.is_some());
}

#[test]
fn the_selection_follows_its_row_and_the_top_stays_the_top() {
    let rows = |first: u64| vec![row(b"a", first), row(b"b", 1000), row(b"c", 500)];
    let mut state = of_rows(rows(2000));
    // The bytes of the kernel come first.
    press(&mut state, "j");
    let key = Key::Row(Name::from(*b"a"));
    assert_eq!((state.selected_key(), state.cursor), (Some(&key), 1));
    let change = |state: &mut State, first| {
        (2..60).for_each(|second| {
            state.refresh(examples::frame(examples::of_rows(second, rows(first))))
        });
    };
    change(&mut state, 1);
    assert_eq!((state.selected_key(), state.cursor), (Some(&key), 4));
    state.input(Input::Home);
    change(&mut state, 1_000_000);
    assert_eq!((state.selected_key(), state.cursor), (Some(&key), 0));
}

#[test]
fn the_keys_of_the_original_words() {
    let mut state = after(75);
    press(&mut state, "r");
    assert_eq!(state.window, super::rates::Window::Raw);
    press(&mut state, "rw");
    assert_eq!(state.window, super::rates::Window::Seconds(40));
    press(&mut state, "?q");
    assert!(state.ended);
}
