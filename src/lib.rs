//! bwmon tells which application on a Linux host uses how much of the network.
//!
//! Data goes one way through the crate: what the kernel says is *observed*, *attributed* to
//! processes, *accounted*, and only then shown. `ARCHITECTURE.md` has the map.

pub mod addresses;
pub mod aggregator;
pub mod alert;
pub mod brief;
pub mod cli;
pub mod config;
pub mod conntrack;
pub mod ebpf;
pub mod escape;
pub mod filter;
pub mod flow;
pub mod group;
pub mod ledger;
pub mod listen;
pub mod lookalike;
pub mod model;
pub mod monitor;
pub mod netlink;
pub mod netns;
pub mod notify;
pub mod pipe;
pub mod processes;
pub mod render;
pub mod selection;
pub mod serve;
pub mod sockets;
pub mod traffic;
#[cfg(test)]
mod until;
pub mod watch;
