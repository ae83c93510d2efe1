//! Whose bytes a flow carried: flows joined with sockets and their processes.
//!
//! Pure: flows, sockets and the answer to "who holds this socket" come in as arguments, shares of
//! bytes go out. What is kept per flow is the last reading of its counters and to whom its ends
//! belong, so that bytes which are counted after a socket is gone still find their process.

mod attribution;
mod by_socket;
mod join;
mod reason;
mod testimony;

pub use attribution::{Attribution, Coverage, Observation, Opening, Share};
pub use by_socket::{Evidence, Judge, Remembered, Room, SocketAttribution, Verdict, holder, whose};
pub use join::{Neighbours, Surroundings};
pub use reason::Reason;
pub use testimony::{Seen, Testimony};
