//! The monitor file: what is monitored, and which ports are forwarded.

use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use regex::bytes::Regex;

use super::error::{ConfigError, Problem, shown};
use super::ini::{self, Section};
use super::schema::{MONITOR, MONITORS};
use super::section::{Reading, Values};
use super::values::{address, count, host, port, shape, source, timeout, truth};
use crate::filter::Filter;
use crate::pipe;
use crate::watch::SourceChoice;

/// A monitor: which processes are shown.
#[derive(Clone, Debug)]
pub struct MonitorSettings {
    /// The name of its section. Raw bytes.
    pub name: Vec<u8>,
    /// Which command lines it shows.
    pub filter: Filter,
    /// The text of the pattern `include`, if there is one.
    pub include: Option<String>,
    /// The text of the pattern `exclude`, if there is one.
    pub exclude: Option<String>,
    /// Leave out what stays on this host (`ignorelocal`).
    pub ignore_local: bool,
    /// Where bytes are counted; `None` for what the program was told.
    pub source: Option<SourceChoice>,
}

impl MonitorSettings {
    /// What counts without a monitor file: everything.
    pub fn all() -> MonitorSettings {
        MonitorSettings {
            name: b"all".to_vec(),
            filter: Filter::default(),
            include: None,
            exclude: None,
            ignore_local: false,
            source: None,
        }
    }
}

/// A pipe: a local port that is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeSettings {
    /// The name of its section. Raw bytes. Its line is called by [`pipe::Config::name`].
    pub name: Vec<u8>,
    /// The local port.
    pub port: u16,
    /// The remote host (`newhost`).
    pub host: String,
    /// The remote port (`newport`).
    pub remote_port: u16,
    /// The local address; `None` for every one.
    pub bind: Option<IpAddr>,
    /// How long an address of the host may take to answer.
    pub connect_timeout: Duration,
    /// After how long without a byte a connection is reset; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// How many connections are forwarded at once.
    pub max_connections: Option<NonZeroUsize>,
    /// In bytes per second: at which rate each direction is shaped (`shape_threshold`).
    pub shape: Option<NonZeroU64>,
    /// Whether each connection begins with a PROXY protocol header.
    pub send_proxy: bool,
}

impl PipeSettings {
    /// What the pipe is told at its start; for what the file doesn't say, see
    /// [`pipe::Config::new`].
    pub fn config(&self) -> pipe::Config {
        pipe::Config {
            bind: self.bind,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            max_connections: self.max_connections,
            shape: self.shape,
            send_proxy: self.send_proxy,
            ..pipe::Config::new(self.port, self.host.as_str(), self.remote_port)
        }
    }
}

/// Reads the bytes of a monitor file: its monitors and its pipes. `file` is only for messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_monitors(
    file: &Path,
    bytes: &[u8],
) -> Result<(Vec<MonitorSettings>, Vec<PipeSettings>), Vec<ConfigError>> {
    let (document, errors) = ini::parse(file, bytes);
    let mut reading = Reading::new(&document, errors, &MONITORS);
    let mut monitors = Vec::new();
    let mut pipes: Vec<(&Section, PipeSettings)> = Vec::new();
    for section in document.sections() {
        let Some(kind) = reading.kind(section) else { continue };
        let mut values = reading.values(section, kind);
        if kind.name == MONITOR.name {
            monitors.push(monitor(section, &mut values));
        } else if let Some(pipe) = pipe(section, &mut values) {
            if let Some((other, _)) = pipes.iter().find(|(_, other)| collide(other, &pipe)) {
                let (other, line) = (shown(&other.name), other.line);
                let problem = Problem::SamePort { port: pipe.port, other, line };
                reading.wrong(section, "port", problem);
            }
            pipes.push((section, pipe));
        }
    }
    reading.finish((monitors, pipes.into_iter().map(|(_, pipe)| pipe).collect()))
}

/// A monitor, without what is wrong with it: that was said.
fn monitor(section: &Section, values: &mut Values) -> MonitorSettings {
    let include = values.pattern("include");
    let exclude = values.pattern("exclude");
    let text = |pattern: &Option<Regex>| pattern.as_ref().map(|regex| regex.as_str().to_owned());
    MonitorSettings {
        name: section.name.clone(),
        include: text(&include),
        exclude: text(&exclude),
        filter: Filter::of(include.into_iter().collect(), exclude.into_iter().collect()),
        ignore_local: values.get("ignorelocal", truth).unwrap_or_default(),
        source: values.get("source", source),
    }
}

/// A pipe. `None` if what it can't be without is missing or wrong, which was said.
fn pipe(section: &Section, values: &mut Values) -> Option<PipeSettings> {
    // All of them are looked at, so that everything wrong is said.
    let local = values.get("port", port);
    let host = values.get("newhost", |value| {
        host(value).map_err(|expected| expected.replace("is an argument of its own", "is newport"))
    });
    let remote_port = values.get("newport", port);
    let bind = values.get("bind", address);
    let connect_timeout = values.get("connect_timeout", timeout);
    let idle_timeout = values.get("idle_timeout", timeout);
    let max_connections = values.get("max_connections", count);
    let shape = values.get("shape_threshold", shape).flatten();
    let send_proxy = values.get("send_proxy", truth);
    let local = local?;
    Some(PipeSettings {
        name: section.name.clone(),
        port: local,
        host: host?,
        remote_port: remote_port.unwrap_or(local),
        bind,
        connect_timeout: connect_timeout?,
        idle_timeout,
        max_connections,
        shape,
        send_proxy: send_proxy?,
    })
}

/// Whether two pipes would listen on the same port of the same address.
fn collide(a: &PipeSettings, b: &PipeSettings) -> bool {
    a.port == b.port && overlap(a.bind, b.bind)
}

/// Whether what listens on one address is in the way of what listens on the other.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a.map(|a| a.to_canonical()), b.map(|b| b.to_canonical())) else {
        return true;
    };
    // The one of IPv6 is that of IPv4 too.
    let everywhere =
        |any: IpAddr, other: IpAddr| any.is_unspecified() && (any.is_ipv6() || other.is_ipv4());
    a == b || everywhere(a, b) || everywhere(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_in_each_others_way() {
        let parse = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        for (a, b, expected) in [
            ("", "", true),
            ("", "127.0.0.1", true),
            ("", "::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "::1", false),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
            ("::", "0.0.0.0", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
        ] {
            assert_eq!(overlap(parse(a), parse(b)), expected, "{a} {b}");
            assert_eq!(overlap(parse(b), parse(a)), expected, "{b} {a}");
        }
    }
}
