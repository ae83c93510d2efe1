//! Whose bytes a flow carried: flows joined with sockets and their processes.
//!
//! Pure: flows, sockets and the answer to "who holds this socket" come in as arguments, shares of
//! bytes go out. What is kept per flow is the last reading of its counters and to whom its ends
//! belong, so that bytes which are counted after a socket is gone still find their process.

mod flows;
mod join;
mod reason;
mod sockets;

pub use flows::{Coverage, FlowAttribution, Observation, Opening, Share};
pub use join::{NamespaceView, OtherNamespaces};
pub use reason::Reason;
pub use sockets::{
    Candidates, Judge, Remembered, Resolution, SlotPressure, SocketAttribution, holder, whose,
};
