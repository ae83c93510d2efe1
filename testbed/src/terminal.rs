//! A program on a terminal of its own, which changes its size and presses Ctrl-C: `programs/terminal.py`.

use std::ffi::OsStr;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/terminal.py");

/// Rows and columns, at first and later.
pub type Sizes = [[u16; 2]; 2];

/// Makes a command that runs Python run `program` on a terminal. What follows are the program's arguments.
pub fn on_terminal(python: &mut Command, sizes: Sizes, program: impl AsRef<OsStr>) {
    python.arg(SCRIPT).args(sizes.as_flattened().iter().map(u16::to_string)).arg(program);
}

/// What a terminal has shown.
#[derive(Debug, Default)]
pub struct Seen {
    /// The refreshes at the first and at the second size, without the sequence that clears.
    pub frames: [Vec<String>; 2],
    /// The program's exit status.
    pub status: String,
    /// Whether the terminal is set as it was: `same`.
    pub termios: String,
}

impl Seen {
    /// What the script has printed.
    pub fn of(output: &Output) -> Seen {
        let text = String::from_utf8_lossy(&output.stdout);
        let mut seen = Seen::default();
        let mut size = 0;
        for line in text.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("FRAME", hex) => seen.frames[size].push(from_hex(hex)),
                ("SIZE", _) => size = 1,
                ("STATUS", status) => seen.status = status.to_owned(),
                ("TERMIOS", termios) => seen.termios = termios.to_owned(),
                other => panic!("{other:?} in {text}"),
            }
        }
        assert!(!seen.status.is_empty(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        seen
    }

    /// Fails unless the program has ended well and left the terminal as it was.
    pub fn expect_clean_end(&self) {
        assert_eq!((self.status.as_str(), self.termios.as_str()), ("0", "same"), "{self:#?}");
    }
}

fn from_hex(hex: &str) -> String {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).unwrap()
}
