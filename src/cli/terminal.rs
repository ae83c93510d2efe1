//! Standard output and standard error for text that is written line by line.

use std::io::{self, IsTerminal, Write};

use crate::escape::ascii;
use crate::locale::is_ascii_terminal;

/// Escapes what is beyond ASCII if the stream is a terminal of another character set than UTF-8.
pub(super) struct Escaping<W> {
    out: W,
    ascii: bool,
}

impl<W: Write + IsTerminal> Escaping<W> {
    /// As the stream and the locale need it.
    pub(super) fn on(out: W) -> Escaping<W> {
        Escaping { ascii: is_ascii_terminal(&out), out }
    }
}

/// Each write has whole characters: those of a `str`.
impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.ascii {
            return self.out.write(bytes);
        }
        self.out.write_all(ascii(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_is_not_utf8_gets_escapes() {
        for (ascii, expected) in [(false, "a\u{db}2J\n"), (true, "a\\u{db}2J\n")] {
            let mut escaping = Escaping { out: Vec::new(), ascii };
            writeln!(escaping, "a\u{db}2J").unwrap();
            assert_eq!(String::from_utf8(escaping.out).unwrap(), expected);
        }
    }
}
