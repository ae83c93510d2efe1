//! The configuration of an aggregator: [`Plan`], which is applied as a whole or not at all.

use super::{Aggregator, ChangeError};
use crate::alert::Rule;
use crate::filter::Filter;
use crate::group::Groups;
use crate::model::{SourceChoice, SourceKind};
use crate::monitor::{Monitor, OpenError, Options, known};
use crate::pipe;
use crate::selection::{Selection, Selector};

/// What one monitor of a plan selects, and its source.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The source.
    pub source: SourceChoice,
    /// The processes, by their command lines.
    pub filter: Filter,
    /// Whether bytes that never left this host are left out.
    pub ignore_local: bool,
}

/// Monitors, pipes, groups and rules.
#[derive(Clone, Default)]
pub struct Plan {
    /// The monitors. Bytes that several of them select are counted once, by the first.
    pub monitors: Vec<Selected>,
    /// The pipes.
    pub pipes: Vec<pipe::Config>,
    /// The groups of the lines.
    pub groups: Groups,
    /// The rules of the alerts.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// The selection at a source, which these choices mean.
    fn selection(&self, is_here: impl Fn(SourceChoice) -> bool) -> Selection {
        let selectors = self.monitors.iter().map(|monitor| Selector {
            filter: monitor.filter.clone(),
            ignore_local: monitor.ignore_local,
            here: is_here(monitor.source),
        });
        Selection::new(selectors.collect())
    }
}

/// Why a plan can't be applied.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A source can't be read.
    #[error("{error}")]
    Source {
        /// The choice of the source.
        choice: SourceChoice,
        /// The error.
        error: OpenError,
    },
    /// A pipe can't be started.
    #[error(transparent)]
    Pipe(ChangeError),
}

impl Aggregator {
    /// Applies the plan. Pipes and sources that the plan before has too continue, and so do totals, windows and
    /// states of alerts. New sources are opened with these `options`, except for the source, the ports and the
    /// selection, and without lookback if that would count bytes twice. `opened` is called with each of them.
    ///
    /// # Errors
    /// A source can't be read, or a pipe can't listen. Then nothing has changed.
    pub fn apply(
        &mut self,
        plan: &Plan,
        options: &Options,
        mut opened: impl FnMut(&Monitor),
    ) -> Result<(), PlanError> {
        let mut resolved = self.resolved.clone();
        let mut new: Vec<Monitor> = Vec::new();
        for choice in plan.monitors.iter().map(|monitor| monitor.source) {
            if resolved.iter().any(|(known, _)| *known == choice) {
                continue;
            }
            let open = self.monitors().chain(&new).map(Monitor::source);
            let source = match known(choice, open) {
                Some(source) => source,
                None => {
                    let monitor = self
                        .open(choice, options, plan)
                        .map_err(|error| PlanError::Source { choice, error })?;
                    opened(&monitor);
                    let source = monitor.source();
                    new.push(monitor);
                    source
                }
            };
            resolved.push((choice, source));
        }
        let mut pipes = plan.pipes.clone();
        pipes.iter_mut().for_each(|pipe| pipe.count_clients |= options.details);
        let change = self.pipes.prepare(pipes).map_err(PlanError::Pipe)?;

        // From here on nothing can fail.
        self.pipes.commit(change);
        resolved.retain(|(choice, _)| plan.monitors.iter().any(|of| of.source == *choice));
        self.exchange(new, |source| resolved.iter().any(|(_, kept)| *kept == source));
        let source_of = |choice: SourceChoice| {
            resolved.iter().find(|(known, _)| *known == choice).map(|(_, source)| *source)
        };
        let selection = |source: SourceKind| plan.selection(|of| source_of(of) == Some(source));
        self.configure(selection, plan.groups.clone(), plan.rules.clone());
        self.resolved = resolved;
        Ok(())
    }

    /// Opens a source and takes the first look at it.
    fn open(
        &self,
        choice: SourceChoice,
        options: &Options,
        plan: &Plan,
    ) -> Result<Monitor, OpenError> {
        Monitor::open(&Options {
            source: choice,
            lookback: options.lookback && self.is_first_for(plan),
            selection: plan.selection(|of| of == choice),
            own_ports: self.pipes.ports().collect(),
            ..options.clone()
        })
    }

    /// Whether no source has accounted the bytes counted before this plan: false if a source was read until now
    /// and is closed.
    pub(super) fn is_first_for(&self, plan: &Plan) -> bool {
        let stays = |source: SourceKind| {
            plan.monitors.iter().any(|monitor| {
                let resolved = self.resolved.iter().find(|(known, _)| *known == monitor.source);
                resolved.is_some_and(|(_, known)| *known == source)
                    || known(monitor.source, [source].into_iter()).is_some()
            })
        };
        self.monitors.iter().all(|monitor| !monitor.is_closed() && stays(monitor.source()))
    }
}
