//! Flows from connection tracking.

pub mod ctnetlink;
