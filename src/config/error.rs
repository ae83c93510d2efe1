//! Errors in configuration files.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::escape::{visible, visible_cut};
use crate::filter::PatternError;

/// Characters of a line or a value that a message shows.
const SHOWN: usize = 60;

/// An error in a configuration file, and its position. One line, safe to print: `FILE:LINE:
/// [SECTION] KEY: what is wrong; what was expected`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{problem}", place = self.place())]
pub struct ConfigError {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The line of the key, or of the section if a key is missing; the first is 1.
    pub line: Option<usize>,
    /// The section's name. Raw bytes.
    pub section: Option<Vec<u8>>,
    /// The key.
    pub key: Option<String>,
    /// The error.
    pub problem: Problem,
}

/// What is wrong, and what was expected. Its texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file does not exist, is a directory, or may not be read.
    #[error("can't be read: {0}")]
    Unreadable(String),
    /// The file is too big for a configuration.
    #[error("is too big; expected a configuration file of at most {0} MiB")]
    TooBig(u64),
    /// A pipe whose writer does not close it in time.
    #[error(
        "is a pipe that did not end within {seconds} s; expected a file, or a pipe that is written and \
         closed",
        seconds = .0.as_secs_f64()
    )]
    Endless(Duration),
    /// A pipe that has been read already.
    #[error("is a pipe that holds nothing more; expected a file, or a pipe that is written again")]
    Spent,
    /// Root reads the file, and it belongs to another user.
    #[error(
        "belongs to the user with number {0}, who could have root run commands; to fix it: sudo chown \
         root FILE"
    )]
    ForeignOwner(u32),
    /// Root reads the file through a symbolic link of another user.
    #[error(
        "is reached through a symbolic link of the user with number {0}, who could have root run commands; \
         to fix it: name the file itself, or sudo chown -h root LINK"
    )]
    ForeignLink(u32),
    /// Root reads the file, and it is in procfs, where any user may have chosen the content.
    #[error(
        "is a file of procfs, whose lines any user can choose; expected a file on a disk, or a pipe"
    )]
    OfProc,
    /// Root reads the file, and another user has mounted the file system of it, or of a symbolic link in its
    /// path: the user with this uid, if it is known.
    #[error(
        "is reached through a FUSE file system of {user}, who could have root run commands; expected a file \
         on a file system that root has mounted",
        user = .0.map_or("another user".to_owned(), |user| format!("the user with number {user}"))
    )]
    OfFuse(Option<u32>),
    /// Root reads the file, and it is a device, whose content another user may type or send.
    #[error("is a device; expected a file, a pipe, or /dev/null")]
    Device,
    /// Root reads the file, and its group or others may write it.
    #[error(
        "can be written by others than its owner (mode {0:04o}), who could have root run commands; to \
         fix it: sudo chmod go-w FILE"
    )]
    Writable(u32),
    /// A command gets an application's name in a word, and another user can create files in the working
    /// directory, which a program could take that name for.
    #[error(
        "{{app}} may be taken for a file of the working directory, and {folder} {}; expected a directory of \
         root or of the user who runs the program (with sudo: who calls it) that nobody else can write; to fix \
         it: start the program elsewhere (cd /), or use $BWMON_APP in a script",
        about_folder(.why)
    )]
    WorkingDirectory {
        /// Its path.
        folder: String,
        /// The problem of the directory.
        why: Box<Problem>,
    },
    /// A line before the first section that is no comment.
    #[error("'{0}' stands before the first section; expected a line such as [Name] above it")]
    BeforeSection(String),
    /// A line that starts the name of a section without a `]`.
    #[error("'{0}' is not the name of a section; expected [Name]")]
    NoHeader(String),
    /// A line without `=` or `:`, or with nothing before it.
    #[error("'{0}' is neither a section nor a key with a value; expected [Name] or key=value")]
    Malformed(String),
    /// An indented line without a value to continue.
    #[error(
        "'{0}' is indented, which continues the value before it, and there is none; expected a \
         line that begins in the first column"
    )]
    NothingToContinue(String),
    /// Bytes that are not UTF-8 in a key.
    #[error("the key '{0}' is not UTF-8; expected plain text")]
    KeyNotText(String),
    /// Bytes that are not UTF-8 in a value other than a regular expression.
    #[error("the value '{0}' is not UTF-8; expected plain text")]
    ValueNotText(String),
    /// A `%(...)s` that can't be replaced.
    #[error(transparent)]
    Interpolation(#[from] InterpolationError),
    /// An unknown key.
    #[error("unknown key; {0}")]
    UnknownKey(String),
    /// A required key that is missing.
    #[error("is missing; expected {0}")]
    MissingKey(String),
    /// An invalid value.
    #[error("bad value '{value}'; {expected}")]
    BadValue {
        /// The value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// An invalid regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A pipe that would listen where another pipe does.
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

/// An error of a `%(key)s` in a value.
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
    /// References that are nested too deeply.
    #[error("%({0})s refers to further keys too deep, or in a circle; expected at most 10 steps")]
    TooDeep(String),
    /// A value that grows too long.
    #[error("grows too long where its %(key)s are replaced; expected at most 1 MiB")]
    TooLong,
}

impl ConfigError {
    /// `FILE:LINE: [SECTION] KEY: `, as far as they are known.
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

/// The problem of a folder, which continues a sentence that starts with its path.
fn about_folder(why: &Problem) -> String {
    match why {
        Problem::ForeignOwner(owner) => format!("belongs to the user with number {owner}"),
        Problem::Writable(mode) => {
            format!("can be written by others than its owner (mode {mode:04o})")
        }
        Problem::OfFuse(_) => "is on a FUSE file system of another user".to_owned(),
        Problem::OfProc => "is in procfs".to_owned(),
        other => other.to_string(),
    }
}

/// A part of a file, as messages show it.
pub(super) fn shown(bytes: &[u8]) -> String {
    visible_cut(bytes, SHOWN)
}
