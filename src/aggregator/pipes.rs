//! The pipes of an aggregator, from one configuration to the next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::group::Groups;
use crate::ledger::ENDED;
use crate::listen::ListenError;
use crate::lookalike::distinct;
use crate::model::flow::{Endpoint, Protocol};
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Detail, Interface, Kind, Remote};
use crate::monitor::Draft;
use crate::pipe::{ClientBytes, Config, Pipe};

/// A pipe, and those that it replaced and that still forward.
#[derive(Debug)]
struct Running {
    name: Name,
    /// Name of its line: its application's, or its own.
    line: Name,
    pipe: Pipe,
    /// Replaced pipes, which don't listen any more but still have connections.
    draining: Vec<Pipe>,
    /// Bytes that replaced pipes have forwarded, after their end.
    gone: Traffic,
    /// Bytes forwarded at the refresh before.
    before: Traffic,
}

impl Running {
    fn new(pipe: Pipe) -> Running {
        let name: Name = pipe.config().name().into_bytes().into();
        let (line, none) = (name.clone(), Traffic::ZERO);
        Running { name, line, pipe, draining: Vec::new(), gone: none, before: none }
    }

    /// The kind of its line.
    fn kind(&self) -> Kind {
        if self.line == self.name { Kind::Pipe } else { Kind::Application }
    }

    /// Bytes forwarded under this name, and those of each client if they are counted.
    fn read(&self) -> (Traffic, Vec<Detail>) {
        let mut clients: HashMap<Remote, Account> = HashMap::new();
        let mut forwarded = self.gone;
        for pipe in self.all() {
            let Some(read) = pipe.clients() else {
                forwarded += pipe.traffic();
                continue;
            };
            for ClientBytes { address, total, recent } in read {
                forwarded += total;
                if let Some(address) = address {
                    let remote = client(pipe.address().port(), address);
                    *clients.entry(remote).or_default() += Account { total, recent };
                }
            }
        }
        let detail = |(remote, account)| Detail { remote: Some(remote), account };
        (forwarded, clients.into_iter().map(detail).collect())
    }

    /// Drops replaced pipes that have no connections left.
    fn settle(&mut self) {
        for done in self.draining.extract_if(.., |pipe| pipe.has_ended()) {
            if !self.pipe.absorb_clients(&done) {
                self.gone += done.traffic();
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pipe> {
        self.draining.iter().chain([&self.pipe])
    }
}

/// Why a new set of pipes can't be started. The running ones continue unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A pipe can't be started.
    #[error("{name}: {error}")]
    Start {
        /// Name of its line.
        name: String,
        /// Its index in the new configurations.
        index: usize,
        /// The error.
        error: ListenError,
    },
    /// Another pipe listens on this port on another address, and would be closed only after this
    /// one has started.
    #[error("{name}: its port is listened on at another address until now")]
    Occupied {
        /// Name of its line.
        name: String,
        /// Its index in the new configurations.
        index: usize,
    },
}

/// New pipes that listen already, and wait for [`Pipes::commit`] to close the old ones.
#[derive(Debug)]
pub(super) struct Change {
    next: Vec<Next>,
}

/// How a configuration gets its pipe.
#[derive(Debug)]
enum Step {
    Stay(usize, Config),
    Succeed(usize, Config),
    Start(Config),
}

#[derive(Debug)]
enum Next {
    /// The running pipe with this index continues, perhaps with another limit.
    Stays(usize, Config),
    /// This pipe replaces the running one with this index.
    Succeeds(usize, Pipe),
    New(Pipe),
}

/// All pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    running: Vec<Running>,
    /// Pipes that the configurations no longer have, and that still forward.
    leaving: Vec<Running>,
    /// Bytes of ended pipes, by the name of their line.
    gone: HashMap<Name, Gone>,
    /// Time of the refresh before.
    at: Option<Instant>,
}

/// Bytes of ended pipes.
#[derive(Debug)]
struct Gone {
    kind: Kind,
    traffic: Traffic,
    /// Those of each client.
    clients: HashMap<Remote, Traffic>,
}

impl Gone {
    fn of(kind: Kind) -> Gone {
        Gone { kind, traffic: Traffic::ZERO, clients: HashMap::new() }
    }

    fn clients(&self) -> Vec<Detail> {
        let account = |total| Account { total, recent: Traffic::ZERO };
        let clients = self.clients.iter();
        clients.map(|(of, bytes)| Detail { remote: Some(*of), account: account(*bytes) }).collect()
    }
}

/// Lines of ended pipes that are kept by name, and clients of each. Each name comes from a configuration file.
const GONE: usize = 1000;

/// The remote end of a client's connections. Their ports on the client's side differ.
fn client(port: u16, address: IpAddr) -> Remote {
    Remote {
        protocol: Protocol::TCP,
        local_port: port,
        remote: Endpoint::new(address.into(), 0),
        interface: Interface::UNKNOWN,
    }
}

impl Pipes {
    /// Starts the pipes that these configurations need beside the running ones. A pipe with an
    /// unchanged configuration continues. A pipe that listens where a running one does takes over
    /// its socket. The running pipes stay unchanged until [`Pipes::commit`].
    ///
    /// # Errors
    /// That of the first pipe that can't be started.
    pub(super) fn prepare(&self, configs: Vec<Config>) -> Result<Change, ChangeError> {
        // The pipes that may find their port in use come first: if one fails, no successor has
        // accepted a client yet.
        let mut steps: Vec<(usize, Step)> = Vec::with_capacity(configs.len());
        for (index, config) in configs.into_iter().enumerate() {
            steps.push((index, self.step(index, config)?));
        }
        steps.sort_by_key(|(_, step)| matches!(step, Step::Succeed(..)));
        let mut next: Vec<(usize, Next)> = Vec::with_capacity(steps.len());
        for (index, step) in steps {
            let (name, started) = match step {
                Step::Stay(place, config) => {
                    next.push((index, Next::Stays(place, config)));
                    continue;
                }
                Step::Succeed(place, config) => {
                    let started = self.running[place].pipe.succeed(config.clone());
                    (config.name(), started.map(|pipe| Next::Succeeds(place, pipe)))
                }
                Step::Start(config) => (config.name(), Pipe::start(config).map(Next::New)),
            };
            let started = started.map_err(|error| ChangeError::Start { name, index, error })?;
            next.push((index, started));
        }
        next.sort_by_key(|(index, _)| *index);
        Ok(Change { next: next.into_iter().map(|(_, next)| next).collect() })
    }

    /// How this configuration gets its pipe.
    fn step(&self, index: usize, config: Config) -> Result<Step, ChangeError> {
        let place = |same: &dyn Fn(&Config) -> bool| {
            self.running.iter().position(|running| same(running.pipe.config()))
        };
        let unlimited = |config: &Config| Config { shape: None, ..config.clone() };
        let listens = |config: &Config| (config.port, config.bind);
        if let Some(place) = place(&|known| unlimited(known).is_like(&unlimited(&config))) {
            Ok(Step::Stay(place, config))
        } else if let Some(place) = place(&|known| listens(known) == listens(&config)) {
            Ok(Step::Succeed(place, config))
        } else if place(&|known| known.port == config.port).is_some() {
            Err(ChangeError::Occupied { name: config.name(), index })
        } else {
            Ok(Step::Start(config))
        }
    }

    /// Replaces the pipes. The old ones stop listening, and forward their open connections to the
    /// end.
    pub(super) fn commit(&mut self, change: Change) {
        let mut before: Vec<Option<Running>> =
            std::mem::take(&mut self.running).into_iter().map(Some).collect();
        let mut take = |place: usize| before.get_mut(place).and_then(Option::take);
        for next in change.next {
            match next {
                Next::Stays(place, config) => {
                    self.running
                        .extend(take(place).inspect(|known| known.pipe.shape(config.shape)));
                }
                Next::Succeeds(place, pipe) => {
                    let mut running = Running::new(pipe);
                    if let Some(mut known) = take(place) {
                        known.pipe.close();
                        if known.name == running.name {
                            known.draining.push(std::mem::replace(&mut known.pipe, running.pipe));
                            running = known;
                        } else {
                            self.leaving.push(known);
                        }
                    }
                    self.running.push(running);
                }
                Next::New(pipe) => self.running.push(Running::new(pipe)),
            }
        }
        for left in before.into_iter().flatten() {
            left.pipe.close();
            self.leaving.push(left);
        }
    }

    /// The local and the remote ports of all pipes.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let pipes = self.all().map(Pipe::config);
        pipes.flat_map(|config| [config.port, config.remote_port])
    }

    /// Puts each pipe on the line of the application that has its name, or on a line of its own.
    pub(super) fn group(&mut self, groups: &Groups) {
        for running in self.running.iter_mut().chain(&mut self.leaving) {
            // Together with the processes of that application.
            running.line = groups.find(&running.name).map_or(running.name.clone(), distinct);
        }
    }

    /// Adds what each pipe has forwarded.
    pub(super) fn add_to(&mut self, draft: &mut Draft, at: Instant) {
        let before = self.at.replace(at);
        let time = before.map_or(Duration::ZERO, |before| at.saturating_duration_since(before));
        for (line, gone) in &self.gone {
            let account = Account { total: gone.traffic, recent: Traffic::ZERO };
            draft.add_pipe(line, gone.kind, account, gone.clients(), time);
        }
        // Before the counters are read: bytes of pipes that have ended by now are added completely.
        let is_gone = |left: &mut Running| left.all().all(Pipe::has_ended);
        let mut gone: Vec<Running> = self.leaving.extract_if(.., is_gone).collect();
        let all = self.running.iter_mut().chain(&mut self.leaving).chain(&mut gone);
        for running in all {
            running.settle();
            let (total, clients) = running.read();
            let recent = total - std::mem::replace(&mut running.before, total);
            let account = Account { total, recent };
            draft.add_pipe(&running.line, running.kind(), account, clients, time);
        }
        for running in gone {
            self.remember(&running);
        }
    }

    /// Keeps the bytes of an ended pipe.
    fn remember(&mut self, running: &Running) {
        if self.gone.len() >= GONE && !self.gone.contains_key(&running.line) {
            let traffic = self.gone.drain().map(|(_, gone)| gone.traffic).sum();
            let folded = Gone { traffic, ..Gone::of(Kind::Folded) };
            self.gone.insert(ENDED.as_bytes().into(), folded);
        }
        let (_, clients) = running.read();
        let gone = self.gone.entry(running.line.clone()).or_insert(Gone::of(running.kind()));
        gone.traffic += running.before;
        for Detail { remote, account } in clients {
            let Some(remote) = remote else { continue };
            if gone.clients.len() < GONE || gone.clients.contains_key(&remote) {
                *gone.clients.entry(remote).or_default() += account.total;
            }
        }
    }

    /// Stops listening; see [`Pipe::close`].
    pub fn close(&self) {
        self.all().for_each(Pipe::close);
    }

    /// Waits until the last connection has ended; returns false if `deadline` comes first. See
    /// [`Pipe::wait`].
    pub fn wait(&self, deadline: Instant) -> bool {
        self.all().all(|pipe| pipe.wait(Some(deadline)))
    }

    /// Number of pipes, including those that only forward open connections.
    pub fn count(&self) -> usize {
        self.all().count()
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.all().map(Pipe::open).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Pipe> {
        self.running.iter().chain(&self.leaving).flat_map(Running::all)
    }
}

#[cfg(test)]
mod tests;
