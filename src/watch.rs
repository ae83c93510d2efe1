//! Looks at the kernel: reads the sources, in order, and accounts their shares to the ledger.

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
use crate::processes::{Labelling, Names, Owners, ProcessId};
use crate::recording::{Recorded, Recorder};
use crate::sources::{self, Forwarded, Needs, Round};

pub(crate) use naming::{credit, name};

/// Reads the kernel, and accounts its bytes.
#[derive(Debug)]
pub(crate) struct Watch {
    source: SourceKind,
    environment: Environment,
    /// The sources, the chosen one first.
    sources: Vec<Box<dyn sources::Source>>,
    pipes: OwnPipes,
    /// Bytes of pings that the kernel's own sockets have counted.
    pings: Traffic,
    /// Processes with bytes that were not listed at that look: they have ended, or are listed at
    /// the next one.
    unlisted: Vec<ProcessId>,
    /// Whether the first reading is not complete yet.
    begins: bool,
    /// The recording of the core's input, if there is one.
    recorder: Option<Recorder>,
}

impl Watch {
    /// Opens what `source` needs in the network namespaces `netns`, through the procfs at `proc`.
    /// With `lookback` bytes counted before the start are accounted too; with `details` shares have remote ends.
    ///
    /// # Errors
    /// The host's addresses or processes can't be listed, or the source can't be opened.
    pub(crate) fn open(
        source: SourceKind,
        netns: NetnsChoice,
        lookback: bool,
        details: bool,
        proc: &Path,
    ) -> Result<Watch, WatchError> {
        // Names first: every process with bytes from then on has one.
        let names = Names::default();
        names.listen(proc);
        let chosen = sources::open(source, netns, lookback, details, proc)?;
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

    /// Reads these of processes from now on.
    pub(crate) fn label_by(&mut self, labelling: Labelling) {
        self.environment.label_by(labelling);
    }

    /// Also accounts forwarded traffic, if the source needs connection tracking for it, and that
    /// counts.
    pub(crate) fn count_forwarded(&mut self) {
        if self.source == SourceKind::Ebpf
            && self.sources.len() == 1
            && let Some(forwarded) = Forwarded::open(&mut self.environment)
        {
            self.sources.push(Box::new(forwarded));
        }
    }

    /// Sets the ports of this process's pipes, local and remote ones. The pipes account their bytes
    /// themselves: the bytes of their connections are [`Reason::OwnPipe`](crate::model::owner::Reason) from
    /// now on.
    pub(crate) fn leave_to_pipes(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.pipes.ports.extend(ports);
    }

    /// Records the core's input from now on.
    pub(crate) fn record(&mut self, recorder: Recorder) {
        self.sources.iter_mut().for_each(|source| source.record(&recorder));
        self.recorder = Some(recorder);
    }

    /// The recording, if there is one.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// Whether the first reading is not complete yet: see [`Watch::look_until`].
    pub(crate) fn is_reading(&self) -> bool {
        self.begins
    }

    /// The source.
    pub(crate) fn source(&self) -> SourceKind {
        self.source
    }

    /// Descriptors that become readable when [`Watch::drain`] has something to take.
    pub(crate) fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let own = self.sources.iter().flat_map(|source| source.events());
        self.environment.events().chain(own)
    }

    /// Takes announcements, so that the kernel's buffer never fills. The next look accounts them.
    /// Returns whether that look should not wait.
    pub(crate) fn drain(&mut self) -> bool {
        let calls = self.environment.drain();
        self.sources.iter_mut().fold(calls, |calls, source| source.drain() || calls)
    }

    /// Whether to call [`Watch::drain`] several times a second even if no descriptor is readable.
    pub(crate) fn needs_peeks(&self) -> bool {
        self.sources.iter().any(|source| source.needs_peeks())
    }

    /// Takes a look and accounts the new bytes to `ledger`. The first reading is waited for until `until` at most:
    /// it continues in the background, and a later look takes its result. [`Looked::unread`] says what is left.
    /// Bytes whose socket or process was not read yet wait under [`Reason::Unread`](crate::model::owner::Reason), or
    /// are accounted when they are first read.
    ///
    /// # Errors
    /// If the source can't be read (any more). Bytes accounted before remain valid.
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
