//! The contestants, and how each is told what to forward.

use std::fs;
use std::process::Command;

use crate::common::this_program;
use crate::server::Server;
use crate::stage::Stage;
use crate::usage;

/// What all others are compared with.
pub(crate) const OURS: &str = "runpipe";
/// No forwarder at all.
pub(crate) const DIRECT: &str = "direct";

/// What to forward: from a port on 127.0.0.1 to another.
struct Route<'a> {
    stage: &'a Stage,
    port: u16,
    remote: u16,
}

/// A contestant.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Whether it has a process for each connection: a thousand of these take longer to come and
    /// go than the measurement.
    pub(crate) forks: bool,
    /// Nothing for no forwarder.
    command: Option<fn(&Route) -> anyhow::Result<Command>>,
}

pub(crate) static PEERS: [Peer; 7] = [
    Peer { name: OURS, forks: false, command: Some(runpipe) },
    Peer { name: DIRECT, forks: false, command: None },
    Peer { name: "realm_io", forks: false, command: Some(realm) },
    Peer { name: "haproxy", forks: false, command: Some(haproxy) },
    Peer { name: "rinetd", forks: false, command: Some(rinetd) },
    Peer { name: "socat", forks: true, command: Some(socat) },
    Peer { name: "simpleproxy", forks: true, command: Some(simpleproxy) },
];

fn runpipe(route: &Route) -> anyhow::Result<Command> {
    let (port, remote) = (route.port, route.remote);
    Ok(command(
        env!("CARGO_BIN_EXE_runpipe"),
        &format!("--bind 127.0.0.1 --interval 3600 {port} 127.0.0.1 {remote}"),
    ))
}

fn realm(route: &Route) -> anyhow::Result<Command> {
    Ok(command(&this_program()?, &format!("relay {} {}", route.port, route.remote)))
}

fn haproxy(route: &Route) -> anyhow::Result<Command> {
    let Route { stage, port, remote } = route;
    let path = write(
        route,
        "haproxy",
        &format!(
            "global\n nbthread {}\n maxconn 4000\n\
             defaults\n mode tcp\n option splice-auto\n maxconn 4000\n timeout connect 5s\n \
             timeout client 1h\n timeout server 1h\n\
             listen pipe\n bind 127.0.0.1:{port}\n server remote 127.0.0.1:{remote}\n",
            stage.cores
        ),
    )?;
    Ok(command("haproxy", &format!("-db -f {path}")))
}

fn rinetd(route: &Route) -> anyhow::Result<Command> {
    let Route { stage, port, remote } = route;
    let pid = stage.directory.join(format!("rinetd-{port}.pid"));
    let rule = format!("127.0.0.1 {port} 127.0.0.1 {remote}\npidlogfile {}\n", pid.display());
    let path = write(route, "rinetd", &rule)?;
    Ok(command("rinetd", &format!("-f -c {path}")))
}

fn socat(route: &Route) -> anyhow::Result<Command> {
    let Route { port, remote, .. } = route;
    // Its own backlog of 5 would make a thousand connections wait for SYNs to be sent again.
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=4096");
    Ok(command("socat", &format!("{listen} TCP:127.0.0.1:{remote},nodelay")))
}

fn simpleproxy(route: &Route) -> anyhow::Result<Command> {
    let Route { port, remote, .. } = route;
    Ok(command("simpleproxy", &format!("-L 127.0.0.1:{port} -R 127.0.0.1:{remote}")))
}

fn command(program: &str, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments.split(' '));
    command
}

fn write(route: &Route, name: &str, text: &str) -> anyhow::Result<String> {
    let path = route.stage.directory.join(format!("{name}-{}.conf", route.port));
    fs::write(&path, text)?;
    Ok(path.display().to_string())
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
        let mut command = command(&Route { stage, port, remote })?;
        let server = Some(Server::start(&mut command, &stage.directory, None, port)?);
        Ok(Forwarder { port, forks, server })
    }

    /// The number of its first process.
    pub(crate) fn group(&self) -> Option<i32> {
        self.server.as_ref().map(Server::group)
    }

    /// Seconds of CPU time until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        self.group().map_or(Ok(f64::NAN), usage::cpu)
    }

    /// Kilobytes of memory now.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        self.group().map_or(Ok(f64::NAN), usage::memory)
    }
}
