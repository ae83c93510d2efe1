//! What standard output is: a terminal or not, how big, how cleared.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use termini::{StringCapability, TermInfo};

use super::{Layout, Size};

/// Standard output as found at the start.
#[derive(Clone, Debug)]
pub struct Terminal {
    /// None where this is no terminal or none that can be cleared.
    clear: Option<Vec<u8>>,
}

impl Terminal {
    /// Looks at standard output and at `$TERM`.
    pub fn of_stdout() -> Terminal {
        let clear = if io::stdout().is_terminal() {
            env::var_os("TERM").and_then(|term| clear_sequence(&term))
        } else {
            None
        };
        Terminal { clear }
    }

    /// Whether each refresh takes the place of the one before.
    pub fn is_screen(&self) -> bool {
        self.clear.is_some()
    }

    /// How the next refresh is to be laid out. The size is asked for anew each time, since the
    /// user may change it.
    pub fn layout(&self) -> Layout {
        let size = self.clear.as_ref().and_then(|_| stdout_size());
        Layout { clear: self.clear.clone(), size }
    }
}

/// The kernel's answer, or where it has none (a serial line knows no size) `$LINES` and
/// `$COLUMNS`: the kernel comes first because exported variables do not follow a resize.
fn stdout_size() -> Option<Size> {
    let kernel = rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| Size { cols: size.ws_col, rows: size.ws_row })
        .filter(|size| size.cols > 0 && size.rows > 0);
    kernel.or_else(|| size_from(env::var_os("COLUMNS").as_deref(), env::var_os("LINES").as_deref()))
}

fn size_from(columns: Option<&OsStr>, lines: Option<&OsStr>) -> Option<Size> {
    let number = |value: Option<&OsStr>| value?.to_str()?.parse().ok().filter(|n| *n > 0);
    Some(Size { cols: number(columns)?, rows: number(lines)? })
}

/// What clears a terminal of this `$TERM`, by the terminfo database. None where `term` is
/// unknown, its entry is broken, or it cannot be cleared (`dumb`).
pub fn clear_sequence(term: &OsStr) -> Option<Vec<u8>> {
    // A name, not a path: joined to the database's folder, `/x` or `../x` would leave it.
    let name = term.to_str().filter(|name| !name.contains('/') && !name.starts_with('.'))?;
    clear_of(&TermInfo::from_name(name).ok()?)
}

fn clear_of(entry: &TermInfo) -> Option<Vec<u8>> {
    let clear = entry.raw_string_cap(StringCapability::ClearScreen)?;
    Some(without_padding(clear)).filter(|clear| !clear.is_empty())
}

/// A terminfo string without its delays: `$<50>`, `$<5.5>`, `$<5*>`, `$<50/>`, `$<5*/>`.
///
/// They ask for a pause, in milliseconds, for terminals that could not keep up with their line;
/// printed, they would be text. Anything else with a `$` is not a delay and stays.
pub fn without_padding(string: &[u8]) -> Vec<u8> {
    let mut rest = string;
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(after) = after_padding(rest) {
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

/// What follows the delay that `string` begins with, if it does.
fn after_padding(string: &[u8]) -> Option<&[u8]> {
    let inside = string.strip_prefix(b"$<")?;
    let end = inside.iter().position(|&byte| byte == b'>')?;
    let (delay, after) = (&inside[..end], &inside[end + 1..]);
    let digits = delay.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let (number, marks) = delay.split_at(digits);
    let is_delay = number.iter().any(u8::is_ascii_digit)
        && number.iter().filter(|byte| **byte == b'.').count() <= 1
        && marks.iter().all(|byte| matches!(byte, b'*' | b'/'));
    is_delay.then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A compiled terminfo entry whose only string is `clear`. See term(5).
    fn entry(clear: Option<&[u8]>) -> Vec<u8> {
        let names = b"test|a test\0";
        let table = [clear.unwrap_or_default(), b"\0"].concat();
        let header = [
            0x11a_i16,          // magic: numbers of 16 bits
            names.len() as i16, // bytes of the names, an even number
            0,                  // booleans
            0,                  // numbers
            6,                  // string offsets: `clear` is the sixth
            table.len() as i16, // bytes of the strings
        ];
        let mut bytes: Vec<u8> = header.into_iter().flat_map(i16::to_le_bytes).collect();
        bytes.extend_from_slice(names);
        let clear_at = if clear.is_some() { 0_i16 } else { -1 };
        bytes.extend([-1_i16, -1, -1, -1, -1, clear_at].into_iter().flat_map(i16::to_le_bytes));
        bytes.extend_from_slice(&table);
        bytes
    }

    fn clear_in(bytes: &[u8]) -> Option<Vec<u8>> {
        clear_of(&TermInfo::parse(bytes).ok()?)
    }

    #[test]
    fn the_clear_string_of_an_entry() {
        assert_eq!(clear_in(&entry(Some(b"\x1b[H\x1b[2J"))).unwrap(), b"\x1b[H\x1b[2J");
        // As in the entry of the vt100.
        assert_eq!(clear_in(&entry(Some(b"\x1b[H\x1b[J$<50>"))).unwrap(), b"\x1b[H\x1b[J");
        assert_eq!(clear_in(&entry(None)), None);
        assert_eq!(clear_in(&entry(Some(b""))), None);
        assert_eq!(clear_in(&entry(Some(b"$<50>"))), None);
    }

    #[test]
    fn a_broken_entry_is_none() {
        let whole = entry(Some(b"\x1b[H\x1b[2J"));
        for end in 0..whole.len() {
            assert_eq!(clear_in(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(clear_in(b"not a terminfo entry at all"), None);
    }

    #[test]
    fn terminals_that_are_unknown_or_no_names() {
        for term in ["", "dumb", "no-such-terminal", "/etc/passwd", "../x/xterm", ".", "..", "x/"] {
            assert_eq!(clear_sequence(OsStr::new(term)), None, "{term}");
        }
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(clear_sequence(OsStr::from_bytes(b"\xff")), None);
    }

    #[test]
    fn padding() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"\x1b[H\x1b[J$<50>", b"\x1b[H\x1b[J"),
            (b"\x1b[H$<50/>\x1b[J", b"\x1b[H\x1b[J"),
            (b"\x0c$<5*>", b"\x0c"),
            (b"\x0c$<5.5*/>x", b"\x0cx"),
            (b"$<1/*>$<.5>$<20>", b""),
            (b"", b""),
            // No delays.
            (b"$", b"$"),
            (b"$<", b"$<"),
            (b"$<50", b"$<50"),
            (b"$<>", b"$<>"),
            (b"$<x>", b"$<x>"),
            (b"$<5x>", b"$<5x>"),
            (b"$<*>", b"$<*>"),
            (b"$<.>", b"$<.>"),
            (b"$<1.2.3>", b"$<1.2.3>"),
            (b"$$<5>", b"$"),
            (b"a>b", b"a>b"),
        ];
        for (string, expected) in cases {
            assert_eq!(
                without_padding(string),
                *expected,
                "{:?}",
                string.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn sizes_of_the_environment() {
        let size = |columns: &str, lines: &str| {
            size_from(Some(OsStr::new(columns)), Some(OsStr::new(lines)))
        };
        assert_eq!(size("80", "24"), Some(Size { cols: 80, rows: 24 }));
        for (columns, lines) in
            [("0", "24"), ("80", "0"), ("", "24"), ("-1", "24"), ("99999", "24")]
        {
            assert_eq!(size(columns, lines), None);
        }
        assert_eq!(size_from(None, Some(OsStr::new("24"))), None);
    }

    proptest! {
        #[test]
        fn any_entry_is_read_or_refused(noise in any::<Vec<u8>>(), at in 0_usize..40, byte: u8) {
            drop(clear_in(&noise));
            let mut changed = entry(Some(b"\x1b[H\x1b[2J"));
            changed.extend_from_slice(&noise);
            let at = at.min(changed.len() - 1);
            changed[at] = byte;
            drop(clear_in(&changed));
        }

        #[test]
        fn padding_never_adds(string in r"[$<0-9.*/>a]{0,20}") {
            prop_assert!(without_padding(string.as_bytes()).len() <= string.len());
        }
    }
}
