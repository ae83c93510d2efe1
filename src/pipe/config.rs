//! The configuration of a pipe.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use super::connection_slots::ConnectionSlots;
use super::event::Event;
use super::resolve::{Resolve, SystemResolver};

/// Receives the events of a pipe. The threads that forward call it, so it must not block.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// How a pipe listens, where it connects to, and its limits.
#[derive(Clone)]
pub struct Config {
    /// The local TCP port; 0 lets the kernel choose one (see [`Pipe::address`](super::Pipe::address)).
    pub port: u16,
    /// The local address to listen on. `None`: all addresses, IPv6 and IPv4.
    pub bind: Option<IpAddr>,
    /// The remote host: a name or an IP address.
    pub host: String,
    /// The remote TCP port.
    pub remote_port: u16,
    /// How long each address of the host may take to answer, and how long a client waits for the
    /// host's name to resolve, for a descriptor, or for one of `slots`.
    pub connect_timeout: Duration,
    /// Connections on which no byte has moved in either direction for this long are reset, except
    /// those that wait for `shape`.
    pub idle_timeout: Option<Duration>,
    /// Maximum number of connections; further clients wait in the kernel's backlog.
    pub max_connections: Option<NonZeroUsize>,
    /// The capacity that several pipes of the process share. `None`: the number of free descriptors
    /// when the pipe starts.
    pub slots: Option<Arc<ConnectionSlots>>,
    /// The limit of bytes per second in each direction, over all connections. Connections that
    /// could use more share it equally.
    pub shape: Option<NonZeroU64>,
    /// Whether each connection to the remote starts with a PROXY protocol header, version 2.
    pub send_proxy: bool,
    /// Whether bytes are counted by client: see [`Pipe::clients`](super::Pipe::clients).
    pub count_clients: bool,
    /// Number of threads that forward.
    pub workers: NonZeroUsize,
    /// When and how often a silent peer is probed.
    pub keepalive: Keepalive,
    /// The resolver of the host's name.
    pub resolver: Arc<dyn Resolve>,
    /// Receives failures, and ends if `report_ends`. `None`: no reports.
    pub report: Option<OnEvent>,
    /// Whether the end of each connection is reported. Its addresses are then remembered, which
    /// costs memory and a system call for each connection.
    pub report_ends: bool,
}

/// TCP keepalive, on both sides of every connection. See tcp(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe, in whole seconds (`TCP_KEEPIDLE`).
    pub idle: Duration,
    /// Between two probes, in whole seconds (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// Unanswered probes before the connection is given up (`TCP_KEEPCNT`).
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 6 }
    }
}

impl Config {
    /// A pipe from the local `port`, on all addresses, to `host` at `remote_port`, without limits.
    pub fn new(port: u16, host: impl Into<String>, remote_port: u16) -> Config {
        Config {
            port,
            bind: None,
            host: host.into(),
            remote_port,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
            max_connections: None,
            slots: None,
            shape: None,
            send_proxy: false,
            count_clients: false,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            keepalive: Keepalive::default(),
            resolver: Arc::new(SystemResolver),
            report: None,
            report_ends: false,
        }
    }

    /// Whether a pipe of this configuration would do the same as one of the other. The receiver of
    /// reports, the resolver, the shared slots and the counting by client don't matter.
    pub fn is_like(&self, other: &Config) -> bool {
        let plain = |config: &Config| {
            (
                (config.port, config.bind, config.host.clone(), config.remote_port),
                (config.connect_timeout, config.idle_timeout, config.max_connections),
                (config.shape, config.send_proxy, config.workers, config.keepalive),
            )
        };
        plain(self) == plain(other)
    }

    /// The name of the pipe's line: `pipe-PORT:HOST:REMOTEPORT`.
    pub fn name(&self) -> String {
        format!("pipe-{}:{}:{}", self.port, self.host, self.remote_port)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("port", &self.port)
            .field("bind", &self.bind)
            .field("host", &self.host)
            .field("remote_port", &self.remote_port)
            .finish_non_exhaustive()
    }
}
