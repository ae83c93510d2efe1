//! One look at the kernel after another: the sources, in their order, and the ledger that gets what
//! they say.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use crate::attribution::{OwnPipes, Share};
use crate::environment::Environment;
use crate::ledger::Ledger;
use crate::netns::NetnsChoice;
use crate::processes::{Described, LabelBy, Names, Owners, ProcessId};
use crate::sources::{self, Forwarded, Needs, Round};
use crate::traffic::Traffic;

pub(crate) use crate::environment::{Looked, WatchError};
pub(crate) use crate::sources::{SourceChoice, SourceKind as Source};

/// Reads the kernel once a look, and accounts what it says.
#[derive(Debug)]
pub(crate) struct Watch {
    source: Source,
    environment: Environment,
    /// The one that was chosen first.
    sources: Vec<Box<dyn sources::Source>>,
    pipes: OwnPipes,
    /// What the kernel's own sockets have counted of pings.
    pings: Traffic,
    /// Processes that have brought bytes and were not listed at that look: they have ended, or are
    /// listed at the next one.
    unlisted: Vec<ProcessId>,
    /// Whether the first reading is still to be finished.
    begins: bool,
}

impl Watch {
    /// Opens what it takes to watch `source` in the network namespaces `netns` through the procfs at
    /// `proc`. With `lookback` what was counted before the start is accounted too.
    ///
    /// # Errors
    /// If the host's addresses or processes can't be listed at all, or the source can't be had.
    pub(crate) fn open(
        source: Source,
        netns: NetnsChoice,
        lookback: bool,
        proc: &Path,
    ) -> Result<Watch, WatchError> {
        // Names first: whoever brings bytes from then on has one.
        let names = Names::default();
        names.listen(proc);
        let chosen = sources::open(source, netns, lookback, proc)?;
        let (opens, searches) = (chosen.opens(), chosen.searches());
        let environment = Environment::open(opens, searches, netns, proc, names)?;
        let process = environment.owners.own();
        Ok(Watch {
            source,
            environment,
            sources: vec![chosen],
            pipes: OwnPipes { process, ..OwnPipes::default() },
            pings: Traffic::ZERO,
            unlisted: Vec::new(),
            begins: true,
        })
    }

    /// From now on processes are labelled by the first of these that they have.
    pub(crate) fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.environment.label_by(labels);
    }

    /// Also accounts what passes through this host on the way from one to another, where it takes more
    /// than the source to see it: connection tracking, if that counts.
    pub(crate) fn count_passing(&mut self) {
        if self.source == Source::Ebpf
            && self.sources.len() == 1
            && let Some(forwarded) = Forwarded::open(&mut self.environment)
        {
            self.sources.push(Box::new(forwarded));
        }
    }

    /// This process forwards TCP connections between these local and those remote ports, and
    /// accounts them itself: what it holds of them is [`Reason::OwnPipe`](crate::owner::Reason) from
    /// now on.
    pub(crate) fn leave_to_pipes(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.pipes.ports.extend(ports);
    }

    /// Whether not everything was read for the first time: see [`Watch::look_until`].
    pub(crate) fn is_reading(&self) -> bool {
        self.begins
    }

    /// What is watched.
    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// Descriptors that become readable when there is something for [`Watch::drain`].
    pub(crate) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let own = self.sources.iter().flat_map(|source| source.events());
        self.environment.events().chain(own)
    }

    /// Takes what was announced since the last time, so that the kernel's buffer never fills. The
    /// next look accounts it. Returns whether that should not wait.
    pub(crate) fn drain(&mut self) -> bool {
        let calls = self.environment.drain();
        self.sources.iter_mut().fold(calls, |calls, source| source.drain() || calls)
    }

    /// Whether there is something to [drain](Watch::drain) that nothing announces, so that it should be seen
    /// to several times a second.
    pub(crate) fn needs_peeks(&self) -> bool {
        self.sources.iter().any(|source| source.needs_peeks())
    }

    /// Looks once and accounts the new bytes to `ledger`. What takes long when everything is read for the first time
    /// is not waited for after `until`: it goes on in the background, and another look takes what has come of it.
    /// [`Looked::unread`] says what is left. Bytes whose socket or process was not read yet wait
    /// under [`Reason::Unread`](crate::owner::Reason), or are accounted when they are read first.
    ///
    /// # Errors
    /// If the source can't be read (any more). What was accounted before stays right.
    pub(crate) fn look_until(
        &mut self,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        let mut looked = self.look_once(ledger, until.filter(|_| self.begins))?;
        looked.unread.past = self.sources.iter().any(|source| source.is_reading());
        self.begins &= looked.unread.is_anything();
        looked.lost_processes = self.environment.owners.names().take_lost();
        Ok(looked)
    }

    fn look_once(
        &mut self,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        let Watch { environment, sources, pipes, pings, .. } = self;
        let mut looked = Looked::default();
        environment.begin()?;
        if environment.looks() == 1 {
            sources.iter_mut().for_each(|source| source.start(environment));
        }
        let left = environment.open_namespaces(until);
        let needs = sources.iter_mut().map(|source| source.prepare(until));
        let needs = needs.fold(Needs::default(), Needs::and);
        environment.list_sockets(needs.lists, &mut looked)?;
        let ended = environment.look_at_processes(needs.inodes, left, until, &mut looked)?;
        let mut credit = |share: &Share, owners: &mut Owners| {
            ledger.credit(share, || described(share, owners));
        };
        let mut round = Round {
            environment,
            pipes,
            until,
            looked: &mut looked,
            pings: *pings,
            credit: &mut credit,
        };
        let polled = sources.iter_mut().try_for_each(|source| source.poll(&mut round));
        *pings = round.pings;
        polled?;
        self.name(ledger, ended);
        if let Some(referenced) = self.sources.iter().find_map(|source| source.referenced()) {
            ledger.keep_names_of(referenced);
        }
        for left in self.environment.end() {
            self.sources.iter_mut().for_each(|source| source.forget(left));
        }
        Ok(looked)
    }

    /// Brings what processes are named up to date, and tells the ledger which have ended.
    fn name(&mut self, ledger: &mut Ledger, ended: Vec<ProcessId>) {
        let Watch { environment, unlisted, .. } = self;
        let owners = &mut environment.owners;
        let active: Vec<_> = ledger.active().collect();
        let gone = unlisted.drain(..).filter(|process| !owners.is_there(*process));
        ledger.ended(gone.collect::<Vec<_>>());
        for process in active {
            owners.refresh(process);
            if let Some(described) = owners.described(process) {
                ledger.rename(process, &described);
            }
            if !owners.is_there(process) {
                unlisted.push(process);
            }
        }
        // Names that are cut here would be kept there by those that are silent.
        for process in owners.names().take_cut() {
            if let Some(described) = owners.described(process) {
                ledger.rename(process, &described);
            }
        }
        for process in &ended {
            // The last title that it had.
            if let Some(described) = owners.described(*process) {
                ledger.rename(*process, &described);
            }
        }
        ledger.ended(ended);
    }
}

/// What a share's process is named.
fn described(share: &Share, owners: &mut Owners) -> Described {
    let described = share.to.process().and_then(|process| {
        // Its sockets have been too short-lived for a look, perhaps.
        owners.refresh(process);
        owners.described(process)
    });
    // Who has held a socket is known by name; this stands for the case that it isn't after all.
    described.unwrap_or_else(|| Described { command_line: (*b"[?]").into(), label: None })
}
