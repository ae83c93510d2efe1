//! What a pipe has to tell: connections that ended, clients that could not be served.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::traffic::Traffic;

/// Something that happened to a connection, or to the pipe.
#[derive(Debug)]
pub enum Event {
    /// A connection has ended; only where [`Config::report_ends`](super::Config::report_ends).
    Ended(Ended),
    /// A client was closed because there was no way to the remote, or no descriptor for it.
    Failed(Failed),
    /// Nothing can be accepted for now, because the process or the system is out of descriptors or
    /// memory; the pipe goes on as soon as something is free.
    Starved(io::Error),
}

/// A connection that was forwarded, and is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whom the connection came from.
    pub client: SocketAddr,
    /// The address that it was forwarded to.
    pub remote: SocketAddr,
    /// Received: the bytes from the client that were written to the remote. Sent: the bytes from
    /// the remote that were written to the client.
    pub traffic: Traffic,
    /// Since it was accepted.
    pub lasted: Duration,
    /// How it ended.
    pub end: End,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides said that they are done, and all bytes were passed on.
    Closed,
    /// One side broke it off; the other one was told by a reset.
    Reset(Side),
    /// One side does not answer any more (keepalive, retransmissions).
    Lost(Side),
    /// No byte moved for the idle timeout.
    Idle,
    /// The pipe was stopped.
    Cut,
}

/// One of the two ends of a forwarded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that connected to the pipe.
    Client,
    /// The one that the pipe connected to.
    Remote,
}

impl fmt::Display for End {
    /// A stable word for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Closed => "closed",
            End::Reset(Side::Client) => "reset-by-client",
            End::Reset(Side::Remote) => "reset-by-remote",
            End::Lost(Side::Client) => "client-lost",
            End::Lost(Side::Remote) => "remote-lost",
            End::Idle => "idle",
            End::Cut => "cut",
        })
    }
}

/// A client that was closed, by a reset, without having been forwarded.
#[derive(Debug)]
pub struct Failed {
    /// Whom the connection came from.
    pub client: SocketAddr,
    /// Why.
    pub error: ConnectError,
}

/// Why there is no way to the remote.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("{host} does not resolve: {error}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        error: String,
    },
    /// The last address that was tried, and what it said. `ErrorKind::TimedOut`: nothing.
    #[error("{address}: {}", reason(.error))]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// The client broke the connection off before the remote had answered.
    #[error("the client left before the remote answered")]
    Abandoned,
    /// There was no descriptor for it, or no place, within the connect timeout.
    #[error("no descriptor was free in time")]
    Starved,
    /// The remote is this very pipe: each connection would make another one, for ever.
    #[error("{address} is this pipe itself")]
    Itself {
        /// The address.
        address: SocketAddr,
    },
}

/// The error without Rust's `(os error 111)`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_for_people() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let error = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        let refused = ConnectError::Refused { address, error };
        assert_eq!(refused.to_string(), "192.0.2.1:80: Connection refused");
        let unresolved =
            ConnectError::Unresolved { host: "nowhere.invalid".into(), error: "unknown".into() };
        assert_eq!(unresolved.to_string(), "nowhere.invalid does not resolve: unknown");
    }
}
