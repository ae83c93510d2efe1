//! What a pipe is told at its start.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use super::places::Places;
use super::resolve::{Resolve, SystemResolver};

/// Takes what a pipe has to tell. It is called by the threads that forward, so it must not block.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;

/// How a pipe listens, where it connects to, and its limits.
#[derive(Clone)]
pub struct Config {
    /// The local TCP port; 0 lets the kernel choose one (see [`Pipe::address`](super::Pipe::address)).
    pub port: u16,
    /// The local address to listen on. `None`: every address, IPv6 and IPv4.
    pub bind: Option<IpAddr>,
    /// The remote host: a name or an IP address.
    pub host: String,
    /// The remote TCP port.
    pub remote_port: u16,
    /// How long each address of the host is given to answer, and how long a client waits for the
    /// host's name to resolve, or for a descriptor or one of `places`.
    pub connect_timeout: Duration,
    /// Connections on which no byte moved either way for so long are reset, but for those that wait
    /// for `shape`.
    pub idle_timeout: Option<Duration>,
    /// How many connections are forwarded at once; more wait in the kernel's backlog.
    pub max_connections: Option<NonZeroUsize>,
    /// Where several pipes of the process share their places. `None`: as many as the process has
    /// descriptors for when the pipe starts.
    pub places: Option<Arc<Places>>,
    /// The most bytes per second that all connections together forward, in each direction. Those
    /// that want more have equal shares.
    pub shape: Option<NonZeroU64>,
    /// Begins each connection to the remote with a PROXY protocol header, version 2.
    pub send_proxy: bool,
    /// How many threads forward.
    pub workers: NonZeroUsize,
    /// When and how often a silent peer is asked whether it is still there.
    pub keepalive: Keepalive,
    /// What looks the host's name up.
    pub resolver: Arc<dyn Resolve>,
    /// What is told of failures, and of ends if `report_ends`. `None`: nobody is.
    pub report: Option<OnEvent>,
    /// Whether each connection's end is reported: its addresses are then remembered, which costs
    /// memory and a system call for each connection.
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
    /// From local `port`, on every address, to `host` at `remote_port`, without limits.
    pub fn new(port: u16, host: impl Into<String>, remote_port: u16) -> Config {
        Config {
            port,
            bind: None,
            host: host.into(),
            remote_port,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
            max_connections: None,
            places: None,
            shape: None,
            send_proxy: false,
            workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            keepalive: Keepalive::default(),
            resolver: Arc::new(SystemResolver),
            report: None,
            report_ends: false,
        }
    }

    /// Whether a pipe of this configuration would do the same as one of the other: all but whom it
    /// reports to, what resolves the name, and with whom it shares its places.
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

    /// What the pipe's line on the screen is called: `pipe-PORT:HOST:REMOTEPORT`.
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
