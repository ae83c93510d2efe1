//! The thread that receives new flows.

mod lookup;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::accepting::Accepting;
use super::listener::NetnsListener;
use super::retry::{Lookup, RetryQueue};
use super::scheduling::SchedulingPolicy;
use super::spin_budget::SpinBudget;
use super::{Command, Going, Map, NewFlowRecord, Shared, WAITING, take, wake};
use crate::conntrack::ctnetlink::NewFlows;
use crate::ebpf::Wake;
use crate::model::flow::Flow;
use crate::netns::{self, NetnsChoice, NetnsId, NetnsKey};
use crate::processes::events::{Event, Events};
use crate::processes::{Announced, DescriptorSearch, ProcessId};
pub(super) use lookup::Answer;

/// The epoll key of the wake-up; namespaces have their own keys.
const WAKE_UP: u64 = u64::MAX;
const PROCESSES: u64 = u64::MAX - 1;

/// Maximum number of events that epoll reports at once.
const WOKEN: usize = 64;

/// Receives new flows.
pub(super) struct Worker {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    pub(super) netns_listeners: Vec<NetnsListener>,
    /// `None` if process events are reported otherwise, if the kernel has none, or if the user may not
    /// receive them.
    events: Option<Events>,
    pub(super) search: DescriptorSearch,
    retries: RetryQueue,
    spin_budget: SpinBudget,
    /// The time budget for reading raw and ping sockets.
    pub(super) raw_reading: SpinBudget,
    accepting: Accepting,
    inhabitants: Map<u32, NetnsKey>,
    /// The records to hand over at the end of a turn.
    records: Vec<NewFlowRecord>,
    /// Processes that have called exec, with their namespaces.
    begun: Vec<(ProcessId, Option<NetnsId>)>,
    lost: u64,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, proc: &Path) -> io::Result<Worker> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let announced = || Events::listen().ok().or_else(|| Events::listen_elsewhere(proc));
        let events = if shared.reported { None } else { announced() };
        let mut search = DescriptorSearch::with_names(proc, shared.names.clone())?;
        if shared.choice == NetnsChoice::Own {
            search.keep_to(netns::of(proc, "self").ok());
        }
        let worker = Worker {
            epoll,
            netns_listeners: Vec::new(),
            events,
            search,
            retries: RetryQueue::default(),
            spin_budget: SpinBudget::begin(Instant::now()),
            raw_reading: SpinBudget::begin(Instant::now()),
            accepting: Accepting::begin(Instant::now()),
            inhabitants: Map::default(),
            records: Vec::new(),
            begun: Vec::new(),
            lost: 0,
            shared,
        };
        worker.wake_for(&worker.shared.wake_up, WAKE_UP)?;
        if let Some(events) = &worker.events {
            worker.wake_for(events, PROCESSES)?;
        }
        if worker.shared.reported {
            let wake = worker.process_events();
            worker.shared.names.announce(wake, |fd| worker.wake_for(fd, PROCESSES)).transpose()?;
        }
        Ok(worker)
    }

    /// The process events that wake this thread. If sockets are counted, process events are needed only now and
    /// then, except for new namespaces.
    fn process_events(&self) -> Wake {
        match (self.shared.searches(), self.shared.choice) {
            (true, _) => Wake::All,
            (false, NetnsChoice::Own) => Wake::Nothing,
            (false, _) => netns::of(&self.shared.proc, "self").map_or(Wake::All, Wake::OthersThan),
        }
    }

    fn wake_for(&self, source: impl AsFd, name: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(name), EventFlags::IN)?)
    }

    pub(super) fn listen(&mut self, netns_listener: NetnsListener) -> io::Result<()> {
        for source in netns_listener.events() {
            self.wake_for(source, netns_listener.key.0.into())?;
        }
        self.netns_listeners.push(netns_listener);
        Ok(())
    }

    /// Whether it receives process events.
    fn hears_of_processes(&self) -> bool {
        self.shared.reported || self.events.is_some()
    }

    /// Runs until it gets the command to stop.
    pub(super) fn run(mut self) {
        let mut scheduling = SchedulingPolicy::begin(Instant::now());
        let mut woken = Vec::with_capacity(WOKEN);
        loop {
            let now = Instant::now();
            scheduling.mind(now);
            let left = self.retries.next().map(|next| next.saturating_duration_since(now));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            woken.clear();
            if epoll::wait(&self.epoll, spare_capacity(&mut woken), left.as_ref()).is_err() {
                // A signal; any other error would occur again at once.
                std::thread::yield_now();
            }
            // Announcements from here on are not part of the answer.
            let asked = self.shared.state().asked;
            let heard: Vec<u64> = woken.iter().map(|event| event.data.u64()).collect();
            self.turn(&heard);
            if heard.contains(&WAKE_UP) {
                take(&self.shared.wake_up);
                if !self.obey() {
                    return;
                }
            }
            self.hand_over(asked);
        }
    }

    /// Executes the commands; returns false after the command to stop.
    fn obey(&mut self) -> bool {
        let commands = std::mem::take(&mut self.shared.state().commands);
        for command in commands {
            match command {
                Command::Listen(netns_listener) => {
                    self.lost += u64::from(self.listen(*netns_listener).is_err())
                }
                Command::Leave(key) => self.leave(key),
                Command::Listeners(listeners) => {
                    self.search.expect(&listeners.together);
                    self.accepting.know(listeners.alike);
                }
                Command::Inhabitants(listed) => {
                    if !self.hears_of_processes() {
                        self.inhabitants.clear();
                    }
                    // The ends of processes that aren't listed are announced.
                    self.inhabitants.extend(listed);
                }
                Command::LabelBy(labels) => {
                    if self.shared.reported && !labels.is_empty() {
                        // They are read while the process lives.
                        self.shared.names.announce(Wake::All, |_| ());
                    }
                    self.search.label_by(labels);
                }
                Command::Follow(key, new_flows) => self.follow(key, *new_flows),
                Command::StopFollowing => self.stop_following(),
                Command::Stop => return false,
            }
        }
        true
    }

    /// Stops the announcements of new flows, and drops everything that was kept to resolve them.
    fn stop_following(&mut self) {
        self.netns_listeners.iter_mut().for_each(NetnsListener::stop_following);
        self.retries = RetryQueue::default();
        self.records.clear();
        self.accepting.know(Map::default());
        self.search.clear();
        if self.shared.reported {
            self.shared.names.announce(self.process_events(), |_| ());
        }
    }

    /// Uses these announcements for the new flows of a namespace.
    fn follow(&mut self, key: NetnsKey, new_flows: NewFlows) {
        if self.shared.reported {
            self.shared.names.announce(Wake::All, |_| ());
        }
        let of = |listener: &&mut NetnsListener| listener.key == key;
        let Some(listener) = self.netns_listeners.iter_mut().find(of) else { return };
        if listener.follow(new_flows) {
            for source in listener.events() {
                let name = EventData::new_u64(key.0.into());
                let added = epoll::add(&self.epoll, source, name, EventFlags::IN);
                self.lost += u64::from(added.is_err());
            }
        }
    }

    /// Leaves a namespace, unless a process has entered it since it was found to be empty.
    fn leave(&mut self, key: NetnsKey) {
        self.processes();
        self.read_up();
        let known = self.shared.state().known.iter().find(|(_, at)| **at == key).map(|(id, _)| *id);
        let Some(id) = known else { return };
        let proc = &self.shared.proc;
        let is_there = |pid: &u32| netns::of(proc, &pid.to_string()).is_ok_and(|at| at == id);
        // The end of some of them may not have been announced.
        self.inhabitants.retain(|pid, at| *at != key || is_there(pid));
        if self.inhabitants.values().any(|at| *at == key) {
            return;
        }
        self.netns_listeners.retain(|netns_listener| netns_listener.key != key);
        self.retries.leave(key);
        let mut state = self.shared.state();
        state.known.remove(&id);
        state.left.push(key);
        wake(&self.shared.call);
    }

    /// Takes the announcements of the namespaces in `heard`.
    fn turn(&mut self, heard: &[u64]) {
        let (mut born, mut established) = (Vec::new(), Vec::new());
        // If the list is full, there may be others.
        let all = heard.len() == WOKEN;
        for netns_listener in &mut self.netns_listeners {
            if all || heard.contains(&netns_listener.key.0.into()) {
                self.lost += netns_listener.drain(
                    |key, flow| born.push((key, flow)),
                    |key, flow| established.push((key, flow)),
                );
            }
        }
        let now = Instant::now();
        if !born.is_empty() {
            self.new_flows(born, now);
        }
        for (key, flow) in established {
            self.retries.established(key, &flow, now);
        }
        let due = self.retries.due(now);
        if !due.is_empty() {
            self.ask_again(due);
        }
        if all || heard.contains(&PROCESSES) || heard.contains(&WAKE_UP) {
            self.processes();
        }
        self.read_up();
    }

    /// Takes process events, without reading the processes yet: sockets are more urgent.
    fn processes(&mut self) {
        let (search, inhabitants) = (&mut self.search, &mut self.inhabitants);
        let accepting = &mut self.accepting;
        let mut left = Vec::new();
        let mut take = |event| match event {
            Event::Fork { parent, pid } => {
                accepting.had_child(parent);
                if let Some(key) = inhabitants.get(&parent).copied() {
                    inhabitants.insert(pid, key);
                }
            }
            Event::Exec { .. } => {}
            Event::Exit { pid } => {
                accepting.ended(pid);
                left.extend(inhabitants.remove(&pid));
            }
        };
        let lost = if self.shared.reported {
            let (announced, lost) = self.shared.names.announced();
            for Announced { event, process, netns } in announced {
                take(event);
                if self.shared.searches() {
                    search.notice(event);
                } else if let Event::Exec { .. } = event {
                    self.begun.push((process, netns));
                }
            }
            lost
        } else if let Some(events) = &mut self.events {
            let drained = events.drain(|event| {
                search.notice(event);
                take(event);
            });
            events.take_lost() > 0 || drained.is_err()
        } else {
            false
        };
        if lost {
            // Processes that came and went meanwhile are unknown, as they are without events; the
            // next look finds out which process is in which namespace.
            inhabitants.clear();
        }
        left.into_iter().for_each(|key| self.left(key));
    }

    /// Reads new programs, and finds new network namespaces by them.
    fn read_up(&mut self) {
        let mut read = Vec::new();
        for (process, netns) in self.begun.drain(..) {
            self.search.label(process);
            read.push((process.pid, netns));
        }
        self.search.read_up(|pid, netns| read.push((pid, netns)));
        if self.shared.choice == NetnsChoice::Own {
            return;
        }
        for (pid, netns) in read {
            let Some(id) = netns else { continue };
            let known = self.shared.state().known.get(&id).copied();
            let key = known.or_else(|| self.open(id, pid));
            let before = self.inhabitants.remove(&pid);
            if let Some(key) = key.filter(|key| *key != NetnsKey::OWN) {
                self.inhabitants.insert(pid, key);
            }
            if let Some(before) = before {
                self.left(before);
            }
        }
    }

    /// Calls for a look if no process is known in a namespace any more.
    fn left(&self, key: NetnsKey) {
        if !self.inhabitants.values().any(|at| *at == key) {
            wake(&self.shared.call);
        }
    }

    fn open(&mut self, id: NetnsId, pid: u32) -> Option<NetnsKey> {
        let (namespace, netns_listener) = self.shared.open(id, pid, Going::ByAnother)?;
        let key = namespace.key;
        self.shared.state().opened.push(namespace);
        if let Some(netns_listener) = netns_listener {
            self.lost += u64::from(self.listen(netns_listener).is_err());
        }
        Some(key)
    }

    /// Answers for new flows what can be answered at once.
    fn new_flows(&mut self, born: Vec<(NetnsKey, Flow)>, now: Instant) {
        let (mut known, mut elsewhere) = (Vec::new(), Vec::new());
        for (netns, flow) in born {
            for side in [0, 1] {
                // The kernel itself answers pings.
                if side == 1 && flow.original.protocol.is_icmp() {
                    continue;
                }
                let record = self.records.len();
                match self.netns_of(netns, &flow, side) {
                    Some(at) => known.push((Lookup::new(netns, flow, side, at), record)),
                    None => elsewhere.push((netns, flow, side, record)),
                }
            }
            self.records.push(NewFlowRecord { netns, flow, ends: [None; 2], is_new: true });
        }
        self.answer(known, now);
        // The other ends are on other hosts, or in a namespace that is new or has got the address since. To find out
        // takes as long as some connections live.
        if !elsewhere.is_empty() && self.refresh_addresses(now) {
            let found = elsewhere.into_iter().filter_map(|(netns, flow, side, record)| {
                let at = self.netns_of(netns, &flow, side)?;
                Some((Lookup::new(netns, flow, side, at), record))
            });
            let found = found.collect();
            self.answer(found, now);
        }
    }

    /// Looks up ends of new flows, each with the place of its flow's record.
    fn answer(&mut self, ends: Vec<(Lookup, usize)>, now: Instant) {
        let (lookups, records): (Vec<Lookup>, Vec<usize>) = ends.into_iter().unzip();
        let answers = self.ask_and_spin(&lookups);
        for ((lookup, record), answer) in lookups.into_iter().zip(records).zip(answers) {
            match answer {
                Answer::Held(seen) => {
                    if let Some(record) = self.records.get_mut(record) {
                        record.ends[lookup.side] = Some(seen);
                    }
                }
                Answer::Pending | Answer::Imminent => self.retry(lookup, now),
                Answer::Gone => {}
            }
        }
    }

    /// Repeats lookups that had no answer.
    fn ask_again(&mut self, lookups: Vec<Lookup>) {
        let answers = self.ask_and_spin(&lookups);
        let now = Instant::now();
        for (lookup, answer) in lookups.into_iter().zip(answers) {
            match answer {
                Answer::Held(seen) => {
                    let mut ends = [None; 2];
                    ends[lookup.side] = Some(seen);
                    let Lookup { netns, flow, .. } = lookup;
                    self.records.push(NewFlowRecord { netns, flow, ends, is_new: false });
                }
                Answer::Pending | Answer::Imminent => self.retries.again(lookup, now),
                Answer::Gone => {}
            }
        }
    }

    fn retry(&mut self, lookup: Lookup, now: Instant) {
        if !lookup.is_server() {
            return self.retries.again(lookup, now);
        }
        // The table with the flow announces it.
        let Some(netns_listener) = self
            .netns_listeners
            .iter_mut()
            .find(|netns_listener| netns_listener.key == lookup.netns)
        else {
            return;
        };
        if netns_listener.listen_to_handshakes() {
            // Its own handshake may be over.
            for source in netns_listener.events().skip(1) {
                let name = EventData::new_u64(netns_listener.key.0.into());
                let added = epoll::add(&self.epoll, source, name, EventFlags::IN);
                self.lost += u64::from(added.is_err());
            }
            return self.retries.again(lookup, now);
        }
        self.retries.await_handshake(lookup, now);
    }

    /// Hands the results to the next look.
    fn hand_over(&mut self, asked: u64) {
        let mut state = self.shared.state();
        let room = WAITING.saturating_sub(state.records.len());
        if self.records.len() > room {
            self.lost += (self.records.len() - room) as u64;
            self.records.truncate(room);
        }
        state.records.append(&mut self.records);
        state.lost += std::mem::take(&mut self.lost);
        if state.answered < asked {
            state.answered = asked;
            self.shared.answered.notify_all();
        }
    }
}
