//! Events of a pipe: connections that ended, clients that could not be served.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::traffic::Traffic;

/// An event of a connection, or of the pipe.
#[derive(Debug)]
pub enum Event {
    /// A connection has ended; only with [`Config::report_ends`](super::Config::report_ends).
    Ended(Ended),
    /// A client was closed because the remote could not be connected to, or no descriptor was free
    /// for it.
    Failed(Failed),
    /// No client can be accepted for now, because the process or the system is out of descriptors
    /// or memory. The pipe continues when some are free.
    Starved(io::Error),
}

/// A forwarded connection that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The address of the client.
    pub client: SocketAddr,
    /// The address that it was forwarded to.
    pub remote: SocketAddr,
    /// Received: bytes from the client that were written to the remote. Sent: bytes from the remote
    /// that were written to the client.
    pub traffic: Traffic,
    /// Time since it was accepted.
    pub lasted: Duration,
    /// How it ended.
    pub end: End,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides have closed, and all bytes were passed on.
    Closed,
    /// This side has reset it; the other side was reset by the pipe.
    Reset(Side),
    /// This side does not answer any more (keepalive, retransmissions).
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
    /// The address of the client.
    pub client: SocketAddr,
    /// The error.
    pub error: ConnectError,
}

/// Why the remote could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("{host} does not resolve: {error}")]
    Unresolved {
        /// The name.
        host: String,
        /// The error of the resolver.
        error: String,
    },
    /// The last address that was tried, and its error. `ErrorKind::TimedOut`: it did not answer.
    #[error("{address}: {}", reason(.error))]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// The client has left before the remote has answered.
    #[error("the client left before the remote answered")]
    Abandoned,
    /// No descriptor or slot was free for it within the connect timeout.
    #[error("no descriptor was free in time")]
    Starved,
    /// The remote is this pipe itself: each connection would cause another one, for ever.
    #[error("{address} is this pipe itself")]
    Itself {
        /// The address.
        address: SocketAddr,
    },
}

/// The text of an error without Rust's `(os error 111)`.
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
