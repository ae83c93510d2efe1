//! Whose bytes are: what was read, and who was found at its ends, become shares of owners.
//!
//! Pure. What is kept of a flow or socket is the last reading of its counters and to whom its ends belong, so
//! that bytes which are counted after a socket is gone still find their process. Each change goes three
//! steps: `read` says whether anything is new, the [environment](crate::environment) resolves who is there, and
//! `account` settles the bytes by one policy for flows and sockets.

mod flows;
mod own_pipes;
mod settle;
mod share;
mod sockets;

pub(crate) use flows::{Coverage, FlowAttribution, Observation};
pub(crate) use own_pipes::{OwnPipes, ports};
pub(crate) use share::Share;
pub(crate) use sockets::{
    Candidates, Remembered, Resolution, SlotPressure, SocketAttribution, holder, resolve,
};
