//! Standard output: whether it is a terminal, its size, and how to clear it.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};

use super::{Layout, Size};
use crate::locale::is_ascii_terminal;

/// Standard output, as found at the start.
#[derive(Clone, Debug)]
pub(crate) struct Terminal {
    /// The sequence that clears it; `None` if it is no terminal, or one that can't be cleared.
    clear: Option<Vec<u8>>,
    /// Whether it is a terminal of another character set than UTF-8.
    ascii: bool,
}

impl Terminal {
    /// Examines standard output and `$TERM`.
    pub(crate) fn of_stdout() -> Terminal {
        let is_screen = io::stdout().is_terminal()
            && env::var_os("TERM").is_some_and(|term| can_be_cleared(&term));
        let ascii = is_ascii_terminal(&io::stdout());
        Terminal { clear: is_screen.then(clear_sequence), ascii }
    }

    /// Whether each refresh replaces the one before.
    pub(crate) fn is_screen(&self) -> bool {
        self.clear.is_some()
    }

    /// The layout of the next refresh. The size is queried each time, since the user may change it.
    pub(crate) fn layout(&self) -> Layout {
        let size = self.clear.as_ref().and_then(|_| stdout_size());
        Layout { clear: self.clear.clone(), size, ascii: self.ascii }
    }
}

/// The size that the kernel reports; if it reports none (a serial line has no size), that of
/// `$LINES` and `$COLUMNS`. The kernel comes first because exported variables do not follow a
/// resize.
///
/// The query is about standard output. crossterm's `size` queries the controlling terminal, which
/// may be another one, and starts `tput` if that has no answer.
pub(crate) fn stdout_size() -> Option<Size> {
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

/// Whether a terminal of this `$TERM` can be cleared: all in use know ANSI sequences, except those
/// named dumb.
pub(crate) fn can_be_cleared(term: &OsStr) -> bool {
    // `dumb-emacs-ansi` and the like have colours, but no screen.
    let name = term.as_encoded_bytes();
    !name.is_empty() && !name.starts_with(b"dumb") && name != b"unknown"
}

/// Moves the cursor to the corner and clears everything after it.
///
/// In this order, not with [`ClearType::All`]: that makes some terminals (tmux, those of GNOME)
/// push the screen into their history at each refresh.
fn clear_sequence() -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory doesn't fail.
    let _ = queue!(bytes, MoveTo(0, 0), Clear(ClearType::FromCursorDown));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_that_say_they_cannot_be_cleared() {
        for term in ["", "dumb", "dumb-emacs-ansi", "unknown"] {
            assert!(!can_be_cleared(OsStr::new(term)), "{term}");
        }
        for term in ["vt100", "linux", "xterm-256color", "screen.xterm-256color", "xterm-kitty"] {
            assert!(can_be_cleared(OsStr::new(term)), "{term}");
        }
    }

    #[test]
    fn the_cursor_goes_to_the_corner_and_what_follows_is_cleared() {
        assert_eq!(clear_sequence(), b"\x1b[1;1H\x1b[J");
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
}
