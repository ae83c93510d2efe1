//! Why a port can't be listened on, whoever wants to.

use std::io;
use std::net::SocketAddr;

/// Why nothing can be listened for.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("{address} can't be listened on: {error}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// The kernel's error: the address is in use, not this host's, not permitted ...
        error: io::Error,
    },
    /// Threads or descriptors are not to be had.
    #[error("{what} can't be had: {error}")]
    System {
        /// What could not be made.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}
