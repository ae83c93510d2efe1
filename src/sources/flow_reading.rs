//! Reads and accounts the flows of every namespace.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use foldhash::fast::RandomState;

use super::dump_policy::DumpPolicy;
use super::{Needs, Round, Source};
use crate::attribution::{Coverage, FlowAttribution, Observation, Share};
use crate::conntrack::ReadError;
use crate::environment::{
    Environment, Lists, Looked, Lookups, NamespaceView, OtherNamespaces, WatchError, resolve,
};
use crate::model::flow::{Flow, Tuple};
use crate::netns::NetnsKey;
use crate::processes::{Owners, ProcessId};
use crate::recording::{Recorded, Recorder};
use crate::tracker::{FlowTable, Namespace, Opens, choose};

/// What counts the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Connection tracking.
    ByTables,
    /// The flows' TCP sockets.
    BySockets,
}

/// Receives the share of a flow; `None` for one that is forgotten.
pub(super) type Each<'a> = dyn FnMut(Option<&Flow>, Share, &mut Owners) + 'a;

/// Reads flows, look by look.
#[derive(Debug)]
pub(super) struct FlowReading {
    counted: Counted,
    pub(super) attribution: FlowAttribution,
    policies: HashMap<NetnsKey, DumpPolicy, RandomState>,
    recorder: Option<Recorder>,
}

impl FlowReading {
    /// With `lookback` the bytes counted before the first look are accounted too; with `details` shares have remote
    /// ends.
    pub(super) fn new(counted: Counted, lookback: bool, details: bool) -> FlowReading {
        let mut attribution = FlowAttribution::new(lookback);
        if details {
            attribution.add_details();
        }
        FlowReading { counted, attribution, policies: HashMap::default(), recorder: None }
    }

    /// Records from now on what is read.
    fn record(&mut self, recorder: &Recorder) {
        self.recorder = Some(recorder.clone());
    }

    /// Reads flows and hands on their shares. Returns the processes that own a flow which still exists, if they
    /// were collected.
    ///
    /// # Errors
    /// As [`FlowReading::poll`].
    fn account(
        &mut self,
        round: &mut Round<'_>,
    ) -> Result<Option<HashSet<ProcessId, RandomState>>, ReadError> {
        let Round { environment, pipes, looked, credit, .. } = round;
        let observation = self.poll(environment, looked, &mut |flow, share, owners| {
            let share = flow.map_or(share, |flow| pipes.without_flow(flow, share));
            credit(&share, owners);
        })?;
        looked.flows += observation.flows;
        looked.uncounted += observation.uncounted;
        Ok(observation.referenced)
    }

    /// Takes the tracker's records, then reads the flows of every namespace.
    ///
    /// # Errors
    /// If the table of the program's own namespace can't be read.
    pub(super) fn poll(
        &mut self,
        environment: &mut Environment,
        looked: &mut Looked,
        each: &mut Each<'_>,
    ) -> Result<Observation, ReadError> {
        environment.refresh_addresses();
        self.attribution.set_opening(environment.opening());
        self.attribution.begin();
        environment.update_tracked(looked);
        let (records, missed) = environment.take_records();
        if missed > 0 || environment.was_unread() {
            // Also ended connections, if something was postponed: otherwise a table is queried only for the
            // others.
            for namespace in &environment.namespaces {
                self.policies.entry(namespace.key).or_default().doubt();
            }
        }
        let recorder = self.recorder.clone();
        let opening = environment.opening();
        let recorded = recorder.as_ref().map(|_| records.clone());
        let owners = &mut environment.owners;
        self.attribution.take_records(records, |flow, share| each(Some(flow), share, owners));
        if let (Some(recorder), Some(records)) = (&recorder, &recorded) {
            recorder.observe(opening, records);
        }
        let read = self.read(environment, looked, each);
        let owners = &mut environment.owners;
        let observation = self.attribution.end(|share| each(None, share, owners));
        if let Some(recorder) = &recorder {
            recorder.observed();
        }
        read.map(|()| observation)
    }

    fn read(
        &mut self,
        environment: &mut Environment,
        looked: &mut Looked,
        each: &mut Each<'_>,
    ) -> Result<(), ReadError> {
        let announced = environment.announces_flows();
        let unread = environment.unread().is_anything();
        let Environment { namespaces, owners, .. } = environment;
        let recorder = self.recorder.as_ref();
        if let Some(recorder) = recorder {
            for Namespace { key, table, local, .. } in &*namespaces {
                recorder.namespace(*key, local, table);
            }
            recorder.namespaces(namespaces.iter().map(|namespace| namespace.key));
        }
        let (mut readings, mut other_namespaces) = (Vec::new(), OtherNamespaces::default());
        for namespace in namespaces.iter_mut() {
            let Namespace { key, table, flows, ends, local, finder, .. } = namespace;
            other_namespaces.add(*key, local, table);
            readings.push((*key, &*table, flows, ends, &*local, finder));
        }
        // The program's own last: what passes through it is counted where its ends are, where that
        // is done.
        readings.reverse();
        for (key, table, flows, ends, local, finder) in readings {
            let view = NamespaceView {
                netns: key,
                sockets: table,
                addresses: local,
                other_namespaces: &other_namespaces,
                unread,
            };
            let mut account = |flow: &Flow, attribution: &mut FlowAttribution| {
                let mut choose = |tuple: &Tuple| {
                    let chosen = choose(finder, local, tuple);
                    if let Some(recorder) = recorder {
                        recorder.chosen(tuple, chosen);
                    }
                    chosen
                };
                let mut holders = Recorded { owners: &mut *owners, recorder };
                let mut lookups = Lookups { owners: &mut holders, choose: &mut choose };
                let shares = attribute(attribution, flow, &view, &mut lookups);
                shares.into_iter().flatten().for_each(|share| each(Some(flow), share, owners));
                if let Some(recorder) = recorder {
                    recorder.flow(flow);
                }
            };
            if let Some(recorder) = recorder {
                recorder.reading(key, unread, self.counted == Counted::ByTables);
            }
            let attribution = &mut self.attribution;
            let policy = self.policies.entry(key).or_default();
            let coverage = match self.counted {
                Counted::ByTables => {
                    let Some(flows) = flows else { continue };
                    let read = read_table(flows, policy, key, announced, attribution, &mut account);
                    let (read, coverage) = match read {
                        Err(_) if key != NetnsKey::OWN => continue, // it is about to end
                        read => read?,
                    };
                    looked.add_table(read);
                    coverage
                }
                Counted::BySockets => {
                    if let Some(ends) = ends {
                        ends.take().iter().for_each(|flow| account(flow, attribution));
                        looked.lost_ends += ends.take_lost();
                    }
                    let flows = table.iter().filter_map(crate::sockets::Socket::flow);
                    flows.for_each(|flow| account(&flow, attribution));
                    if looked.incomplete { Coverage::Interrupted } else { Coverage::Whole }
                }
            };
            attribution.leave(key, coverage);
            if let Some(recorder) = recorder {
                recorder.leave(key, coverage);
            }
            match coverage {
                Coverage::Chosen => policy.read_chosen(),
                Coverage::Whole | Coverage::Interrupted => policy.read_all(),
            }
            looked.incomplete |= coverage == Coverage::Interrupted;
        }
        Ok(())
    }

    /// Forgets a namespace that is no longer watched.
    pub(super) fn forget(&mut self, netns: NetnsKey) {
        self.attribution.forget(netns);
        self.policies.remove(&netns);
    }
}

/// A source that counts flows.
#[derive(Debug)]
pub(super) struct FlowSource {
    opens: Opens,
    flows: FlowReading,
    referenced: Option<HashSet<ProcessId, RandomState>>,
}

impl FlowSource {
    /// With `opens` opened in each namespace beside sockets.
    pub(super) fn new(counted: Counted, opens: Opens, lookback: bool, details: bool) -> FlowSource {
        FlowSource { opens, flows: FlowReading::new(counted, lookback, details), referenced: None }
    }
}

impl Source for FlowSource {
    fn record(&mut self, recorder: &Recorder) {
        self.flows.record(recorder);
    }

    fn opens(&self) -> Opens {
        self.opens
    }

    fn searches(&self) -> bool {
        true
    }

    /// Sockets are read before flows: the entry of a connection that ends in between stays in the table
    /// for seconds, while its socket is gone.
    fn prepare(&mut self, _: Option<Instant>) -> Needs {
        Needs { lists: Lists::All, ..Needs::default() }
    }

    fn poll(&mut self, round: &mut Round<'_>) -> Result<(), WatchError> {
        self.referenced = self.flows.account(round)?;
        Ok(())
    }

    fn forget(&mut self, netns: NetnsKey) {
        self.flows.forget(netns);
    }

    fn referenced(&self) -> Option<&HashSet<ProcessId, RandomState>> {
        self.referenced.as_ref()
    }
}

/// Reads a table of flows: all of it, or the entries that can have changed.
fn read_table(
    table: &mut FlowTable,
    policy: &mut DumpPolicy,
    key: NetnsKey,
    announced: bool,
    attribution: &mut FlowAttribution,
    account: &mut impl FnMut(&Flow, &mut FlowAttribution),
) -> Result<(crate::conntrack::Table, Coverage), ReadError> {
    let FlowTable { reader, sysctls, ahead } = table;
    let ahead = ahead.take();
    let entries = match &ahead {
        Some(Ok((_, chunks))) => Some(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
        Some(Err(_)) => None,
        None => reader.entries(),
    };
    attribution.expect(entries.or(sysctls.entries).unwrap_or(0) as usize);
    if attribution.missed_beginnings(key) {
        policy.doubt();
    }
    let buckets = sysctls.buckets.unwrap_or(0);
    let chosen = match entries {
        _ if ahead.is_some() => None,
        Some(0) => Some(Vec::new()),
        Some(entries) if announced && sysctls.announced != Some(false) => attribution
            .open_flows(key)
            .filter(|open| !policy.reads_all(buckets, entries, open.len())),
        _ => None,
    };
    let read = match (ahead, &chosen) {
        (Some(read), _) => {
            let (table, chunks) = read?;
            for chunk in chunks {
                chunk.iter().for_each(|flow| account(flow, attribution));
            }
            table
        }
        (None, Some(chosen)) => reader.read_chosen(chosen, |flow| account(flow, attribution))?,
        (None, None) => reader.read(|flow| account(flow, attribution))?,
    };
    if read.lost > 0 {
        policy.doubt();
    }
    let coverage = match (read.complete, chosen) {
        (true, Some(_)) if entries == Some(0) => Coverage::Whole,
        (true, Some(_)) => Coverage::Chosen,
        (true, None) => Coverage::Whole,
        (false, _) => Coverage::Interrupted,
    };
    Ok((read, coverage))
}

/// Attributes one flow. Returns the shares of its new bytes, at most one for each end.
pub(crate) fn attribute(
    attribution: &mut FlowAttribution,
    flow: &Flow,
    view: &NamespaceView<'_>,
    lookups: &mut Lookups<'_>,
) -> [Option<Share>; 2] {
    let mut shares: [Option<Share>; 2] = [None; 2];
    let mut take = |share| {
        let free = usize::from(shares[0].is_some());
        shares[free] = Some(share);
    };
    if let Some(change) = attribution.read(flow, view.netns, &mut take) {
        let counted =
            |netns, tuple: &Tuple| attribution.is_counted_elsewhere(&change, netns, tuple);
        let resolution = resolve(flow, view, lookups, change.settled(), counted);
        attribution.account(flow, change, resolution, take);
    }
    shares
}
