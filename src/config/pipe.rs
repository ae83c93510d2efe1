//! A pipe: its settings and their keys.

use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::keys::{Fallback, Key, Kind};
use super::monitors::{SectionType, section_type};
use super::values::{self, Limit};
use crate::pipe;

/// A pipe: a local port that is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeSettings {
    /// The name of its section. Raw bytes. The name of its line is [`pipe::Config::name`].
    pub name: Vec<u8>,
    /// The local port.
    pub port: u16,
    /// The remote host (`newhost`).
    pub host: String,
    /// The remote port (`newport`).
    pub remote_port: u16,
    /// The local address; `None` for all.
    pub bind: Option<IpAddr>,
    /// How long each address of the host may take to answer.
    pub connect_timeout: Duration,
    /// The time without a byte after which a connection is reset; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// The maximum number of connections.
    pub max_connections: Option<NonZeroUsize>,
    /// The limit of each direction, in bytes per second (`shape_threshold`).
    pub shape: Option<NonZeroU64>,
    /// Whether each connection starts with a PROXY protocol header.
    pub send_proxy: bool,
}

impl PipeSettings {
    /// The settings of a section without keys.
    pub(super) fn new(name: &[u8]) -> PipeSettings {
        PipeSettings {
            name: name.to_vec(),
            port: 0,
            host: String::new(),
            remote_port: 0,
            bind: None,
            connect_timeout: Duration::ZERO,
            idle_timeout: None,
            max_connections: None,
            shape: None,
            send_proxy: false,
        }
    }

    /// The configuration of the pipe. What the file doesn't set is as in [`pipe::Config::new`].
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

type PipeKey<T> = Key<PipeSettings, T>;

/// The keys of a pipe.
pub(super) static PIPE: Kind<PipeSettings> = Kind {
    name: SectionType::Pipe.name(),
    keys: &[
        &TYPE,
        &PORT,
        &NEWHOST,
        &NEWPORT,
        &SHAPE_THRESHOLD,
        &BIND,
        &CONNECT_TIMEOUT,
        &IDLE_TIMEOUT,
        &MAX_CONNECTIONS,
        &SEND_PROXY,
    ],
};

static TYPE: PipeKey<SectionType> = section_type(|_| Some(SectionType::Pipe));

pub(crate) static PORT: PipeKey<u16> = Key {
    name: "port",
    help: "Local TCP port. A port below 1024 usually needs root",
    default: Fallback::Required,
    value: &values::PORT,
    set: |pipe, port| (pipe.port, pipe.remote_port) = (port, port),
    get: |pipe| Some(pipe.port),
};

pub(crate) static NEWHOST: PipeKey<String> = Key {
    name: "newhost",
    help: "Remote host. A name is resolved for each connection, not at the start",
    default: Fallback::Required,
    value: &values::HOST,
    set: |pipe, host| pipe.host = host,
    get: |pipe| Some(pipe.host.clone()),
};

/// Read after [`PORT`], which sets the remote port as well.
pub(crate) static NEWPORT: PipeKey<u16> = Key {
    name: "newport",
    help: "TCP port of the remote host",
    default: Fallback::Nothing("the local port"),
    value: &values::PORT,
    set: |pipe, port| pipe.remote_port = port,
    get: |pipe| Some(pipe.remote_port),
};

pub(crate) static SHAPE_THRESHOLD: PipeKey<Limit> = Key {
    name: "shape_threshold",
    help: "Forward at most this many KiB/s (1024 bytes per second) in each direction, over all \
           connections. Connections that could use more share the limit equally; 0 means no limit",
    default: Fallback::Value("0"),
    value: &values::RATE,
    set: |pipe, shape| pipe.shape = shape,
    get: |pipe| Some(pipe.shape),
};

pub(crate) static BIND: PipeKey<IpAddr> = Key {
    name: "bind",
    help: "Listen on this local address only",
    default: Fallback::Nothing("every address, of IPv4 and IPv6"),
    value: &values::ADDRESS,
    set: |pipe, address| pipe.bind = Some(address),
    get: |pipe| pipe.bind,
};

pub(crate) static CONNECT_TIMEOUT: PipeKey<Duration> = Key {
    name: "connect_timeout",
    help: "How long each address of the remote host may take to answer, and how long a client \
           waits for the host's name to resolve, or for a descriptor",
    default: Fallback::Value("5"),
    value: &values::TIMEOUT,
    set: |pipe, timeout| pipe.connect_timeout = timeout,
    get: |pipe| Some(pipe.connect_timeout),
};

pub(crate) static IDLE_TIMEOUT: PipeKey<Duration> = Key {
    name: "idle_timeout",
    help: "Reset connections on which no byte has moved in either direction for this long, \
           except those that wait for the bandwidth limit",
    default: Fallback::Nothing("never"),
    value: &values::TIMEOUT,
    set: |pipe, timeout| pipe.idle_timeout = Some(timeout),
    get: |pipe| pipe.idle_timeout,
};

pub(crate) static MAX_CONNECTIONS: PipeKey<NonZeroUsize> = Key {
    name: "max_connections",
    help: "Forward at most this many connections at once. Further clients wait in the kernel's backlog \
           until one ends",
    default: Fallback::Nothing("as many as the limit of descriptors allows"),
    value: &values::COUNT,
    set: |pipe, count| pipe.max_connections = Some(count),
    get: |pipe| pipe.max_connections,
};

pub(crate) static SEND_PROXY: PipeKey<bool> = Key {
    name: "send_proxy",
    help: "Start each connection to the remote host with a PROXY protocol header, version 2, which \
           contains the client's address. The host must expect it",
    default: Fallback::Value("false"),
    value: &values::TRUTH,
    set: |pipe, send| pipe.send_proxy = send,
    get: |pipe| Some(pipe.send_proxy),
};
