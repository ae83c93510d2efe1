//! The three readers of the table behind one type.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::command::{self, CommandError};
use super::{ctnetlink, text};
use crate::model::flow::{Flow, Tuple};
use crate::netlink::{Dump, NetlinkError, until_complete};

/// The way in which the table is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// A dump through netlink.
    Ctnetlink,
    /// The kernel's text at this path, `/proc/net/nf_conntrack`.
    Text(PathBuf),
    /// The output of `conntrack -L`.
    Command,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::Ctnetlink => f.write_str("ctnetlink"),
            Via::Text(path) => path.display().fmt(f),
            Via::Command => f.write_str("the command conntrack"),
        }
    }
}

/// The result of one reading of the table, beside its flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Number of flows.
    pub flows: u64,
    /// Number of messages or lines that were no valid flow.
    pub malformed: u64,
    /// The error of the first of them, safe to print.
    pub first_error: Option<String>,
    /// Whether the reading has every flow: false if the table changed during each attempt.
    pub complete: bool,
    /// Number of times that the kernel dropped announcements of ended flows, because they were not
    /// read in time.
    pub lost: u64,
}

/// Why the table can't be read: the error of each reader, or only the first one that is a missing
/// privilege.
#[derive(Debug, Error)]
#[error("conntrack's table can't be read: {}", self.told())]
pub struct ReadError {
    refusals: Vec<Refusal>,
}

impl ReadError {
    /// Whether a privilege is missing.
    pub fn is_permission(&self) -> bool {
        self.refusals.iter().any(|refusal| refusal.permission)
    }

    fn told(&self) -> String {
        match self.refusals.iter().find(|refusal| refusal.permission) {
            Some(refusal) => refusal.message.clone(),
            None => {
                let each: Vec<&str> = self.refusals.iter().map(|r| r.message.as_str()).collect();
                each.join("; ")
            }
        }
    }
}

/// Reads conntrack's table of the network namespace in which it was opened: through netlink, else
/// the kernel's text, else from the program `conntrack`.
#[derive(Debug)]
pub struct Reader {
    netlink: Option<ctnetlink::Reader>,
    candidates: Vec<Via>,
}

impl Reader {
    /// Opens the readers that exist here. The first [`Reader::read`] shows which of them works.
    ///
    /// `proc` is the path where procfs is mounted.
    pub fn open(proc: &Path) -> Reader {
        let texts = ["net/nf_conntrack", "net/ip_conntrack"].map(|name| Via::Text(proc.join(name)));
        let mut candidates = vec![Via::Ctnetlink];
        candidates.extend(texts);
        candidates.push(Via::Command);
        Reader { netlink: ctnetlink::Reader::open().ok(), candidates }
    }

    /// Opens a reader for this thread's network namespace, by netlink only: procfs and programs may
    /// show another namespace, that of the process.
    pub(crate) fn by_netlink() -> Reader {
        let netlink = ctnetlink::Reader::open().ok();
        Reader { netlink, candidates: vec![Via::Ctnetlink] }
    }

    /// The way in which the table is read, or will be tried first.
    pub fn via(&self) -> &Via {
        self.candidates.first().unwrap_or(&Via::Command)
    }

    /// Becomes readable when [`Reader::drain`] has something to take. Only ctnetlink announces
    /// ends.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        match self.via() {
            Via::Ctnetlink => self.netlink.as_ref().map(ctnetlink::Reader::events),
            Via::Text(_) | Via::Command => None,
        }
    }

    /// Takes the announced ends, for the next [`Reader::read`], which also reports any error.
    pub(crate) fn drain(&mut self) {
        if let (Via::Ctnetlink, Some(netlink)) = (self.via().clone(), &mut self.netlink) {
            let _ = netlink.drain();
        }
    }

    /// Reads the whole table and hands every flow to `each`; a flow may come twice. With ctnetlink
    /// the flows that have ended since the last reading come first. The first reader that works is
    /// used from then on, so that the readings stay comparable.
    ///
    /// # Errors
    /// If no reader works, or the one in use fails. Flows that were handed on before are then only
    /// a part of the table.
    pub fn read(&mut self, mut each: impl FnMut(&Flow)) -> Result<Table, ReadError> {
        let mut refusals = Vec::new();
        for via in self.candidates.clone() {
            let outcome = match &via {
                Via::Ctnetlink => self.dump(&mut each),
                Via::Text(path) => by_text(path, &mut each),
                Via::Command => by_command(&mut each),
            };
            match outcome {
                Ok(table) => {
                    self.candidates = vec![via];
                    return Ok(table);
                }
                Err(Refusal { message, permission }) => {
                    refusals.push(Refusal { message: format!("{via}: {message}"), permission });
                }
            }
        }
        Err(ReadError { refusals })
    }

    /// Number of entries in the table, if ctnetlink reads it and reports the number.
    pub(crate) fn entries(&mut self) -> Option<u64> {
        match (self.via().clone(), &mut self.netlink) {
            (Via::Ctnetlink, Some(netlink)) => netlink.entries().ok().flatten(),
            _ => None,
        }
    }

    /// Hands on the flows that have ended since the last time, then those with these tuples; see
    /// [`ctnetlink::Reader::read_chosen`].
    ///
    /// # Errors
    /// If it fails, or the reader is not ctnetlink.
    pub(crate) fn read_chosen(
        &mut self,
        chosen: &[Tuple],
        each: impl FnMut(&Flow),
    ) -> Result<Table, ReadError> {
        let read = match &mut self.netlink {
            Some(netlink) => netlink.read_chosen(chosen, each).map_err(Refusal::from),
            None => Err(Refusal::new(NO_NETLINK)),
        };
        read.map(Table::from).map_err(|refusal| ReadError { refusals: vec![refusal] })
    }

    fn dump(&mut self, mut each: impl FnMut(&Flow)) -> Result<Table, Refusal> {
        let Some(netlink) = &mut self.netlink else {
            return Err(Refusal::new(NO_NETLINK));
        };
        let mut last = None;
        let mut lost = 0;
        until_complete(|| {
            let dumped = netlink.read(&mut each)?;
            lost += dumped.lost;
            last = Some(dumped);
            Ok::<_, NetlinkError>(dumped.dump)
        })?;
        let last = last.ok_or_else(|| Refusal::new(NO_NETLINK))?;
        Ok(Table { lost, ..last.into() })
    }
}

const NO_NETLINK: &str = "the kernel has no nfnetlink";

impl From<ctnetlink::Dumped> for Table {
    fn from(dumped: ctnetlink::Dumped) -> Table {
        Table {
            flows: dumped.flows,
            malformed: dumped.malformed,
            first_error: dumped.first_error.map(|error| error.to_string()),
            complete: dumped.dump == Dump::Complete,
            lost: dumped.lost,
        }
    }
}

fn by_text(path: &Path, each: impl FnMut(&Flow)) -> Result<Table, Refusal> {
    let file = File::open(path)?;
    Ok(text::read_table(BufReader::with_capacity(1 << 16, file), each)?.into())
}

fn by_command(each: impl FnMut(&Flow)) -> Result<Table, Refusal> {
    Ok(command::read(each)?.into())
}

impl From<text::Table> for Table {
    fn from(table: text::Table) -> Table {
        Table {
            flows: table.flows,
            malformed: table.malformed,
            first_error: table.first_error.map(|(line, error)| format!("line {line}: {error}")),
            complete: true,
            lost: 0,
        }
    }
}

/// The error of one reader.
#[derive(Debug)]
struct Refusal {
    message: String,
    permission: bool,
}

impl Refusal {
    fn new(message: impl fmt::Display) -> Refusal {
        Refusal { message: message.to_string(), permission: false }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        let permission = error.kind() == io::ErrorKind::PermissionDenied;
        Refusal { permission, ..Refusal::new(error) }
    }
}

impl From<NetlinkError> for Refusal {
    fn from(error: NetlinkError) -> Refusal {
        Refusal { permission: error.is_permission(), ..Refusal::new(error) }
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Refusal {
        Refusal::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ipv4 2 udp 17 28 src=10.9.0.1 dst=10.9.0.2 sport=1 dport=2 bytes=5 \
                        src=10.9.0.2 dst=10.9.0.1 sport=2 dport=1 bytes=6 use=1\n";

    fn text_of(content: &str) -> (PathBuf, Reader) {
        let name = format!("bwmon-reader-{}-{}", std::process::id(), content.len());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        let candidates = vec![Via::Ctnetlink, Via::Text(path.clone()), Via::Command];
        (path, Reader { netlink: None, candidates })
    }

    #[test]
    fn the_next_reader_is_tried_and_the_one_that_works_is_kept() {
        let (path, mut reader) = text_of(&format!("{LINE}nonsense\n"));
        let mut flows = Vec::new();
        let table = reader.read(|flow| flows.push(*flow)).unwrap();
        assert_eq!((table.flows, table.malformed, table.complete), (1, 1, true));
        assert!(table.first_error.unwrap().starts_with("line 2: protocol"));
        assert_eq!(flows[0].original.to_string(), "udp 10.9.0.1:1 -> 10.9.0.2:2");
        assert_eq!(reader.via(), &Via::Text(path.clone()));
        std::fs::remove_file(path).unwrap();
        // Another reader's flows would have other identities: it is not fallen back to.
        let error = reader.read(|_| ()).unwrap_err().to_string();
        assert!(error.contains("No such file") && !error.contains("ctnetlink"), "{error}");
    }

    #[test]
    fn an_error_says_what_each_reader_was_told() {
        let (path, mut reader) = text_of("");
        std::fs::remove_file(&path).unwrap();
        reader.candidates.pop(); // whether the program is there depends on the machine
        let error = reader.read(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("ctnetlink: the kernel has no nfnetlink; "), "{text}");
        assert!(text.contains(&format!("{}: No such file", path.display())), "{text}");
        assert!(!error.is_permission());
    }

    #[test]
    fn a_missing_privilege_is_what_is_told() {
        let refusal = |message: &str, permission| Refusal { message: message.into(), permission };
        let refusals = vec![refusal("a: not allowed", true), refusal("b: not there", false)];
        let error = ReadError { refusals };
        assert!(error.is_permission());
        assert_eq!(error.to_string(), "conntrack's table can't be read: a: not allowed");
    }
}
