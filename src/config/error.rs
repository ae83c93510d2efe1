//! What can be wrong with a configuration file.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::escape::{visible, visible_cut};
use crate::filter::PatternError;

/// How many characters of a line or a value are shown in a message.
const SHOWN: usize = 60;

/// Something wrong with a configuration file, and where. One line, safe to print:
/// `FILE:LINE: [SECTION] KEY: what is wrong; what was expected`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{problem}", place = self.place())]
pub struct ConfigError {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The line of the key, or where one is missing, that of its section; the first is 1.
    pub line: Option<usize>,
    /// The section's name. Raw bytes.
    pub section: Option<Vec<u8>>,
    /// The key.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong, and what was expected. Its texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no such file, it is a directory, or it may not be read.
    #[error("can't be read: {0}")]
    Unreadable(String),
    /// No configuration is as big as that.
    #[error("is too big; expected a configuration file of at most {0} MiB")]
    TooBig(u64),
    /// A pipe that nobody closes, or writes to, in time.
    #[error(
        "is a pipe that did not end within {seconds} s; expected a file, or a pipe that is written and \
         closed",
        seconds = .0.as_secs_f64()
    )]
    Endless(Duration),
    /// A pipe that has delivered what there was.
    #[error("is a pipe that holds nothing more; expected a file, or a pipe that is written again")]
    Spent,
    /// Root reads it, and it belongs to somebody else.
    #[error(
        "belongs to the user with number {0}, who could have root run commands; to fix it: sudo chown \
         root FILE"
    )]
    ForeignOwner(u32),
    /// Root reads it, and a symbolic link on the way to it belongs to somebody else.
    #[error(
        "is reached through a symbolic link of the user with number {0}, who could have root run commands; \
         to fix it: name the file itself, or sudo chown -h root LINK"
    )]
    ForeignLink(u32),
    /// Root reads it, and procfs shows there what any user may have written.
    #[error(
        "is a file of procfs, whose lines any user can choose; expected a file on a disk, or a pipe"
    )]
    OfProc,
    /// Root reads it, and somebody else has mounted the file system of it, or of a symbolic link on the way to
    /// it: the user with this number, if it is known.
    #[error(
        "is reached through a FUSE file system of {user}, who could have root run commands; expected a file \
         on a file system that root has mounted",
        user = .0.map_or("another user".to_owned(), |user| format!("the user with number {user}"))
    )]
    OfFuse(Option<u32>),
    /// Root reads it, and it holds nothing: somebody types or sends there what it seems to hold.
    #[error("is a device; expected a file, a pipe, or /dev/null")]
    Device,
    /// Root reads it, and its group or others may write it.
    #[error(
        "can be written by others than its owner (mode {0:04o}), who could have root run commands; to \
         fix it: sudo chmod go-w FILE"
    )]
    Writable(u32),
    /// A line with something in it before the first section.
    #[error("'{0}' stands before the first section; expected a line such as [Name] above it")]
    BeforeSection(String),
    /// A line that begins a section's name and doesn't end it.
    #[error("'{0}' is not the name of a section; expected [Name]")]
    NoHeader(String),
    /// A line without `=` or `:`, or with nothing before it.
    #[error("'{0}' is neither a section nor a key with a value; expected [Name] or key=value")]
    Malformed(String),
    /// An indented line that has nothing to continue.
    #[error(
        "'{0}' is indented, which continues the value before it, and there is none; expected a \
         line that begins in the first column"
    )]
    NothingToContinue(String),
    /// Bytes that are not UTF-8 in a key.
    #[error("the key '{0}' is not UTF-8; expected plain text")]
    KeyNotText(String),
    /// Bytes that are not UTF-8 in a value that is no regular expression.
    #[error("the value '{0}' is not UTF-8; expected plain text")]
    ValueNotText(String),
    /// `%(...)s` that can't be replaced.
    #[error(transparent)]
    Interpolation(#[from] InterpolationError),
    /// A key that nobody knows.
    #[error("unknown key; {0}")]
    UnknownKey(String),
    /// A key that has to be there and isn't.
    #[error("is missing; expected {0}")]
    MissingKey(String),
    /// A value that makes no sense.
    #[error("bad value '{value}'; {expected}")]
    BadValue {
        /// The value.
        value: String,
        /// What was expected instead.
        expected: String,
    },
    /// A regular expression that can't be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A pipe that would listen where another does.
    #[error(
        "port {port} is that of [{other}] in line {line} too; expected another port, or a bind \
         address of its own for each"
    )]
    SamePort {
        /// The port of both.
        port: u16,
        /// The section of the other pipe.
        other: String,
        /// The line of that section.
        line: usize,
    },
}

/// What is wrong with a `%(key)s` in a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolationError {
    /// There is no such key.
    #[error(
        "%({0})s names a key that neither this section nor [DEFAULT] has; expected one of theirs, \
         or %% for a percent sign"
    )]
    Unknown(String),
    /// `%(` without its `)s`.
    #[error("'{0}' begins no reference; expected %(key)s, or %% for a percent sign")]
    Malformed(String),
    /// Values that refer to values that refer to values.
    #[error("%({0})s refers to further keys too deep, or in a circle; expected at most 10 steps")]
    TooDeep(String),
    /// More than anybody needs.
    #[error("grows too long where its %(key)s are replaced; expected at most 1 MiB")]
    TooLong,
}

impl ConfigError {
    /// `FILE:LINE: [SECTION] KEY: `, of which there is what is known.
    fn place(&self) -> String {
        let mut place = visible(self.file.as_os_str().as_bytes());
        if let Some(line) = self.line {
            place.push_str(&format!(":{line}"));
        }
        place.push_str(": ");
        let section = self.section.as_ref().map(|name| format!("[{}]", visible(name)));
        let key = self.key.as_ref().map(|key| visible(key.as_bytes()));
        let within: Vec<String> = section.into_iter().chain(key).collect();
        if !within.is_empty() {
            place.push_str(&within.join(" "));
            place.push_str(": ");
        }
        place
    }
}

/// A part of a file as messages show it.
pub(super) fn shown(bytes: &[u8]) -> String {
    visible_cut(bytes, SHOWN)
}
