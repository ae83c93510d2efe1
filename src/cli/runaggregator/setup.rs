//! Applies a configuration: opens sources, starts pipes, sets rules.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::aggregator::{Aggregator, ChangeError, Plan, PlanError, Selected};
use crate::cli::forwarding::{allow_descriptors, explain};
use crate::cli::messages::Messages;
use crate::cli::notices::Notices;
use crate::config::{Configuration, PipeSettings};
use crate::escape::visible;
use crate::group::Groups;
use crate::model::SourceChoice;
use crate::monitor::Options;
use crate::pipe::{self, ConnectionSlots};

use super::{Arguments, PROGRAM};

/// Descriptors for everything but forwarding: reading `/proc` and the kernel's tables of some
/// network namespaces, processes that are watched closely, clients of the web page, commands.
const OTHER_DESCRIPTORS: usize = 600;

/// Descriptors of a pipe beside its connections, for each thread: two. There are as many threads as
/// cores.
const PIPE_DESCRIPTORS: usize = 2;

/// Settings that don't change with the configuration.
pub(super) struct Setup {
    /// The source of monitors that name none.
    source: SourceChoice,
    /// The options for opening sources.
    options: Options,
    /// The connection slots that all pipes share.
    slots: Arc<ConnectionSlots>,
    /// When a source was last opened.
    pub(super) opened: Option<Instant>,
}

impl Setup {
    pub(super) fn new(proc: &Path, arguments: &Arguments, patience: Duration) -> Setup {
        allow_descriptors();
        let mut options = Options {
            netns: arguments.netns,
            forwarded: arguments.unattributed,
            labels: arguments.labels(),
            facts: arguments.output.has_facts() || arguments.top.top,
            attributes: arguments.top.top,
            details: arguments.top.top,
            patience: Some(patience),
            proc: proc.to_owned(),
            ..Options::default()
        };
        arguments.view.add_to(&mut options);
        let slots = Arc::new(ConnectionSlots::beside(OTHER_DESCRIPTORS));
        Setup { source: arguments.source, options, slots, opened: None }
    }

    /// Applies the configuration to the aggregator.
    ///
    /// # Errors
    /// A source can't be read, or a pipe can't listen. Then nothing has changed.
    pub(super) fn apply(
        &mut self,
        configuration: &Configuration,
        aggregator: &mut Aggregator,
        notices: &mut Notices,
        messages: &Messages,
    ) -> anyhow::Result<()> {
        let monitors = configuration.monitors.iter().map(|monitor| Selected {
            source: monitor.source.unwrap_or(self.source),
            filter: monitor.filter.clone(),
            ignore_local: monitor.ignore_local,
        });
        let groups = Groups::new(configuration.applications.clone());
        let plan = Plan {
            monitors: monitors.collect(),
            pipes: configuration.pipes.iter().map(|pipe| self.pipe(pipe, messages)).collect(),
            groups: groups.labelled_by(&self.options.labels),
            rules: configuration.notifications.iter().map(|n| n.rule.clone()).collect(),
        };
        // The pipes before keep their descriptors until they have ended.
        self.reserve(aggregator.pipes().count() + plan.pipes.len());
        let opened = &mut self.opened;
        let applied = aggregator.apply(&plan, &self.options, |monitor| {
            notices.tell_opened(monitor);
            *opened = Some(monitor.opened());
        });
        self.reserve(aggregator.pipes().count());
        match applied {
            Ok(()) => Ok(()),
            Err(PlanError::Source { choice, error }) => {
                Err(notices.tell_refused(error)).with_context(|| format!("source {choice}"))
            }
            Err(PlanError::Pipe(error)) => Err(refused(error, &configuration.pipes)),
        }
    }

    /// Reserves descriptors for the current pipes: some may have ended.
    pub(super) fn settle(&self, aggregator: &Aggregator) {
        self.reserve(aggregator.pipes().count());
    }

    /// Reserves descriptors for so many pipes; the rest is for connections.
    fn reserve(&self, pipes: usize) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        self.slots.reserve(OTHER_DESCRIPTORS + pipes * (1 + threads * PIPE_DESCRIPTORS));
    }

    fn pipe(&self, settings: &PipeSettings, messages: &Messages) -> pipe::Config {
        let mut config = settings.config();
        config.slots = Some(self.slots.clone());
        config.report = Some(messages.report(Some(&config.name())));
        config
    }
}

/// The message for a pipe that can't be started, with its fix.
fn refused(error: ChangeError, pipes: &[PipeSettings]) -> anyhow::Error {
    let section =
        |index: usize| pipes.get(index).map(|pipe| visible(&pipe.name)).unwrap_or_default();
    match error {
        ChangeError::Start { index, error, .. } => {
            explain(PROGRAM, error).context(format!("[{}]", section(index)))
        }
        ChangeError::Occupied { index, .. } => anyhow!(
            "[{}]: the address that a port is listened on can't be changed while it is; end the \
             program and start it again",
            section(index)
        ),
    }
}
