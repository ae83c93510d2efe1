//! Errors of listening on a port, for pipes and the web page.

use std::io;
use std::net::SocketAddr;

/// Why a port can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("{address} can't be listened on: {error}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// The kernel's error: the address is in use, does not belong to this host, is not
        /// permitted ...
        error: io::Error,
    },
    /// A thread or a descriptor is not available.
    #[error("{what} can't be had: {error}")]
    System {
        /// What could not be created.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}
