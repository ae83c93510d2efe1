//! Any rows, any keys, any size.

use proptest::prelude::*;

use super::examples;
use super::input::Input;
use super::tests::{after, drawn, of_rows};
use super::theme::Theme;
use crate::model::traffic::Traffic;
use crate::model::{Account, Kind, Process, Row};

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let key = prop_oneof![
        8 => proptest::sample::select("/?acgjklmoqrstuwS:  user:1(JK世".chars().collect::<Vec<_>>()).prop_map(Input::Char),
        4 => proptest::sample::select(vec![
            Input::Up, Input::Down, Input::Left, Input::Right, Input::PageUp, Input::PageDown, Input::Home,
            Input::End, Input::Enter, Input::Enter, Input::Escape, Input::Backspace, Input::Delete, Input::Tab,
            Input::WheelUp, Input::WheelDown, Input::Control('u'),
        ]),
        2 => (0_u16..130, 0_u16..50).prop_map(|(x, y)| Input::Click(x, y)),
        1 => any::<char>().prop_map(Input::Char),
    ];
    proptest::collection::vec(key, 0..40)
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let name = prop_oneof![any::<Vec<u8>>(), any::<String>().prop_map(String::into_bytes)];
    let row = (name, any::<u64>(), any::<u64>(), 0_usize..4).prop_map(
        |(name, total, recent, processes)| {
            let account =
                Account { total: Traffic::new(total, recent), recent: Traffic::new(recent, total) };
            let processes =
                (0..processes).map(|pid| Process { account, ..Process::of(pid as u32) });
            Row {
                account,
                processes: processes.collect(),
                ..Row::of(name[..].into(), Kind::Process)
            }
        },
    );
    proptest::collection::vec(row, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_and_no_control_character_is_drawn(
        rows in any_rows(), example in any::<bool>(), inputs in inputs(), width in 0_u16..140, height in 0_u16..50,
    ) {
        let mut state = if example { after(5) } else { of_rows(rows) };
        let themes = [Theme::ALL.as_slice(), &Theme::EIGHT_BIT].concat();
        state.theme = themes[usize::from(width) % themes.len()];
        state.resize(width, height);
        for (at, input) in inputs.into_iter().enumerate() {
            state.input(input);
            if at % 5 == 0 {
                state.refresh(examples::frame(examples::at(6 + at as u64)));
            }
            let buffer = drawn(&mut state, width, height);
            for cell in &buffer.content {
                prop_assert!(!cell.symbol().chars().any(crate::escape::is_hidden), "{:?}", cell.symbol());
            }
        }
    }
}
