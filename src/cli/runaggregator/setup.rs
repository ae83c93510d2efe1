//! What a configuration takes: sources that are read, pipes that listen, rules.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::aggregator::{Aggregator, ChangeError};
use crate::cli::forwarding::{allow_descriptors, explain};
use crate::cli::messages::Messages;
use crate::cli::notices::Notices;
use crate::config::{Configuration, MonitorSettings, PipeSettings};
use crate::escape::visible;
use crate::group::Groups;
use crate::monitor::{self, Monitor, known};
use crate::netns::NetnsChoice;
use crate::pipe::{self, Places};
use crate::processes::LabelBy;
use crate::selection::{Selection, Selector};
use crate::watch::{Source, SourceChoice};

use super::PROGRAM;

/// Descriptors for what isn't forwarded: reading `/proc` and the kernel's tables of some network
/// namespaces, processes that are watched closely, a web page's clients, commands that are started.
const OTHER_DESCRIPTORS: usize = 600;

/// Descriptors of a pipe beside its connections, with as many threads as there are cores: two for
/// each.
const PIPE_DESCRIPTORS: usize = 2;

/// What doesn't change with the configuration.
pub(super) struct Setup<'a> {
    pub(super) proc: &'a Path,
    /// The source of monitors that name none.
    pub(super) source: SourceChoice,
    pub(super) netns: NetnsChoice,
    pub(super) labels: Vec<LabelBy>,
    /// Whether what passes through this host is of interest.
    pub(super) passing: bool,
    /// Shared by all pipes.
    pub(super) places: Arc<Places>,
    /// How long the first look at a source may take.
    patience: Duration,
    /// When a source was opened last.
    pub(super) opened: Option<Instant>,
    /// What each choice has come to.
    resolved: Vec<(SourceChoice, Source)>,
}

impl<'a> Setup<'a> {
    pub(super) fn new(
        proc: &'a Path,
        source: SourceChoice,
        netns: NetnsChoice,
        labels: Vec<LabelBy>,
        passing: bool,
        patience: Duration,
    ) -> Setup<'a> {
        let (resolved, opened) = (Vec::new(), None);
        allow_descriptors();
        let places = Arc::new(Places::beside(OTHER_DESCRIPTORS));
        Setup { proc, source, netns, labels, passing, places, patience, opened, resolved }
    }

    /// Makes the aggregator do what the configuration says. What both this one and the one before
    /// have goes on.
    ///
    /// # Errors
    /// A source that can't be read, a pipe that can't listen: then nothing has changed.
    pub(super) fn apply(
        &mut self,
        configuration: &Configuration,
        aggregator: &mut Aggregator,
        notices: &mut Notices,
        messages: &Messages,
    ) -> anyhow::Result<()> {
        let choices: Vec<SourceChoice> =
            configuration.monitors.iter().map(|m| m.source.unwrap_or(self.source)).collect();
        let mut resolved = self.resolved.clone();
        let mut opened: Vec<Monitor> = Vec::new();
        for choice in &choices {
            if resolved.iter().any(|(known, _)| known == choice) {
                continue;
            }
            let open = aggregator.monitors().chain(&opened).map(Monitor::source);
            let source = match known(*choice, open) {
                Some(source) => source,
                None => {
                    let monitor = self.open(*choice, aggregator, notices)?;
                    let source = monitor.source();
                    opened.push(monitor);
                    source
                }
            };
            resolved.push((*choice, source));
        }
        // Those before have theirs until they are over.
        self.reserve(aggregator.pipes().count() + configuration.pipes.len());
        let change = aggregator
            .pipes()
            .prepare(configuration.pipes.iter().map(|pipe| self.pipe(pipe, messages)).collect())
            .map_err(|error| {
                self.reserve(aggregator.pipes().count());
                refused(error, &configuration.pipes)
            })?;

        // From here on nothing can fail.
        aggregator.pipes_mut().commit(change);
        self.reserve(aggregator.pipes().count());
        resolved.retain(|(choice, _)| choices.contains(choice));
        aggregator.exchange(opened, |source| resolved.iter().any(|(_, kept)| *kept == source));
        let source_of = |choice: &SourceChoice| {
            resolved.iter().find(|(known, _)| known == choice).map(|(_, source)| *source)
        };
        let selection = |source| {
            let selectors = configuration.monitors.iter().zip(&choices);
            let selectors = selectors
                .map(|(monitor, choice)| selector(monitor, source_of(choice) == Some(source)));
            Selection::new(selectors.collect())
        };
        let groups = Groups::new(configuration.applications.clone()).labelled_by(&self.labels);
        let rules = configuration.notifications.iter().map(|n| n.rule.clone()).collect();
        aggregator.configure(selection, groups, rules);
        self.resolved = resolved;
        Ok(())
    }

    /// Opens a source and takes the first look at it.
    fn open(
        &mut self,
        choice: SourceChoice,
        aggregator: &Aggregator,
        notices: &mut Notices,
    ) -> anyhow::Result<Monitor> {
        let monitor = Monitor::open(&monitor::Options {
            source: choice,
            netns: self.netns,
            looked_back: aggregator.closed().collect(),
            forwarded: self.passing,
            labels: self.labels.clone(),
            own_ports: aggregator.pipes().ports().collect(),
            patience: Some(self.patience),
            proc: self.proc.to_owned(),
            ..monitor::Options::default()
        })
        .with_context(|| format!("source {choice}"))?;
        notices.tell_opened(&monitor);
        self.opened = Some(monitor.opened());
        Ok(monitor)
    }

    /// Leaves descriptors for so many pipes; the others are for connections.
    fn reserve(&self, pipes: usize) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        self.places.reserve(OTHER_DESCRIPTORS + pipes * (1 + threads * PIPE_DESCRIPTORS));
    }

    fn pipe(&self, settings: &PipeSettings, messages: &Messages) -> pipe::Config {
        let mut config = settings.config();
        config.places = Some(self.places.clone());
        config.report = Some(messages.report(Some(&config.name())));
        config
    }
}

fn selector(monitor: &MonitorSettings, here: bool) -> Selector {
    Selector { filter: monitor.filter.clone(), ignore_local: monitor.ignore_local, here }
}

/// Why a pipe can't be had, and what would mend it.
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
