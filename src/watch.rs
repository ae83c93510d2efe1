//! One look at the kernel after another: the sources, the order in which they are read, and the
//! ledger that gets what they say.

use std::collections::HashSet;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::io::Errno;
use thiserror::Error;

use crate::addresses::{self, LocalAddresses};
use crate::conntrack;
use crate::flow::{Flow, Protocol};
use crate::ledger::Ledger;
use crate::monitor::{Attribution, Reason, Share, Surroundings};
use crate::netlink::NetlinkError;
use crate::processes::{Described, LabelBy, Owners, ProcessId};
use crate::sockets::{self, Ends, Socket, SocketTable};

/// Where bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By connection tracking: IP bytes of every flow.
    Conntrack,
    /// By the TCP sockets themselves: payload bytes.
    Sockets,
}

/// Which source is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// [`Source::Conntrack`].
    Conntrack,
    /// [`Source::Sockets`].
    Sockets,
    /// Conntrack where it counts, else sockets.
    #[default]
    Auto,
}

impl FromStr for SourceChoice {
    type Err = ();

    /// `conntrack`, `sockets` or `auto`.
    fn from_str(name: &str) -> Result<SourceChoice, ()> {
        match name {
            "conntrack" => Ok(SourceChoice::Conntrack),
            "sockets" => Ok(SourceChoice::Sockets),
            "auto" => Ok(SourceChoice::Auto),
            _ => Err(()),
        }
    }
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceChoice::Conntrack => Source::Conntrack.fmt(f),
            SourceChoice::Sockets => Source::Sockets.fmt(f),
            SourceChoice::Auto => f.write_str("auto"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Conntrack => "conntrack",
            Source::Sockets => "sockets",
        })
    }
}

/// Why nothing could be observed.
#[derive(Debug, Error)]
pub enum WatchError {
    /// Connection tracking can't be read.
    #[error("{error}{mend}", error = .0, mend = mend(.0))]
    Conntrack(conntrack::ReadError),
    /// Sockets can't be listed.
    #[error(transparent)]
    Sockets(#[from] sockets::ReadError),
    /// Sockets are listed without their counters.
    #[error("sock_diag is refused, and without it the kernel doesn't tell what a socket carried")]
    NoCounters,
    /// The addresses of this host can't be listed.
    #[error("the addresses of this host can't be listed: {0}")]
    Addresses(NetlinkError),
    /// There is no procfs.
    #[error("{path}: {errno} (mount it: mount -t proc proc {path})")]
    Proc {
        /// Where it should be.
        path: String,
        /// What opening or listing it brought.
        errno: Errno,
    },
}

fn mend(error: &conntrack::ReadError) -> &'static str {
    if error.is_permission() { "; to mend it: run it as root (CAP_NET_ADMIN)" } else { "" }
}

// Not the source of the error, but all of it: it would be told twice.
impl From<conntrack::ReadError> for WatchError {
    fn from(error: conntrack::ReadError) -> WatchError {
        WatchError::Conntrack(error)
    }
}

/// What a look found that its user should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Flows that were there.
    pub flows: u64,
    /// Flows for which the kernel keeps no counters.
    pub uncounted: u64,
    /// Messages and lines that could not be read.
    pub malformed: u64,
    /// What was wrong with the first of them.
    pub first_error: Option<String>,
    /// Processes whose descriptors this user may not read.
    pub denied: usize,
    /// Why descriptors could not be read for another reason.
    pub failed: Option<Errno>,
    /// How often announcements of ended flows or sockets were lost because they came too fast.
    pub lost_ends: u64,
    /// Whether a table changed so fast that it could not be read as a whole.
    pub incomplete: bool,
}

/// What counts, and only that: a socket that is told the ends of flows and never read would fill
/// the kernel's buffer.
#[derive(Debug)]
enum Counting {
    Conntrack(conntrack::Reader),
    /// The sockets are listed in any case; their ends are announced by most kernels.
    Sockets(Option<Ends>),
}

/// Reads the kernel once a look, and accounts what it says.
#[derive(Debug)]
pub struct Watch {
    counting: Counting,
    sockets: sockets::Reader,
    addresses: addresses::Reader,
    local: LocalAddresses,
    owners: Owners,
    table: SocketTable,
    attribution: Attribution,
    /// This process, and the ports of its pipes.
    own: Option<ProcessId>,
    pipes: HashSet<u16>,
    proc: PathBuf,
}

impl Watch {
    /// Opens what it takes to watch `source` through the procfs at `proc`. With `lookback` what
    /// was counted before the start is accounted too.
    ///
    /// # Errors
    /// If the host's addresses or processes can't be listed at all.
    pub fn open(source: Source, lookback: bool, proc: &Path) -> Result<Watch, WatchError> {
        let mut addresses =
            addresses::Reader::open().map_err(|error| WatchError::Addresses(error.into()))?;
        let local = addresses.read().map_err(WatchError::Addresses)?;
        let owners = Owners::open(proc).map_err(|errno| no_proc(proc, errno))?;
        Ok(Watch {
            counting: match source {
                Source::Conntrack => Counting::Conntrack(conntrack::Reader::open(proc)),
                Source::Sockets => Counting::Sockets(Ends::listen()),
            },
            sockets: sockets::Reader::open(proc),
            addresses,
            local,
            own: owners.own(),
            owners,
            table: SocketTable::default(),
            attribution: Attribution::new(lookback),
            pipes: HashSet::new(),
            proc: proc.to_owned(),
        })
    }

    /// From now on processes are labelled by the first of these that they have.
    pub fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.owners.label_by(labels);
    }

    /// This process forwards TCP connections between these local and those remote ports, and
    /// accounts them itself: what it holds of them is [`Reason::OwnPipe`] from now on.
    pub fn leave_to_pipes(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.pipes.extend(ports);
    }

    /// What is watched.
    pub fn source(&self) -> Source {
        match self.counting {
            Counting::Conntrack(_) => Source::Conntrack,
            Counting::Sockets(_) => Source::Sockets,
        }
    }

    /// A descriptor that becomes readable when there is something for [`Watch::drain`].
    pub fn events(&self) -> Option<BorrowedFd<'_>> {
        match &self.counting {
            Counting::Conntrack(reader) => reader.events(),
            Counting::Sockets(ends) => ends.as_ref().map(Ends::events),
        }
    }

    /// Takes what was announced since the last time, so that the kernel's buffer never fills. The
    /// next look accounts it.
    pub fn drain(&mut self) {
        match &mut self.counting {
            Counting::Conntrack(reader) => reader.drain(),
            Counting::Sockets(Some(ends)) => ends.drain(),
            Counting::Sockets(None) => {}
        }
    }

    /// Looks once and accounts the new bytes to `ledger`.
    ///
    /// # Errors
    /// If the source can't be read (any more). What was accounted before stays right.
    pub fn look(&mut self, ledger: &mut Ledger) -> Result<Looked, WatchError> {
        // Ends first: what ends from now on is still listed, and told in its turn. Conntrack's reader
        // sees to that itself.
        if let Counting::Sockets(Some(ends)) = &mut self.counting {
            ends.drain();
        }
        let by_sockets = self.source() == Source::Sockets;
        let listing = self.sockets.read(by_sockets, &mut self.table)?;
        if by_sockets && listing.tcp_from_proc {
            return Err(WatchError::NoCounters);
        }
        // At once: a process that is about to end still has its descriptors.
        let processes =
            self.owners.look(&self.table).map_err(|errno| no_proc(&self.proc, errno))?;
        // Addresses that can't be listed now have hardly changed.
        if let Ok(local) = self.addresses.read() {
            self.local = local;
        }

        let mut looked = Looked {
            malformed: listing.malformed,
            denied: processes.denied,
            failed: processes.failed,
            incomplete: listing.interrupted > 0,
            ..Looked::default()
        };
        let complete = self.flows(ledger, &mut looked)?;
        let observation = self.attribution.end(complete);
        looked.flows = observation.flows;
        looked.uncounted = observation.uncounted;
        looked.incomplete |= !complete;

        let active: Vec<_> = ledger.active().collect();
        for process in active {
            if let Some(described) = self.owners.described(process) {
                ledger.rename(process, described);
            }
        }
        ledger.ended(processes.ended);
        if let Some(referenced) = observation.referenced {
            ledger.keep_names_of(&referenced);
        }
        Ok(looked)
    }

    /// Reads every flow of the source and accounts its new bytes. Returns whether all were there.
    fn flows(&mut self, ledger: &mut Ledger, looked: &mut Looked) -> Result<bool, WatchError> {
        let Watch { counting, owners, table, attribution, local, own, pipes, .. } = self;
        attribution.begin();
        attribution.expect(match counting {
            Counting::Conntrack(_) => {
                conntrack::state::read(&self.proc).entries.unwrap_or(0) as usize
            }
            Counting::Sockets(_) => table.len(),
        });
        let mut account = |flow: &Flow| {
            // The share is handed out after the owner was asked, and names it.
            let mut shares: [Option<Share>; 2] = [None; 2];
            let mut around = Surroundings {
                sockets: table,
                addresses: local,
                owner: &mut |inode| owners.owner(inode),
            };
            attribution.flow(flow, &mut around, |share| {
                let free = usize::from(shares[0].is_some());
                shares[free] = Some(share);
            });
            for mut share in shares.into_iter().flatten() {
                if own.is_some_and(|own| share.to == Ok(own)) && is_of_pipe(flow, pipes) {
                    share.to = Err(Reason::OwnPipe);
                }
                ledger.credit(&share, || match share.to {
                    Ok(process) => owners.described(process).cloned().unwrap_or_else(unknown),
                    Err(_) => unknown(),
                });
            }
        };
        match counting {
            Counting::Conntrack(reader) => {
                let read = reader.read(account)?;
                looked.malformed += read.malformed;
                looked.first_error = read.first_error;
                looked.lost_ends = read.lost;
                Ok(read.complete)
            }
            Counting::Sockets(ends) => {
                if let Some(ends) = ends {
                    ends.take().iter().for_each(&mut account);
                    looked.lost_ends = ends.take_lost();
                }
                table.iter().filter_map(Socket::flow).for_each(|flow| account(&flow));
                Ok(!looked.incomplete)
            }
        }
    }
}

/// Whether a flow of this process is one of its pipes'. A connection to something else of its own,
/// such as a name server, uses none of their ports.
fn is_of_pipe(flow: &Flow, ports: &HashSet<u16>) -> bool {
    let ends = [&flow.original, &flow.reply].map(|tuple| [tuple.source, tuple.destination]);
    flow.original.protocol == Protocol::TCP
        && ends.as_flattened().iter().any(|end| ports.contains(&end.port))
}

/// Who has held a socket is known by name; this stands for the case that it isn't after all.
fn unknown() -> Described {
    Described { command_line: Arc::from(&b"[?]"[..]), label: None }
}

fn no_proc(path: &Path, errno: Errno) -> WatchError {
    WatchError::Proc { path: path.display().to_string(), errno }
}
