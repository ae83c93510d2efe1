//! Network namespaces for one test.
//!
//! ```text
//!   Net::new()       watched ──────────────────── peer
//!                    10.77.0.1/24        10.77.0.2/24
//!                    fd77::1/64            fd77::2/64
//!
//!   Net::routed()    peer ────────── watched ────────── far
//!                    10.77.0.2   .0.1   10.77.1.1   10.77.1.2
//!                    (watched is the router and everyone's default gateway; IPv4 only)
//! ```
//!
//! The program under test runs in `watched`. Nothing leaves these namespaces, and their names hold
//! the test process's id and a counter, so tests run side by side and what a killed run left behind
//! can be told and swept.

mod namespace;
mod net;
mod turn;

pub use namespace::Namespace;
pub(crate) use namespace::{NAMESPACES, delete_namespace};
pub use net::{Net, Setup};
pub(crate) use turn::{Gate, Turn};

pub const WATCHED4: &str = "10.77.0.1";
pub const PEER4: &str = "10.77.0.2";
pub const WATCHED6: &str = "fd77::1";
pub const PEER6: &str = "fd77::2";
pub const FAR4: &str = "10.77.1.2";

/// The Ethernet addresses of both ends of a pair of links.
pub(crate) const WATCHED_MAC: &str = "02:00:00:00:00:01";
pub const PEER_MAC: &str = "02:00:00:00:00:02";
