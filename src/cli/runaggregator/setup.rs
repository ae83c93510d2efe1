//! What a configuration takes: sources that are read, pipes that listen, rules.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::aggregator::{Aggregator, ChangeError, Meter};
use crate::cli::forwarding::explain;
use crate::cli::messages::Messages;
use crate::cli::notices::Notices;
use crate::cli::source;
use crate::config::{Configuration, MonitorSettings, PipeSettings};
use crate::escape::visible;
use crate::group::Groups;
use crate::ledger::{Ledger, Options};
use crate::netns::NetnsChoice;
use crate::pipe::{self, Places};
use crate::processes::LabelBy;
use crate::selection::{Selection, Selector};
use crate::watch::{Source, SourceChoice};

use super::PROGRAM;

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
        places: Places,
        patience: Duration,
    ) -> Setup<'a> {
        let (places, resolved, opened) = (Arc::new(places), Vec::new(), None);
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
        let mut opened: Vec<Meter> = Vec::new();
        for choice in &choices {
            if resolved.iter().any(|(known, _)| known == choice) {
                continue;
            }
            let known = aggregator.meters().iter().chain(&opened).map(Meter::source);
            let source = match source::known(*choice, self.proc, known) {
                Some(source) => source,
                None => {
                    let meter = self.open(*choice, aggregator, notices)?;
                    let source = meter.source();
                    opened.push(meter);
                    source
                }
            };
            resolved.push((*choice, source));
        }
        let change = aggregator
            .pipes()
            .prepare(configuration.pipes.iter().map(|pipe| self.pipe(pipe, messages)).collect())
            .map_err(|error| refused(error, &configuration.pipes))?;

        // From here on nothing can fail.
        aggregator.pipes_mut().commit(change);
        resolved.retain(|(choice, _)| choices.contains(choice));
        let meters = aggregator.meters_mut();
        for meter in opened {
            // Two choices may have come to the same.
            if meters.iter().all(|known| known.source() != meter.source()) {
                meters.push(meter);
            }
        }
        meters.retain(|meter| resolved.iter().any(|(_, source)| *source == meter.source()));
        let source_of = |choice: &SourceChoice| {
            resolved.iter().find(|(known, _)| known == choice).map(|(_, source)| *source)
        };
        let selection = |meter: &Meter| {
            let selectors = configuration.monitors.iter().zip(&choices);
            Selection::new(
                selectors
                    .map(|(monitor, choice)| {
                        selector(monitor, source_of(choice) == Some(meter.source()))
                    })
                    .collect(),
            )
        };
        let selections = meters.iter().map(selection).collect();
        let groups = Groups::new(configuration.applications.clone()).labelled_by(&self.labels);
        let rules = configuration.notifications.iter().map(|n| n.rule.clone()).collect();
        aggregator.configure(selections, groups, rules);
        self.resolved = resolved;
        Ok(())
    }

    /// Opens a source and takes the first look at it.
    fn open(
        &mut self,
        choice: SourceChoice,
        aggregator: &Aggregator,
        notices: &mut Notices,
    ) -> anyhow::Result<Meter> {
        let mut ledger = Ledger::new(Options::default());
        let watch = source::open(choice, self.netns, true, self.proc, notices, |watch| {
            watch.label_by(self.labels.clone());
            watch.leave_to_pipes(aggregator.pipes().ports());
            if self.passing {
                watch.count_passing();
            }
            let now = Instant::now();
            self.opened = Some(now);
            watch.look_until(&mut ledger, Some(now + self.patience))
        });
        Ok(Meter::new(watch.with_context(|| format!("source {choice}"))?, ledger))
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
