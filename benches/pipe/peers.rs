//! The contestants, and how each is told what to forward.

use std::process::Command;

use testbed::bench::roles::this_program;
use testbed::bench::server::Server;
use testbed::bench::usage;
use testbed::peers::forwarders::{self, Route, command};

use crate::RUNPIPE;
use crate::stage::Stage;

/// What all others are compared with.
pub(crate) const OURS: &str = "runpipe";
/// No forwarder at all.
pub(crate) const DIRECT: &str = "direct";

/// A contestant.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Whether it has a process for each connection: a thousand of these take longer to come and
    /// go than the measurement.
    pub(crate) forks: bool,
    /// Nothing for no forwarder.
    command: Option<fn(&Route<'_>) -> anyhow::Result<Command>>,
}

pub(crate) static PEERS: [Peer; 7] = [
    Peer { name: OURS, forks: false, command: Some(runpipe) },
    Peer { name: DIRECT, forks: false, command: None },
    Peer { name: "realm_io", forks: false, command: Some(realm) },
    Peer { name: "haproxy", forks: false, command: Some(forwarders::haproxy) },
    Peer { name: "rinetd", forks: false, command: Some(forwarders::rinetd) },
    Peer { name: "socat", forks: true, command: Some(forwarders::socat) },
    Peer { name: "simpleproxy", forks: true, command: Some(forwarders::simpleproxy) },
];

fn runpipe(route: &Route<'_>) -> anyhow::Result<Command> {
    let (port, remote) = (route.port, route.remote);
    Ok(command(
        RUNPIPE.path,
        &format!("--bind 127.0.0.1 --interval 3600 {port} 127.0.0.1 {remote}"),
    ))
}

fn realm(route: &Route<'_>) -> anyhow::Result<Command> {
    Ok(command(&this_program(), &format!("relay {} {}", route.port, route.remote)))
}

/// A contestant at work.
pub(crate) struct Forwarder {
    /// Where clients connect to.
    pub(crate) port: u16,
    /// Whether it has a process for each connection.
    pub(crate) forks: bool,
    server: Option<Server>,
}

impl Forwarder {
    pub(crate) fn start(
        peer: &Peer,
        stage: &Stage,
        port: u16,
        remote: u16,
    ) -> anyhow::Result<Forwarder> {
        let forks = peer.forks;
        let Some(command) = peer.command else {
            return Ok(Forwarder { port: remote, forks, server: None });
        };
        let mut command =
            command(&Route { directory: &stage.directory, cores: stage.cores, port, remote })?;
        let server = Some(Server::start(&mut command, &stage.directory, None, port)?);
        Ok(Forwarder { port, forks, server })
    }

    /// The number of its first process.
    pub(crate) fn group(&self) -> Option<i32> {
        self.server.as_ref().map(Server::group)
    }

    /// Seconds of CPU time until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        self.group().map_or(Ok(f64::NAN), usage::cpu_of_group_at_rest)
    }

    /// Kilobytes of memory now.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        self.group().map_or(Ok(f64::NAN), usage::shared_memory)
    }
}
