//! What a program shows, as far as it says whether it knows whose the bytes are.

use crate::lines;
use crate::peers::{bandwhich, nethogs};

/// What those who send and receive in benches are called: the benches' roles, `brief.c`'s program, and
/// programs of the system's.
const NAMES: [&str; 6] = ["watching-", "overhead-", "brief", "iperf3", "wrk", "nginx"];

/// Sums over all that was shown: bytes, or bytes per second; the ratio is what counts.
#[derive(Clone, Copy, Default)]
pub struct Seen {
    named: f64,
    all: f64,
}

impl Seen {
    /// Adds a line, of whichever program.
    pub fn add(&mut self, line: &str) {
        let classic = lines::split(line).map(|line| line.bytes.total() as f64);
        let peers = || bandwhich::line(line).or_else(|| nethogs::line(line));
        let Some(bytes) = classic.or_else(|| peers().map(|of| of.received + of.sent)) else {
            return;
        };
        self.all += bytes;
        if NAMES.iter().any(|name| line.contains(name)) {
            self.named += bytes;
        }
    }

    /// Whether nothing was shown.
    pub fn is_empty(self) -> bool {
        self.all == 0.0
    }

    /// In percent; not a number if nothing was shown.
    pub fn share(self) -> f64 {
        self.named / self.all * 100.0
    }
}
