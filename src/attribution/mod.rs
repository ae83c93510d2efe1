//! Attributes bytes: readings, and the processes found at their ends, become shares of owners.
//!
//! This module is pure. For each flow or socket it keeps the last reading of its counters and the owners of its
//! ends, so that bytes counted after the end of a socket still find their process. Each change takes three
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
