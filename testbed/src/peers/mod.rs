//! Other programs, beside which ours are measured or by which they are put under load.

pub mod bandwhich;
pub mod forwarders;
pub mod iperf3;
pub mod nethogs;
pub mod web;

/// A process, as a program shows it on a line: bytes, or bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown<'a> {
    /// However the program names it.
    pub name: &'a str,
    /// In its own unit.
    pub received: f64,
    /// In its own unit.
    pub sent: f64,
}
