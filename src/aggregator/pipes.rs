//! The pipes of an aggregator, from one configuration to the next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::group::Groups;
use crate::ledger::ENDED;
use crate::listen::ListenError;
use crate::lookalike::distinct;
use crate::model::traffic::{Name, Traffic};
use crate::model::{Account, Kind};
use crate::monitor::Draft;
use crate::pipe::{Config, Pipe};

/// A pipe, and those whose place it took that still forward.
#[derive(Debug)]
struct Running {
    name: Name,
    /// On which line it stands: its application's, or its own.
    line: Name,
    pipe: Pipe,
    /// Listen no more, but still have connections.
    draining: Vec<Pipe>,
    /// What those that are gone have forwarded.
    gone: Traffic,
    /// What had been forwarded at the refresh before.
    before: Traffic,
}

impl Running {
    fn new(pipe: Pipe) -> Running {
        let name: Name = pipe.config().name().into_bytes().into();
        let (line, none) = (name.clone(), Traffic::ZERO);
        Running { name, line, pipe, draining: Vec::new(), gone: none, before: none }
    }

    /// What its line is.
    fn kind(&self) -> Kind {
        if self.line == self.name { Kind::Pipe } else { Kind::Application }
    }

    /// What was forwarded under this name.
    fn traffic(&self) -> Traffic {
        let draining: Traffic = self.draining.iter().map(Pipe::traffic).sum();
        self.gone + draining + self.pipe.traffic()
    }

    /// Lets those go that have forwarded everything.
    fn settle(&mut self) {
        for done in self.draining.extract_if(.., |pipe| pipe.has_ended()) {
            self.gone += done.traffic();
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pipe> {
        self.draining.iter().chain([&self.pipe])
    }
}

/// Why other pipes can't be had. Those that ran go on as they were.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A pipe can't be started.
    #[error("{name}: {error}")]
    Start {
        /// What its line is called.
        name: String,
        /// Which one it is, in the order of the configurations.
        index: usize,
        /// Why.
        error: ListenError,
    },
    /// Its port is another pipe's that listens on another address, and would be closed only after
    /// this one has begun.
    #[error("{name}: its port is listened on at another address until now")]
    Occupied {
        /// What its line is called.
        name: String,
        /// Which one it is, in the order of the configurations.
        index: usize,
    },
}

/// Other pipes that have begun to listen, and wait for those before to make room.
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
    /// The pipe at this place goes on, perhaps with another limit.
    Stays(usize, Config),
    /// The pipe at this place is followed by this one.
    Succeeds(usize, Pipe),
    New(Pipe),
}

/// All pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    running: Vec<Running>,
    /// Those that the last configurations don't have any more, and still forward.
    leaving: Vec<Running>,
    /// What those that are over have forwarded, by the lines on which they stood.
    gone: HashMap<Name, (Kind, Traffic)>,
    /// When the refresh before was taken.
    at: Option<Instant>,
}

/// How many lines on which only pipes stood that are over are remembered by name. Each was in a configuration that
/// somebody wrote.
const GONE: usize = 1000;

impl Pipes {
    /// Starts what it takes to have pipes of these configurations, beside those that run. One that
    /// is like a running one stays that; one that listens where a running one does takes its socket
    /// over. Nothing changes for those that run before [`Pipes::commit`].
    ///
    /// # Errors
    /// The first that can't be had.
    pub(super) fn prepare(&self, configs: Vec<Config>) -> Result<Change, ChangeError> {
        // Those that may find their port taken first: if that ends it all, no client has been let
        // in by a successor that is not to be.
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

    /// What it takes to have a pipe of this configuration.
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

    /// From now on these are the pipes. Others listen no more, and forward what they have open to
    /// its end.
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

    /// The local and the remote ports of all.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let pipes = self.all().map(Pipe::config);
        pipes.flat_map(|config| [config.port, config.remote_port])
    }

    /// From now on each stands on the line of its application, if it belongs to one by its name.
    pub(super) fn group(&mut self, groups: &Groups) {
        for running in self.running.iter_mut().chain(&mut self.leaving) {
            // With the processes of that application.
            running.line = groups.find(&running.name).map_or(running.name.clone(), distinct);
        }
    }

    /// Adds what each has forwarded.
    pub(super) fn add_to(&mut self, draft: &mut Draft, at: Instant) {
        let before = self.at.replace(at);
        let time = before.map_or(Duration::ZERO, |before| at.saturating_duration_since(before));
        for (line, (kind, total)) in &self.gone {
            let account = Account { total: *total, recent: Traffic::ZERO };
            draft.add_pipe(line, *kind, account, time);
        }
        // Before the counters are read: what is gone by now is counted to its end this once.
        let is_gone = |left: &mut Running| left.all().all(Pipe::has_ended);
        let mut gone: Vec<Running> = self.leaving.extract_if(.., is_gone).collect();
        let all = self.running.iter_mut().chain(&mut self.leaving).chain(&mut gone);
        for running in all {
            running.settle();
            let total = running.traffic();
            let recent = total - std::mem::replace(&mut running.before, total);
            draft.add_pipe(&running.line, running.kind(), Account { total, recent }, time);
        }
        for running in gone {
            self.remember(&running);
        }
    }

    /// Keeps what one has forwarded that is over.
    fn remember(&mut self, running: &Running) {
        if self.gone.len() >= GONE && !self.gone.contains_key(&running.line) {
            let all = self.gone.drain().map(|(_, (_, traffic))| traffic).sum();
            self.gone.insert(ENDED.as_bytes().into(), (Kind::Folded, all));
        }
        let new = (running.kind(), Traffic::ZERO);
        self.gone.entry(running.line.clone()).or_insert(new).1 += running.before;
    }

    /// Listens no more; see [`Pipe::close`].
    pub fn close(&self) {
        self.all().for_each(Pipe::close);
    }

    /// Waits until the last connection has ended; false if `deadline` came before that. See
    /// [`Pipe::wait`].
    pub fn wait(&self, deadline: Instant) -> bool {
        self.all().all(|pipe| pipe.wait(Some(deadline)))
    }

    /// How many there are, with those that only forward what they have open.
    pub fn count(&self) -> usize {
        self.all().count()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.all().map(Pipe::open).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Pipe> {
        self.running.iter().chain(&self.leaving).flat_map(Running::all)
    }
}

#[cfg(test)]
mod tests;
