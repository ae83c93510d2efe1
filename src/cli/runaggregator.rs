//! `runaggregator`: applications, pipes and alerts.

mod alarms;
mod arguments;
mod setup;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;

use super::USAGE;
use super::forwarding::{PEEK, explain, say_cut};
use super::messages::Messages;
use super::notices::Notices;
use super::run::{Program, Run, Unwritable};
use super::say;
use super::terminal::Escaping;
use crate::aggregator::Aggregator;
use crate::by::Names;
use crate::config::{self, ConfigError, Configuration};
use crate::model::Snapshot;
use crate::monitor::Moment;
use crate::render::Frame;
use crate::render::applications::Applications;
use crate::serve::Server;

use alarms::Alarms;
pub use arguments::{Arguments, GroupBy};
use setup::Setup;

const PROGRAM: &str = "runaggregator";

/// Runs the program with the arguments of the process.
///
/// # Errors
/// Those that end it at run time, to be shown as one line. Errors of usage and configuration are
/// shown here.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return super::usage(PROGRAM, &error),
    };
    if let Err(error) = arguments.top.check_with(arguments.output, &arguments.view) {
        say(PROGRAM, &error);
        return Ok(ExitCode::from(USAGE));
    }
    let configuration = match config::load(&arguments.files()) {
        Ok(configuration) => configuration,
        Err(errors) => {
            errors.iter().for_each(|error| say(PROGRAM, &error.to_string()));
            return Ok(ExitCode::from(USAGE));
        }
    };
    if arguments.check_config {
        Escaping::on(io::stdout())
            .write_all(config::show(&configuration).as_bytes())
            .context("standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let Arguments { all, unattributed, output, .. } = &arguments;
    let (all, unattributed, units) = (*all, *unattributed, output.units);
    let mut run = match arguments.top.setup(PROGRAM, output, &arguments.view, false)? {
        Some(setup) => Run::start_screen(setup, false)?,
        None => {
            let (format, is_screen) =
                output.format(|terminal| Applications { all, unattributed, units, terminal });
            Run::start(PROGRAM, false, is_screen, Unwritable::Told, format)?
        }
    };
    let outcome = watch(&arguments, &configuration, &mut run);
    Ok(run.end(outcome))
}

/// Runs the configuration until the end.
fn watch(
    arguments: &Arguments,
    configuration: &Configuration,
    run: &mut Run,
) -> anyhow::Result<()> {
    run.signals().reload_on_hangup().context("signals can't be handled")?;
    let mut host = Host {
        arguments,
        aggregator: Aggregator::default(),
        setup: Setup::new(Path::new("/proc"), arguments, arguments.refreshes.interval / 2),
        alarms: Alarms::new(run.messages()),
        notices: Notices::new(PROGRAM, run.messages()),
        messages: run.messages().clone(),
        page: None,
        snapshot: Arc::default(),
        names: if arguments.top.top { None } else { arguments.view.grouped.names()? },
    };
    let at_once = run.signals().at_once();
    at_once.set(true);
    host.configure(configuration)?;
    at_once.set(false);
    if let Some(address) = arguments.serve {
        let server =
            Server::start(address).map_err(|error| explain(PROGRAM, error).context("--serve"))?;
        host.messages.say(&format!("the page is at http://{}/", server.address()));
        if let Some(warning) = exposure(server.address()) {
            host.messages.say(&warning);
        }
        host.page = Some(server);
    }
    let moment = Moment::now();
    host.aggregator.begin(moment);
    let start =
        host.setup.opened.filter(|_| host.aggregator.is_reading()).unwrap_or(moment.instant);
    let outcome = run.refresh(&mut host, &arguments.refreshes, start, false);
    host.end(run, outcome.map(drop));
    Ok(())
}

/// The readers to whom this address exposes the page, if others than this host's users can read it.
fn exposure(address: SocketAddr) -> Option<String> {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() {
        return None;
    }
    let port = address.port();
    let place = match ip.is_unspecified() {
        true => format!("port {port} of any address of this host"),
        false => address.to_string(),
    };
    Some(format!(
        "warning: everybody who can reach {place} can read the page, without a password: command \
         lines of all users are on it; --serve {port} is for this host alone"
    ))
}

/// Everything that runs.
struct Host<'a> {
    arguments: &'a Arguments,
    aggregator: Aggregator,
    setup: Setup,
    alarms: Alarms,
    notices: Notices,
    messages: Messages,
    page: Option<Server>,
    /// The last refresh.
    snapshot: Arc<Snapshot>,
    /// Names of remote hosts and ports, if they are asked for.
    names: Option<Arc<dyn Names>>,
}

impl Host<'_> {
    fn configure(&mut self, configuration: &Configuration) -> anyhow::Result<()> {
        let Host { setup, aggregator, notices, messages, .. } = self;
        setup.apply(configuration, aggregator, notices, messages)?;
        let notifications = configuration.notifications.iter();
        let commands = notifications.map(|n| n.commands.clone()).collect();
        self.alarms.configure(self.aggregator.rules(), commands);
        Ok(())
    }

    /// Stops listening, and waits for open connections.
    fn end(self, run: &mut Run, outcome: anyhow::Result<()>) {
        // Now, and not after what may take long.
        if let Err(error) = outcome.and_then(|()| run.finish()) {
            run.fail(&error);
        }
        run.signals().stop();
        let Host { arguments, aggregator, alarms, messages, page, .. } = self;
        let pipes = aggregator.pipes();
        pipes.close();
        drop(page);
        messages.say_line("Please wait...".to_owned());
        let limit = arguments.drain_timeout.map(|timeout| Instant::now() + timeout);
        while !pipes.wait(Instant::now() + PEEK) {
            if limit.is_some_and(|at| at <= Instant::now()) {
                say_cut(&messages, pipes.open());
                break;
            }
        }
        let left = alarms.finish(limit);
        match left.dropped {
            0 => {}
            1 => messages.say("1 command that waited was not started"),
            many => messages.say(&format!("{many} commands that waited were not started")),
        }
        match left.running {
            0 => {}
            1 => messages.say("1 command still runs after the drain timeout"),
            many => messages.say(&format!("{many} commands still run after the drain timeout")),
        }
    }
}

impl Program for Host<'_> {
    fn aggregator(&self) -> &Aggregator {
        &self.aggregator
    }

    fn aggregator_mut(&mut self) -> &mut Aggregator {
        &mut self.aggregator
    }

    fn group(&self, snapshot: &mut Snapshot) {
        // The screen groups by itself.
        if !self.arguments.top.top {
            self.arguments.view.grouped.group(snapshot, self.names.as_deref());
        }
    }

    fn looked(&mut self) {
        self.notices.tell_all(&self.aggregator);
    }

    fn took(&mut self, snapshot: &Arc<Snapshot>) {
        if snapshot.alerts_are_crowded {
            self.notices.tell_crowded();
        }
        let (rules, groups) = (self.aggregator.rules(), self.aggregator.groups());
        self.alarms.tell(&snapshot.alerts, rules, groups, snapshot.instant);
        if let Some(page) = &self.page {
            page.record(snapshot);
        }
        self.setup.settle(&self.aggregator);
        self.snapshot = snapshot.clone();
    }

    fn frame(&self) -> Frame {
        let empty = match self.arguments.all {
            true => "nothing was received or sent",
            false => "no application used more than 1 KiB per second",
        };
        let alerts = self.alarms.on_screen().collect();
        Frame { alerts, ..self.notices.frame(&self.snapshot, empty) }
    }

    /// Reads the files again. If they have errors, these are reported and the configuration stays.
    fn reload(&mut self) {
        let errors: Vec<String> = match config::reload(&self.arguments.files()) {
            Err(errors) => errors.iter().map(ConfigError::to_string).collect(),
            Ok(configuration) => match self.configure(&configuration) {
                Err(error) => vec![format!("{error:#}")],
                Ok(()) => Vec::new(),
            },
        };
        errors.iter().for_each(|error| self.messages.say(error));
        self.messages.say(match errors.is_empty() {
            true => "the configuration was read again",
            false => "the configuration stays as it was",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::exposure;

    #[test]
    fn a_page_for_others_than_this_host_is_told_of() {
        for address in ["127.0.0.1:8000", "127.9.9.9:1", "[::1]:8000", "[::ffff:127.0.0.1]:8000"] {
            assert_eq!(exposure(address.parse().unwrap()), None, "{address}");
        }
        for address in ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000", "[2001:db8::1]:8000"] {
            let warning = exposure(address.parse().unwrap()).unwrap();
            assert!(
                warning.contains("8000 ") && warning.contains(" can read the page"),
                "{warning}"
            );
            assert!(warning.ends_with("--serve 8000 is for this host alone"), "{warning}");
        }
    }
}
