//! Bytes in and out.

use std::fmt;

/// Bytes as one process, or one side of a flow, sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes {
    pub received: u64,
    pub sent: u64,
}

impl Bytes {
    pub fn new(received: u64, sent: u64) -> Bytes {
        Bytes { received, sent }
    }

    pub fn total(self) -> u64 {
        self.received + self.sent
    }

    /// The smaller one, each way.
    pub fn least(self, other: Bytes) -> Bytes {
        Bytes { received: self.received.min(other.received), sent: self.sent.min(other.sent) }
    }

    pub fn swapped(self) -> Bytes {
        Bytes { received: self.sent, sent: self.received }
    }

    /// Both directions within a thousandth of the truth.
    pub fn is_within_a_thousandth_of(self, truth: Bytes) -> bool {
        let near = |got: u64, truth: u64| got.abs_diff(truth) * 1000 <= truth;
        near(self.received, truth.received) && near(self.sent, truth.sent)
    }
}

impl std::ops::Add for Bytes {
    type Output = Bytes;

    fn add(self, other: Bytes) -> Bytes {
        Bytes { received: self.received + other.received, sent: self.sent + other.sent }
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(all: I) -> Bytes {
        all.fold(Bytes::default(), std::ops::Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {} / out {}", self.received, self.sent)
    }
}

#[test]
fn a_thousandth_is_a_thousandth() {
    let truth = Bytes::new(2000, 1000);
    assert!(Bytes::new(1998, 1001).is_within_a_thousandth_of(truth));
    assert!(!Bytes::new(1997, 1000).is_within_a_thousandth_of(truth));
    assert!(!Bytes::new(2000, 1002).is_within_a_thousandth_of(truth));
    assert!(!truth.swapped().is_within_a_thousandth_of(truth));
}
