//! Bytes received and sent, their rates, and the names that they belong to.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// The name of a row: a command line, an application or a pipe. Untrusted bytes, unescaped, which
/// need not be UTF-8. Clones share their memory.
pub type Name = Arc<[u8]>;

/// Received and sent bytes, as the program at this end of the flow sees them.
///
/// The order is by received bytes, then by sent bytes: the order of the lines on the screen.
///
/// Serialized, it is `rx_bytes` and `tx_bytes`, and [`Rate`] the same per second:
///
/// ```
/// use bwmon::model::traffic::Traffic;
///
/// let traffic = Traffic::new(3, u64::MAX);
/// let json = serde_json::to_string(&traffic)?;
/// assert_eq!(json, r#"{"rx_bytes":3,"tx_bytes":18446744073709551615}"#);
/// let rate = Traffic::new(3, 1).rate_over(std::time::Duration::from_secs(2));
/// let json = serde_json::to_string(&rate)?;
/// assert_eq!(json, r#"{"rx_bytes_per_second":1.5,"tx_bytes_per_second":0.5}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Received bytes ("in").
    #[serde(rename = "rx_bytes")]
    pub received: u64,
    /// Sent bytes ("out").
    #[serde(rename = "tx_bytes")]
    pub sent: u64,
}

impl Traffic {
    /// No bytes at all.
    pub const ZERO: Traffic = Traffic { received: 0, sent: 0 };

    /// `received` bytes in, `sent` bytes out.
    pub const fn new(received: u64, sent: u64) -> Traffic {
        Traffic { received, sent }
    }

    /// Whether nothing was received and nothing sent.
    pub const fn is_zero(self) -> bool {
        self.received == 0 && self.sent == 0
    }

    /// The bytes of both directions together.
    pub const fn total(self) -> u64 {
        self.received.saturating_add(self.sent)
    }

    /// The same bytes as seen by the other end of the flow.
    pub const fn swapped(self) -> Traffic {
        Traffic { received: self.sent, sent: self.received }
    }

    /// Bytes per second if these bytes took `elapsed`; zero if `elapsed` is zero.
    pub fn rate_over(self, elapsed: Duration) -> Rate {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return Rate::default();
        }
        // A u64 of bytes is exact in an f64 up to 8 PiB a refresh.
        Rate { received: self.received as f64 / seconds, sent: self.sent as f64 / seconds }
    }
}

impl Add for Traffic {
    type Output = Traffic;
    fn add(self, other: Traffic) -> Traffic {
        Traffic {
            received: self.received.saturating_add(other.received),
            sent: self.sent.saturating_add(other.sent),
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        *self = *self + other;
    }
}

impl Sub for Traffic {
    type Output = Traffic;
    fn sub(self, other: Traffic) -> Traffic {
        Traffic {
            received: self.received.saturating_sub(other.received),
            sent: self.sent.saturating_sub(other.sent),
        }
    }
}

impl SubAssign for Traffic {
    fn sub_assign(&mut self, other: Traffic) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Traffic>>(iter: I) -> Traffic {
        iter.fold(Traffic::ZERO, Add::add)
    }
}

/// Bytes per second, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
pub struct Rate {
    /// Received bytes per second.
    #[serde(rename = "rx_bytes_per_second")]
    pub received: f64,
    /// Sent bytes per second.
    #[serde(rename = "tx_bytes_per_second")]
    pub sent: f64,
}

impl Rate {
    /// Whole bytes per second, rounded down: the values that the screen shows and sorts by.
    pub fn floor(self) -> Traffic {
        // `as` saturates: a rate is never negative and never beyond u64 in practice.
        Traffic { received: self.received as u64, sent: self.sent as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_received_then_sent() {
        let mut rows = [Traffic::new(2, 0), Traffic::new(1, 9), Traffic::new(1, 3)];
        rows.sort();
        assert_eq!(rows, [Traffic::new(1, 3), Traffic::new(1, 9), Traffic::new(2, 0)]);
    }

    #[test]
    fn rates_are_by_the_time_that_really_passed() {
        let rate = Traffic::new(3000, 500).rate_over(Duration::from_millis(1500));
        assert_eq!(rate.floor(), Traffic::new(2000, 333));
        assert_eq!(Traffic::new(3000, 500).rate_over(Duration::ZERO), Rate::default());
    }

    #[test]
    fn sums_saturate_instead_of_wrapping() {
        let near = Traffic::new(u64::MAX, 1);
        assert_eq!(near + Traffic::new(1, 1), Traffic::new(u64::MAX, 2));
        assert_eq!(Traffic::ZERO - near, Traffic::ZERO);
    }
}
