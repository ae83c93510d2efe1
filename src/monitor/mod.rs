//! One host, watched through one source: [`Monitor`].

mod choice;
mod draft;
mod schedule;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::ledger::{self, Ledger};
use crate::model::{Health, Looked, Snapshot, SourceChoice, SourceKind};
use crate::netns::NetnsChoice;
use crate::processes::{FactsReader, LabelBy, Labelling};
use crate::recording::Recorder;
use crate::selection::{Only, Selection};
use crate::watch::Watch;

pub use crate::environment::WatchError;
use crate::environment::no_proc;

pub(crate) use choice::{MEND_ACCOUNTING, MEND_MODULE, impediment, known};
pub use choice::{Notice, OpenError};
use choice::{candidates, impeded, refused};
pub(crate) use draft::Draft;
pub(crate) use schedule::{Schedule, Step, following};

/// The moment of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall-clock time.
    pub at: Timestamp,
    /// The same moment on the monotonic clock.
    pub instant: Instant,
}

impl Moment {
    /// The current moment.
    pub fn now() -> Moment {
        Moment { at: Timestamp::now(), instant: Instant::now() }
    }
}

/// The shortest and the longest time between two snapshots.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Options of a [`Monitor`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where bytes are counted.
    pub source: SourceChoice,
    /// The network namespaces to watch.
    pub netns: NetnsChoice,
    /// Whether bytes counted before the start are accounted too.
    pub lookback: bool,
    /// Whether traffic that this host forwards is counted too. With eBPF this takes connection tracking
    /// in addition, and happens only if that counts.
    pub forwarded: bool,
    /// The attributes that label a process: the first one that it has applies.
    pub labels: Vec<LabelBy>,
    /// The processes and bytes that are selected.
    pub selection: Selection,
    /// The processes whose bytes are shown. Users need `attributes`.
    pub only: Only,
    /// Whether snapshots have [facts](crate::model::ProcessFacts) of processes.
    pub facts: bool,
    /// Whether processes have what they can be [grouped by](crate::model::Attributes).
    pub attributes: bool,
    /// Whether rows and processes have [remote ends](crate::model::Detail).
    pub details: bool,
    /// The ports of this program's own pipes, which account the bytes that they forward themselves.
    pub own_ports: Vec<u16>,
    /// Maximum time of the first look; the rest of it is read in the background. `None` for no limit.
    pub patience: Option<Duration>,
    /// The path where procfs is mounted.
    pub proc: PathBuf,
    /// A file in which to record the input of attribution and ledger, for tests.
    #[doc(hidden)]
    pub record: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            source: SourceChoice::Auto,
            netns: NetnsChoice::All,
            lookback: true,
            forwarded: false,
            labels: Vec::new(),
            facts: false,
            only: Only::default(),
            attributes: false,
            details: false,
            selection: Selection::default(),
            own_ports: Vec::new(),
            patience: None,
            proc: PathBuf::from("/proc"),
            record: None,
        }
    }
}

/// Reads the traffic of a host from one source and accounts it to processes.
///
/// Look often enough, as [`Monitor::snapshots`] does by itself: the kernel drops announcements that are not
/// read.
#[derive(Debug)]
pub struct Monitor {
    source: SourceKind,
    /// `None` once it is [closed](Monitor::close).
    watch: Option<Watch>,
    ledger: Ledger,
    /// Findings since the last snapshot.
    looked: Looked,
    notices: Vec<Notice>,
    /// `None` if snapshots have no facts of processes.
    facts: Option<FactsReader>,
    opened: Instant,
    snapshots: u64,
}

impl Monitor {
    /// Opens the source and takes the first look. [`SourceChoice::Auto`] chooses the first of eBPF,
    /// connection tracking and sockets that can be read here; [`Monitor::notices`] has the reasons.
    ///
    /// # Errors
    /// The source can't be opened or read; with [`SourceChoice::Auto`], none can.
    pub fn open(options: &Options) -> Result<Monitor, OpenError> {
        Monitor::first_of(options, |source| Monitor::open_source(source, options))
    }

    /// The first of the sources that can be opened and read.
    fn first_of(
        options: &Options,
        mut open: impl FnMut(SourceKind) -> Result<Monitor, WatchError>,
    ) -> Result<Monitor, OpenError> {
        let (mut source, mut others) = candidates(options.source);
        let is_chosen = others.is_empty();
        let (mut notices, mut may_read) = (Vec::new(), true);
        loop {
            let next = others.split_first();
            let impediment =
                if source == SourceKind::Conntrack { impeded(&options.proc) } else { None };
            let (refusal, following) = match (impediment, next) {
                (Some((why, mend)), Some(next)) => {
                    (Notice::Instead { why: why.to_owned(), mend: Some(mend) }, next)
                }
                (impediment, next) => {
                    notices.extend(impediment.map(|(why, mend)| Notice::Impeded { why, mend }));
                    match (open(source), next) {
                        (Ok(mut monitor), _) => {
                            if !is_chosen {
                                monitor.take_notices(notices, may_read);
                            } else {
                                monitor.notices = notices;
                            }
                            return Ok(monitor);
                        }
                        // Without procfs none can be read.
                        (Err(error), Some(next)) if !matches!(error, WatchError::Proc { .. }) => {
                            if let WatchError::Ebpf(error) = &error {
                                may_read = error.mend().is_none();
                            }
                            (refused(source, &error), next)
                        }
                        (Err(error), _) => return Err(OpenError { refused: notices, error }),
                    }
                }
            };
            notices.push(refusal);
            (source, others) = (*following.0, following.1);
        }
    }

    /// Collects the messages about the choice, of which `refusals` are known.
    fn take_notices(&mut self, refusals: Vec<Notice>, may_read: bool) {
        let Looked { denied, unread, .. } = &self.looked;
        self.notices = refusals;
        if self.source != SourceKind::Sockets {
            self.notices.push(Notice::Taken(self.source));
        } else if !may_read && (*denied > 0 || !geteuid().is_root()) {
            // The needs of each source are the same, and can be reported at once. On a busy machine the processes may
            // be read later.
            let denied = Some(*denied).filter(|denied| *denied > 0 && !unread.is_anything());
            self.notices = vec![Notice::Unprivileged { denied }];
        }
    }

    fn open_source(source: SourceKind, options: &Options) -> Result<Monitor, WatchError> {
        let Options { netns, lookback, proc, .. } = options;
        let mut watch = Watch::open(source, *netns, *lookback, options.details, proc)?;
        let attributes = options.attributes;
        watch.label_by(Labelling { by: options.labels.clone(), attributes });
        watch.leave_to_pipes(options.own_ports.iter().copied());
        if let Some(path) = &options.record {
            let recorder = Recorder::create(path, source, *lookback);
            let wrong = |error| WatchError::Record { path: path.clone(), error };
            watch.record(recorder.map_err(wrong)?);
        } else if options.forwarded {
            watch.count_forwarded();
        }
        let naming = Box::new(options.selection.clone());
        let details = options.details;
        let only = options.only.clone();
        let ledger =
            Ledger::new(ledger::Options { naming, details, only, ..ledger::Options::default() });
        let mut monitor = Monitor::new(watch, ledger);
        if options.facts {
            let reader = FactsReader::open(proc);
            monitor.facts = Some(reader.map_err(|errno| no_proc(proc, errno))?);
        }
        monitor.look_until(
            options.patience.and_then(|patience| monitor.opened.checked_add(patience)),
        )?;
        Ok(monitor)
    }

    /// A monitor that accounts what `watch` reads to `ledger`.
    pub(crate) fn new(watch: Watch, ledger: Ledger) -> Monitor {
        Monitor {
            source: watch.source(),
            watch: Some(watch),
            ledger,
            looked: Looked::default(),
            notices: Vec::new(),
            facts: None,
            opened: Instant::now(),
            snapshots: 0,
        }
    }

    /// The source in use.
    pub fn source(&self) -> SourceKind {
        self.source
    }

    /// Messages about the choice of the source.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The time of opening, just before the first look.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Descriptors that become readable when [`Monitor::drain`] has something to take.
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watch.iter().flat_map(Watch::events)
    }

    /// Takes the kernel's announcements, so that its buffers never fill. The next look accounts them. Returns
    /// whether that look should not wait.
    pub fn drain(&mut self) -> bool {
        self.watch.as_mut().is_some_and(Watch::drain)
    }

    /// Whether to call [`Monitor::drain`] several times a second even if no descriptor is readable.
    pub fn needs_peeks(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::needs_peeks)
    }

    /// Whether the first reading is not complete yet.
    pub fn is_reading(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_reading)
    }

    /// Reads the kernel once, and accounts new bytes.
    ///
    /// # Errors
    /// If the source can't be read (any more). Bytes accounted before remain valid.
    pub fn look(&mut self) -> Result<(), WatchError> {
        // A first reading that goes on in the background is not waited for.
        self.look_until(self.is_reading().then(Instant::now))
    }

    /// As [`Monitor::look`], but waits for the first reading until `until` at most. The rest of it is read in the
    /// background, and a later look accounts it.
    ///
    /// # Errors
    /// As for [`Monitor::look`].
    pub fn look_until(&mut self, until: Option<Instant>) -> Result<(), WatchError> {
        if let Some(watch) = &mut self.watch {
            let looked = watch.look_until(&mut self.ledger, until)?;
            self.looked.follow(looked);
        }
        Ok(())
    }

    /// Findings of the looks since the last snapshot.
    pub fn looked(&self) -> &Looked {
        &self.looked
    }

    /// The same findings, with the source.
    pub fn health(&self) -> Health {
        Health { source: self.source, looked: self.looked.clone() }
    }

    /// Looks, and takes a snapshot.
    ///
    /// # Errors
    /// As for [`Monitor::look`].
    pub fn snapshot(&mut self) -> Result<Snapshot, WatchError> {
        self.look()?;
        let mut draft = Draft::default();
        let moment = Moment::now();
        self.add_to(&mut draft, moment);
        self.snapshots += 1;
        Ok(draft.finish(self.snapshots, moment))
    }

    /// An endless iterator of snapshots, one every `interval` (10 ms to a year), the first one an interval from
    /// now. Between them the kernel is read as often as needed.
    pub fn snapshots(&mut self, interval: Duration) -> Snapshots<'_> {
        let moment = Moment::now();
        let now = moment.instant;
        if self.snapshots == 0 {
            // Rates start here.
            self.end_refresh(moment);
            self.ledger.begin();
        }
        let interval = interval.clamp(SHORTEST, LONGEST);
        Snapshots { monitor: self, interval, due: now, schedule: Schedule::new(now) }
    }

    /// Ends a refresh at this moment, and adds its result to `draft`.
    pub(crate) fn add_to(&mut self, draft: &mut Draft, moment: Moment) {
        self.end_refresh(moment);
        draft.add_ledger(&self.ledger);
        if let Some(facts) = &mut self.facts {
            draft.add_facts(facts);
        }
        self.ledger.begin();
        if self.watch.is_some() {
            draft.add_health(self.health());
        }
        self.looked = Looked { unread: self.looked.unread.clone(), ..Looked::default() };
    }

    /// Ends a refresh that was taken at this moment, and records its result if there is a
    /// recording.
    fn end_refresh(&mut self, moment: Moment) {
        match self.watch.as_ref().and_then(Watch::recorder) {
            Some(recorder) => {
                let draft = Draft::of_ledger(&mut self.ledger, moment);
                recorder.refresh(&draft.finish(0, moment));
            }
            None => self.ledger.end(moment.instant),
        }
    }

    /// Changes the naming of lines, and the ports of this program's own pipes.
    pub(crate) fn configure(
        &mut self,
        naming: Box<dyn ledger::Naming>,
        own_ports: impl IntoIterator<Item = u16>,
    ) {
        self.ledger.set_naming(naming);
        if let Some(watch) = &mut self.watch {
            watch.leave_to_pipes(own_ports);
        }
    }

    /// Whether it is closed: it reads nothing any more, and keeps what was accounted.
    pub fn is_closed(&self) -> bool {
        self.watch.is_none()
    }

    /// Stops reading. What was accounted stays.
    pub(crate) fn close(&mut self) {
        self.watch = None;
        self.ledger.retire();
    }

    /// Takes over the accounts of a closed monitor of the same source.
    pub(crate) fn inherit(&mut self, closed: Monitor) {
        self.ledger.inherit(closed.ledger);
    }

    #[cfg(test)]
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

/// The iterator of [`Monitor::snapshots`].
#[derive(Debug)]
pub struct Snapshots<'a> {
    monitor: &'a mut Monitor,
    interval: Duration,
    due: Instant,
    schedule: Schedule,
}

impl Snapshots<'_> {
    fn take(&mut self) -> Result<Snapshot, WatchError> {
        self.due = following(self.due, self.interval, Instant::now());
        loop {
            let wait = self.schedule.wait(Instant::now(), self.due, self.monitor.needs_peeks());
            if wait_for(self.monitor, wait.until, wait.or_events) {
                let called = self.monitor.drain();
                self.schedule.drained(Instant::now(), true, called);
                continue;
            }
            match self.schedule.timed(Instant::now(), wait, self.due) {
                Step::Drain => {
                    let called = self.monitor.drain();
                    self.schedule.drained(Instant::now(), false, called);
                }
                Step::Look => self.monitor.look()?,
                Step::Refresh => return self.monitor.snapshot(),
            }
        }
    }
}

impl Iterator for Snapshots<'_> {
    type Item = Result<Snapshot, WatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.take())
    }
}

/// Waits until then, or until the kernel announces something; returns whether it has.
fn wait_for(monitor: &Monitor, until: Instant, or_events: bool) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let Ok(timeout) = Timespec::try_from(left) else { return false };
        let events: Vec<BorrowedFd<'_>> =
            if or_events { monitor.events().collect() } else { Vec::new() };
        let mut waiting: Vec<PollFd<'_>> =
            events.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            // As it would be for a clock that stands still: the time is waited for without events.
            Err(_) => std::thread::sleep(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of `auto` if these sources fail at the first look.
    fn auto(failing: &[SourceKind]) -> Result<Monitor, OpenError> {
        let options = Options { netns: NetnsChoice::Own, ..Options::default() };
        Monitor::first_of(&options, |source| {
            if failing.contains(&source) {
                return Err(WatchError::NoCounters);
            }
            // Any source does: what is asked is which one was tried.
            let open = Options { source: SourceChoice::Sockets, ..options.clone() };
            let mut monitor = Monitor::open_source(SourceKind::Sockets, &open)?;
            monitor.source = source;
            Ok(monitor)
        })
    }

    #[test]
    fn where_the_first_look_fails_the_next_source_is_taken() {
        let monitor = auto(&[]).unwrap();
        assert_eq!(monitor.source(), SourceKind::Ebpf);
        assert_eq!(monitor.notices(), [Notice::Taken(SourceKind::Ebpf)]);
        let monitor = auto(&[SourceKind::Ebpf]).unwrap();
        assert_ne!(monitor.source(), SourceKind::Ebpf);
        let why = WatchError::NoCounters.to_string();
        assert_eq!(monitor.notices()[0], Notice::NoEbpf(why));
        let monitor = auto(&[SourceKind::Ebpf, SourceKind::Conntrack]).unwrap();
        assert_eq!(monitor.source(), SourceKind::Sockets);
        assert!(matches!(monitor.notices()[1], Notice::Instead { .. }));
        let error =
            auto(&[SourceKind::Ebpf, SourceKind::Conntrack, SourceKind::Sockets]).unwrap_err();
        assert!(matches!(error.error, WatchError::NoCounters));
        assert_eq!(error.refused.len(), 2, "{error:?}");
    }

    #[test]
    fn a_source_that_was_asked_for_is_taken_or_none() {
        let options =
            Options { source: SourceChoice::Ebpf, netns: NetnsChoice::Own, ..Options::default() };
        let error = Monitor::first_of(&options, |_| Err(WatchError::NoCounters)).unwrap_err();
        assert!(matches!(error.error, WatchError::NoCounters) && error.refused.is_empty());
    }
}
