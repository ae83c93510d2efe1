//! Source `ebpf`: programs in the kernel count the IP bytes of every socket.

mod list_budget;
mod resolver;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::baseline::Baseline;
use super::{Needs, Round, Source};
use crate::attribution::{Share, SlotPressure, SocketAttribution};
use crate::ebpf::{self, Bytes, Counted, Origin, Task};
use crate::environment::{Environment, Lists, WatchError};
use crate::netns::NetnsChoice;
use crate::processes::{Owners, ProcessId};
use crate::recording::Recorder;
use crate::sockets::Inode;
use crate::tracker::Namespace;
use list_budget::ListBudget;
use resolver::OwnerResolver;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Number of looks for which the closer of a Multipath TCP connection is remembered: its subflows
/// continue for a moment.
const CLOSED: u32 = 8;

/// Reads the counters of sockets, and attributes them.
#[derive(Debug)]
pub(super) struct Ebpf {
    reader: ebpf::Reader,
    attribution: SocketAttribution,
    choice: NetnsChoice,
    lookback: bool,
    /// Whether remote ends are told apart.
    details: bool,
    /// The reading of bytes from before the start, until it is accounted.
    baseline: Option<Baseline>,
    /// The sockets with slots at this look, and those that have lost their slots, with the last bytes in them
    /// and the bytes accounted before.
    counted: Vec<Counted>,
    last: Vec<(Counted, Bytes)>,
    pressure: SlotPressure,
    /// All sockets by their cookies, as in the last list and the one before: a socket that has ended since
    /// is only in the earlier one.
    listed: [Map<u64, Option<Inode>>; 2],
    list_budget: ListBudget,
    /// The closer of each Multipath TCP connection, by its token, and the look that saw the end.
    closed: Map<u32, (Task, u32)>,
    recorder: Option<Recorder>,
}

impl Ebpf {
    pub(super) fn open(
        choice: NetnsChoice,
        lookback: bool,
        details: bool,
        proc: &Path,
    ) -> Result<Ebpf, WatchError> {
        Ok(Ebpf {
            reader: ebpf::Reader::open(proc, details).map_err(WatchError::Ebpf)?,
            attribution: SocketAttribution::new(),
            choice,
            lookback,
            details,
            baseline: None,
            counted: Vec::new(),
            last: Vec::new(),
            pressure: SlotPressure::Low,
            listed: Default::default(),
            list_budget: ListBudget::default(),
            closed: Map::default(),
            recorder: None,
        })
    }

    /// The watched network namespace, if there is only one.
    fn only(&self) -> Option<u64> {
        (self.choice == NetnsChoice::Own).then(|| self.reader.netns())
    }

    /// Whether a socket needs a holder and was not listed yet.
    fn has_new(&self) -> bool {
        self.counted.iter().any(|socket| {
            self.attribution.is_new(socket, self.pressure)
                && self.reader.origin(socket).is_some_and(|origin| {
                    let elsewhere = ![0, self.reader.netns()].contains(&origin.netns);
                    !(origin.released || elsewhere && self.choice == NetnsChoice::Own)
                })
        })
    }

    /// Takes the cookies of the sockets that were listed at this look.
    fn take_lists(&mut self, environment: &Environment) {
        let listed = &environment.listed;
        if let Some(cost) = listed.all {
            self.list_budget.took(cost);
            self.listed.swap(0, 1);
            self.listed[0].clear();
        }
        let is_listed = |of: &&Namespace| listed.namespaces.contains(&of.key);
        let of = environment.namespaces.iter().filter(is_listed);
        of.for_each(|namespace| self.listed[0].extend(cookies(namespace)));
    }

    /// Accounts the new bytes of every socket, and takes back slots that are no longer needed.
    fn account(&mut self, round: &mut Round<'_>) {
        let now = round.environment.looks();
        let closed = self.reader.closed_multipath();
        self.closed.extend(closed.iter().map(|(token, by)| (*token, (*by, now))));
        self.closed.retain(|_, (_, seen)| now - *seen < CLOSED);
        let (counted, last) = (std::mem::take(&mut self.counted), std::mem::take(&mut self.last));
        let mut confirmed = 0;
        for (socket, before) in &last {
            self.account_last(socket, *before, &mut confirmed, round);
        }
        for socket in &counted {
            self.account_one(socket, &mut confirmed, round);
        }
        (self.counted, self.last) = (counted, last);
        let Round { environment, looked, pings, credit, .. } = round;
        let (only, reads_kernel) = (self.only(), self.reader.reads_kernel());
        // An unknown namespace may have been this one.
        let is_watched =
            |netns: u64| only.is_none_or(|only| netns == only || netns == 0 && !reads_kernel);
        let mut overflow = false;
        let outside = self.reader.outside().filter(|(netns, _)| is_watched(*netns));
        let outside = outside.inspect(|(_, of)| overflow |= !of.without_slot.is_zero());
        let mut recorded = Vec::new();
        let is_recorded = self.recorder.is_some();
        let outside = outside.inspect(|of| recorded.extend(is_recorded.then_some(*of)));
        let owners = &mut environment.owners;
        *pings += self.attribution.outside(outside, |share| credit(&share, owners));
        if let Some(recorder) = &self.recorder {
            recorder.outside(&recorded);
        }
        looked.overflow = overflow.then(|| self.reader.capacity());
        self.attribution.end();
    }

    /// Accounts the bytes of a socket, and takes its slot back if it is no longer needed.
    fn account_one(&mut self, socket: &Counted, confirmed: &mut u32, round: &mut Round<'_>) {
        // No more slots are taken back than can be remembered until the past is read.
        let keeps = self.baseline.as_ref().is_some_and(Baseline::is_full);
        let pressure = if keeps { SlotPressure::Low } else { self.pressure };
        let done = match self.passes(socket, pressure) {
            Some(origin) => {
                self.account_in_passing(socket, socket.bytes, &origin, confirmed, round);
                Some(origin)
            }
            None => {
                self.account_remembered(socket, confirmed, round);
                self.done(socket, pressure)
            }
        };
        if let Some(origin) = done
            && !keeps
        {
            self.reader.take_back(socket, &origin);
            if let Some(baseline) = &mut self.baseline {
                baseline.let_go(socket, &origin);
            }
        }
    }

    /// The origin of a socket that has come and gone, and need not be remembered.
    fn passes(&self, socket: &Counted, pressure: SlotPressure) -> Option<Origin> {
        if pressure == SlotPressure::Low || self.attribution.is_remembered(socket) {
            return None;
        }
        let origin = self.origin(socket)?;
        self.attribution.is_passing(socket, &origin, pressure).then_some(origin)
    }

    /// The origin of a socket that no longer needs its slot.
    fn done(&self, socket: &Counted, pressure: SlotPressure) -> Option<Origin> {
        if !self.attribution.may_be_done(socket, pressure) {
            return None;
        }
        let origin = self.origin(socket)?;
        self.attribution.is_done(socket, &origin, pressure).then_some(origin)
    }

    /// Accounts the last bytes in a slot; `before` were accounted earlier.
    fn account_last(
        &mut self,
        socket: &Counted,
        before: Bytes,
        confirmed: &mut u32,
        round: &mut Round<'_>,
    ) {
        if self.attribution.is_remembered(socket) {
            self.account_remembered(socket, confirmed, round);
            self.forget(socket);
        } else if let Some(origin) = self.origin(socket) {
            self.account_in_passing(socket, socket.bytes - before, &origin, confirmed, round);
        }
    }

    fn account_remembered(&mut self, socket: &Counted, confirmed: &mut u32, round: &mut Round<'_>) {
        let change = self.attribution.read(socket);
        let changed = change.and_then(|change| Some((change, self.origin(socket)?)));
        let Some((change, origin)) = changed else {
            if let Some(recorder) = &self.recorder {
                recorder.seen(socket);
            }
            return;
        };
        let mut resolver = self.resolver(round);
        let resolution = resolver.resolve(socket, &origin, &change.remembered, confirmed);
        if let Some(recorder) = &self.recorder {
            recorder.accounted(socket, &origin, resolver.found.filter(|_| resolution.is_some()));
        }
        self.attribution.account(socket, &change, &origin, resolution, |share| {
            take(round, &origin, share);
        });
    }

    /// Accounts new bytes of a socket that is not remembered.
    fn account_in_passing(
        &mut self,
        socket: &Counted,
        new: Bytes,
        origin: &Origin,
        confirmed: &mut u32,
        round: &mut Round<'_>,
    ) {
        if new.is_zero() {
            return;
        }
        let nothing = Default::default();
        let mut resolver = self.resolver(round);
        let resolution = resolver.resolve(socket, origin, &nothing, confirmed);
        if let Some(recorder) = &self.recorder {
            recorder.passing(new, origin, resolver.found.filter(|_| resolution.is_some()));
        }
        let cookie = socket.cookie;
        self.attribution
            .account_in_passing(cookie, new, resolution, |share| take(round, origin, share));
    }

    fn resolver<'a>(&'a self, round: &'a mut Round<'_>) -> OwnerResolver<'a> {
        let unread = round.environment.unread();
        OwnerResolver {
            unread: unread.namespaces.is_some() || unread.processes.is_some(),
            looks: round.environment.looks(),
            owners: &mut round.environment.owners,
            listed: &self.listed,
            only: self.only(),
            found: None,
        }
    }

    fn forget(&mut self, socket: &Counted) {
        self.attribution.forget(socket);
        if let Some(recorder) = &self.recorder {
            recorder.release(socket);
        }
    }

    /// The origin of a socket. The end of a Multipath TCP connection is the end of its subflows: no
    /// descriptor refers to them.
    fn origin(&self, of: &Counted) -> Option<Origin> {
        let origin = self.reader.origin(of)?;
        let whole = || self.closed.get(&origin.token).filter(|_| origin.token != 0);
        match whole() {
            Some((closer, _)) if !origin.multipath => {
                Some(Origin { closer: Some(*closer), released: true, ..origin })
            }
            _ => Some(origin),
        }
    }
}

/// Hands on a share of a socket's new bytes.
fn take(round: &mut Round<'_>, origin: &Origin, share: Share) {
    let Round { environment, pipes, pings, credit, .. } = round;
    let kernel = crate::model::owner::Owner::Nobody(crate::model::owner::Reason::Kernel);
    if origin.protocol.is_icmp() && share.to == kernel {
        *pings += share.traffic;
    }
    let share = pipes.without(origin.protocol, &origin.ports, share);
    let owners: &mut Owners = &mut environment.owners;
    credit(&share, owners);
}

/// The sockets of a namespace by their cookies. Those read from `/proc/net` have none.
fn cookies(namespace: &Namespace) -> impl Iterator<Item = (u64, Option<Inode>)> {
    let sockets = namespace.table.iter().filter(|socket| socket.cookie != 0);
    sockets.map(|socket| (socket.cookie, socket.inode))
}

impl Source for Ebpf {
    fn drain(&mut self) -> bool {
        if let Some(baseline) = &mut self.baseline {
            baseline.drain();
        }
        let is_read = self.baseline.as_ref().is_some_and(Baseline::has_arrived);
        is_read || self.reader.is_filling()
    }

    fn needs_peeks(&self) -> bool {
        true
    }

    /// Reads the counters before the processes are listed: their owners still exist then.
    fn prepare(&mut self, until: Option<Instant>) -> Needs {
        let Ebpf { reader, attribution, baseline, counted, last, recorder, .. } = self;
        let mut forget = |socket: Counted| {
            attribution.forget(&socket);
            if let Some(recorder) = recorder {
                recorder.release(&socket);
            }
        };
        counted.clear();
        last.clear();
        reader.read(|socket, before| match before {
            None => counted.push(socket),
            Some(before) if before == socket.bytes => forget(socket),
            Some(before) => last.push((socket, before)),
        });
        if let Some(baseline) = baseline {
            last.iter().for_each(|(socket, before)| baseline.last(socket, *before));
        }
        attribution.begin();
        reader.read_remotes(|bytes| attribution.add_remote(&bytes));
        if let Some(recorder) = recorder {
            recorder.count();
        }
        // Silent sockets free their slots by themselves.
        let taken = counted.iter().filter(|socket| socket.has_bytes()).count();
        self.pressure = SlotPressure::beside(taken, self.reader.capacity());
        let has_new = self.has_new();
        let lists = match self.list_budget.is_due(has_new, Instant::now()) {
            true => Lists::All,
            false if until.is_some() => Lists::Ahead,
            false => Lists::Nothing,
        };
        let with_bytes = self.counted.iter().filter(|socket| socket.has_bytes());
        Needs { lists, inodes: with_bytes.filter_map(|socket| socket.inode).collect() }
    }

    fn poll(&mut self, round: &mut Round<'_>) -> Result<(), WatchError> {
        self.take_lists(round.environment);
        round.environment.update_tracked(round.looked);
        let taken = self.counted.iter().filter(|socket| socket.has_bytes()).count();
        round.looked.flows += (taken + self.last.len()) as u64;
        if let Some(mut baseline) = self.baseline.take() {
            let (only, recorder) = (self.only(), self.recorder.as_ref());
            let seen = |socket: &Counted, origin: &Origin, round: &mut Round<'_>| {
                let nothing = Default::default();
                let resolution = self.resolver(round).resolve(socket, origin, &nothing, &mut 0);
                resolution.map(|of| of.to)
            };
            if !baseline.poll(&self.reader, only, recorder, round, seen) {
                self.baseline = Some(baseline);
            }
        }
        self.account(round);
        round.looked.unread_kernel = !self.reader.reads_kernel();
        self.reader.give_back();
        Ok(())
    }

    fn record(&mut self, recorder: &Recorder) {
        self.recorder = Some(recorder.clone());
    }

    /// Starts reading the bytes that others counted before the start.
    fn start(&mut self, environment: &mut Environment) {
        if self.lookback {
            self.baseline = Baseline::begin(&self.reader, environment, self.details);
        }
    }

    fn is_reading(&self) -> bool {
        self.baseline.is_some()
    }

    fn referenced(&self) -> Option<&HashSet<ProcessId, RandomState>> {
        Some(self.attribution.referenced())
    }
}
