//! Keys and mouse, from the bytes that a terminal sends. crossterm's reader waits inside a sequence that is not
//! complete, and never returns when the terminal has hung up.

/// Bytes of a sequence that is not complete, at most.
const LONGEST: usize = 64;

/// A key, or an action of the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A character.
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Delete,
    Tab,
    /// A character with the control key, in lower case.
    Control(char),
    /// The left button, at this column and row, from 0.
    Click(u16, u16),
    WheelUp,
    WheelDown,
}

/// Collects the bytes of a sequence.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// The keys that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Input> {
        self.pending.extend_from_slice(bytes);
        let mut inputs = Vec::new();
        let mut at = 0;
        while let Some((length, input)) = next(&self.pending[at..]) {
            inputs.extend(input);
            at += length;
        }
        self.pending.drain(..at);
        if self.pending.len() > LONGEST {
            self.pending.clear();
        }
        inputs
    }

    /// Whether a sequence is not complete.
    pub(super) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// No more bytes came in time: an escape alone is the key.
    pub(super) fn end(&mut self) -> Option<Input> {
        let is_escape = self.pending == [0x1b];
        self.pending.clear();
        is_escape.then_some(Input::Escape)
    }
}

/// The first key of some bytes and its length, or `None` if it is not complete. A sequence that means nothing here is
/// no key.
fn next(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    let first = *bytes.first()?;
    let input = match first {
        0x1b => return sequence(bytes),
        b'\r' | b'\n' => Input::Enter,
        b'\t' => Input::Tab,
        0x7f | 0x08 => Input::Backspace,
        0 => return Some((1, None)),
        1..=0x1a => Input::Control(char::from(first - 1 + b'a')),
        0x1c..=0x1f => return Some((1, None)),
        _ => return character(bytes),
    };
    Some((1, Some(input)))
}

/// A character in UTF-8.
fn character(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    let length = match bytes[0] {
        0x20..=0x7e => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((1, None)),
    };
    let Some(bytes) = bytes.get(..length) else {
        let is_begun = bytes[1..].iter().all(|byte| byte & 0xc0 == 0x80);
        return (!is_begun).then_some((1, None));
    };
    match std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next()) {
        Some(c) if !c.is_control() => Some((length, Some(Input::Char(c)))),
        Some(_) => Some((length, None)),
        None => Some((1, None)),
    }
}

/// A sequence that begins with an escape.
fn sequence(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    match bytes.get(1)? {
        b'O' => {
            let input = match bytes.get(2)? {
                b'M' => Some(Input::Enter),
                last => arrow(*last),
            };
            Some((3, input))
        }
        b'[' => {
            let end = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte))? + 2;
            // The keys F1 to F5 of the console have another `[`.
            if bytes[2] == b'[' {
                return bytes.get(3).map(|_| (4, None));
            }
            Some((end + 1, control_sequence(&bytes[2..end], bytes[end])))
        }
        // A key with Alt, which means nothing here, or one that was typed soon after Escape.
        _ => Some((1, Some(Input::Escape))),
    }
}

fn arrow(last: u8) -> Option<Input> {
    Some(match last {
        b'A' => Input::Up,
        b'B' => Input::Down,
        b'C' => Input::Right,
        b'D' => Input::Left,
        b'H' => Input::Home,
        b'F' => Input::End,
        _ => return None,
    })
}

/// A control sequence, by its parameters and its last byte.
fn control_sequence(parameters: &[u8], last: u8) -> Option<Input> {
    let text = std::str::from_utf8(parameters).ok()?;
    if let Some(text) = text.strip_prefix('<') {
        return mouse(text, last);
    }
    let number = text.split(';').next().unwrap_or_default();
    match (last, number) {
        (b'~', "1" | "7") => Some(Input::Home),
        (b'~', "4" | "8") => Some(Input::End),
        (b'~', "3") => Some(Input::Delete),
        (b'~', "5") => Some(Input::PageUp),
        (b'~', "6") => Some(Input::PageDown),
        _ => arrow(last),
    }
}

/// An action of the mouse, as `SGR` mode (1006) tells it: button, column and row, from 1.
fn mouse(text: &str, last: u8) -> Option<Input> {
    let mut numbers = text.split(';').map(|number| number.parse::<u16>().ok());
    let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
    match (button, last) {
        (0, b'M') => Some(Input::Click(x.saturating_sub(1), y.saturating_sub(1))),
        (64, b'M') => Some(Input::WheelUp),
        (65, b'M') => Some(Input::WheelDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Vec<Input> {
        let mut decoder = Decoder::default();
        let mut inputs = decoder.push(bytes);
        inputs.extend(decoder.end());
        inputs
    }

    #[test]
    fn keys() {
        use Input::*;
        let cases: &[(&[u8], &[Input])] = &[
            (b"q", &[Char('q')]),
            ("ä世".as_bytes(), &[Char('ä'), Char('世')]),
            (b"\x1b[A\x1bOB", &[Up, Down]),
            (b"\x1b[H\x1b[4~\x1b[5~\x1b[6~\x1b[3~", &[Home, End, PageUp, PageDown, Delete]),
            (b"\x1b[1;5C", &[Right]),
            (b"\r\x7f\t\x03", &[Enter, Backspace, Tab, Control('c')]),
            (b"\x1b", &[Escape]),
            (b"\x1b\x1b[A", &[Escape, Up]),
            (b"\x1b[<0;10;3M\x1b[<0;10;3m", &[Click(9, 2)]),
            (b"\x1b[<64;1;1M\x1b[<65;1;1M", &[WheelUp, WheelDown]),
            (b"\x1bx", &[Escape, Char('x')]),
            // Function keys, focus, bytes that are no text.
            (b"\x1b[[A\x1b[15~\x1b[Iq", &[Char('q')]),
            (b"\xff\xc3q\x80", &[Char('q')]),
            (b"\xc2\x9b", &[]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decoded(bytes), *expected, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    proptest! {
        /// A slow line brings a sequence in pieces.
        #[test]
        fn a_sequence_may_come_in_pieces(cut in 0_usize..12) {
            let bytes = "\x1b[<0;10;3M世\x1b[A".as_bytes();
            let mut decoder = Decoder::default();
            let mut inputs = decoder.push(&bytes[..cut]);
            inputs.extend(decoder.push(&bytes[cut..]));
            prop_assert_eq!(inputs, decoded(bytes));
            prop_assert!(!decoder.waits());
        }

        #[test]
        fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            prop_assert!(decoder.pending.len() <= LONGEST);
        }
    }
}
