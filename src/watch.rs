//! One look at the kernel after another: the sources, in their order, and the ledger that gets what
//! they say.

mod naming;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use crate::attribution::{OwnPipes, Share};
use crate::environment::{Environment, WatchError};
use crate::ledger::Ledger;
use crate::model::traffic::Traffic;
use crate::model::{Looked, SourceKind};
use crate::netns::NetnsChoice;
use crate::processes::{LabelBy, Names, Owners, ProcessId};
use crate::recording::{Recorded, Recorder};
use crate::sources::{self, Forwarded, Needs, Round};

pub(crate) use naming::{credit, name};

/// Reads the kernel once a look, and accounts what it says.
#[derive(Debug)]
pub(crate) struct Watch {
    source: SourceKind,
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
    /// Where what the core is given is recorded.
    recorder: Option<Recorder>,
}

impl Watch {
    /// Opens what it takes to watch `source` in the network namespaces `netns` through the procfs at
    /// `proc`. With `lookback` what was counted before the start is accounted too.
    ///
    /// # Errors
    /// If the host's addresses or processes can't be listed at all, or the source can't be had.
    pub(crate) fn open(
        source: SourceKind,
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
            recorder: None,
        })
    }

    /// From now on processes are labelled by the first of these that they have.
    pub(crate) fn label_by(&mut self, labels: Vec<LabelBy>) {
        self.environment.label_by(labels);
    }

    /// Also accounts what passes through this host on the way from one to another, where it takes more
    /// than the source to see it: connection tracking, if that counts.
    pub(crate) fn count_forwarded(&mut self) {
        if self.source == SourceKind::Ebpf
            && self.sources.len() == 1
            && let Some(forwarded) = Forwarded::open(&mut self.environment)
        {
            self.sources.push(Box::new(forwarded));
        }
    }

    /// This process forwards TCP connections between these local and those remote ports, and
    /// accounts them itself: what it holds of them is [`Reason::OwnPipe`](crate::model::owner::Reason) from
    /// now on.
    pub(crate) fn leave_to_pipes(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.pipes.ports.extend(ports);
    }

    /// From now on what the core is given is recorded.
    pub(crate) fn record(&mut self, recorder: Recorder) {
        self.sources.iter_mut().for_each(|source| source.record(&recorder));
        self.recorder = Some(recorder);
    }

    /// The recording, if there is one.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// Whether not everything was read for the first time: see [`Watch::look_until`].
    pub(crate) fn is_reading(&self) -> bool {
        self.begins
    }

    /// What is watched.
    pub(crate) fn source(&self) -> SourceKind {
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
    /// under [`Reason::Unread`](crate::model::owner::Reason), or are accounted when they are read first.
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
        if let Some(recorder) = self.recorder() {
            recorder.looked();
            if let Some((path, error)) = recorder.take_error() {
                return Err(WatchError::Record { path, error });
            }
        }
        Ok(looked)
    }

    fn look_once(
        &mut self,
        ledger: &mut Ledger,
        until: Option<Instant>,
    ) -> Result<Looked, WatchError> {
        let Watch { environment, sources, pipes, pings, recorder, .. } = self;
        let mut looked = Looked::default();
        let recorder = recorder.as_ref();
        if let Some(recorder) = recorder {
            recorder.look();
        }
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
            credit(ledger, share, &mut Recorded { owners, recorder });
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
            if let Some(recorder) = &self.recorder {
                recorder.forget(left);
            }
            self.sources.iter_mut().for_each(|source| source.forget(left));
        }
        Ok(looked)
    }

    fn name(&mut self, ledger: &mut Ledger, ended: Vec<ProcessId>) {
        let Watch { environment, unlisted, recorder, .. } = self;
        let recorder = recorder.as_ref();
        let ended = match recorder {
            Some(recorder) => recorder.begin_names(ended),
            None => ended,
        };
        let mut processes = Recorded { owners: &mut environment.owners, recorder };
        name(ledger, &mut processes, unlisted, ended);
        if let Some(recorder) = recorder {
            recorder.named_all();
        }
    }
}
