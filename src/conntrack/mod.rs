//! Connection tracking: the kernel's table of flows, read from its several sources.

pub mod command;
pub mod ctnetlink;
pub mod text;
