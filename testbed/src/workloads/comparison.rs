//! What a program showed of a workload beside what was true.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Owner, Played};
use crate::bytes::Bytes;
use crate::lines::Refresh;
use crate::running::Running;
use crate::truth::{Truth, came_after_the_end, came_in_time_wait};

/// From here on, in percent, it is too much.
const TOO_MUCH: f64 = 100.1;

/// Percent of the true bytes, each direction.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub received: f64,
    pub sent: f64,
}

impl Share {
    fn of(got: Bytes, truth: Bytes) -> Share {
        let percent = |got: u64, truth: u64| match (got, truth) {
            (0, 0) => 100.0,
            _ => 100.0 * got as f64 / truth as f64,
        };
        Share {
            received: percent(got.received, truth.received),
            sent: percent(got.sent, truth.sent),
        }
    }

    /// Neither direction has less than the floor nor more than a thousandth too much.
    pub fn holds(self, floor: f64) -> bool {
        [self.received, self.sent].iter().all(|share| (floor..=TOO_MUCH).contains(share))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = |share: f64| (share * 10.0).round() / 10.0;
        let (received, sent) = (rounded(self.received), rounded(self.sent));
        if received == sent { write!(f, "{received}") } else { write!(f, "{received} / {sent}") }
    }
}

/// What a program takes for the bytes of so many IP bytes in so many packets, each with an IP header
/// of that length.
pub type Unit = fn(bytes: u64, packets: u64, header: u64) -> u64;

const NONE: Bytes = Bytes { received: 0, sent: 0 };

fn grown(before: Bytes, after: Bytes) -> Bytes {
    Bytes::new(
        after.received.saturating_sub(before.received),
        after.sent.saturating_sub(before.sent),
    )
}

/// What `runmonitor` showed.
pub struct Comparison {
    /// Of the owner for whom it is furthest from the truth.
    pub worst: Share,
    /// Of all bytes, those with their owner.
    pub right: Share,
    /// As `worst`, with what stands under the owner's short name: of a process that was gone before
    /// anybody could read its command line that is what a program in the kernel knows.
    pub by_process: Share,
    /// All lines together; what they would be if no byte were lost or told twice.
    pub sum: Bytes,
    pub expected: Bytes,
    /// What came for sockets that were gone, and its refusals.
    after_the_end: Bytes,
    /// The lengths of an IP header and of a TCP header without data, where what comes in TIME_WAIT may be missing.
    lacks: Option<(u64, u64)>,
    /// Owner by owner.
    pub details: String,
}

/// What a program has to show, in percent.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Under the owner's name.
    pub named: f64,
    /// Under the owner's name or its short one.
    pub by_process: f64,
}

impl Floor {
    pub fn times(self, factor: f64) -> Floor {
        Floor { named: self.named * factor, by_process: self.by_process * factor }
    }
}

impl From<f64> for Floor {
    fn from(percent: f64) -> Floor {
        Floor { named: percent, by_process: percent }
    }
}

impl Comparison {
    /// Whether a floor holds and no byte is missing or told twice.
    pub fn holds(&self, floor: Floor) -> bool {
        // Ends that no socket has are nobody's fault: on a busy machine there are more of them.
        let of_sockets = Share::of(grown(self.after_the_end, self.sum), self.expected);
        let free = match self.is_conserved() {
            true => 100.0 - of_sockets.received.min(of_sockets.sent),
            false => 0.0,
        };
        self.worst.holds(floor.named - free)
            && self.by_process.holds(floor.by_process - free)
            && self.is_conserved()
    }

    pub fn is_conserved(&self) -> bool {
        let missing = grown(self.sum, self.expected);
        let ends = |(header, bare)| came_in_time_wait(missing, header, bare);
        self.sum + missing == self.expected && (missing == NONE || self.lacks.is_some_and(ends))
    }
}

impl Played {
    /// The share of the owner for whom it is furthest from the truth, in each direction, by what a
    /// program showed of each name.
    fn worst(&self, got: impl Fn(&str) -> Bytes) -> Share {
        let further = |one: f64, other: f64| {
            if (one - 100.0).abs() > (other - 100.0).abs() { one } else { other }
        };
        self.owners.iter().fold(Share { received: 100.0, sent: 100.0 }, |worst, owner| {
            let share = Share::of(got(&owner.name), self.truth_of(&owner.counts));
            Share {
                received: further(share.received, worst.received),
                sent: further(share.sent, worst.sent),
            }
        })
    }

    /// The share of all bytes that a program gave to their owner; where it showed more than there
    /// are, what it showed.
    pub fn right(&self, unit: Unit, got: impl Fn(&str) -> Bytes) -> Share {
        let (mut right, mut shown, mut truths) = <(Bytes, Bytes, Bytes)>::default();
        for owner in &self.owners {
            let (got, truth) = (got(&owner.name), self.truth_in(unit, &owner.counts));
            right = right + Bytes::new(got.received.min(truth.received), got.sent.min(truth.sent));
            shown = shown + got;
            truths = truths + truth;
        }
        let (right, shown) = (Share::of(right, truths), Share::of(shown, truths));
        let of = |right: f64, shown: f64| if shown > TOO_MUCH { shown } else { right };
        Share { received: of(right.received, shown.received), sent: of(right.sent, shown.sent) }
    }

    fn truth_of(&self, counts: &[String]) -> Bytes {
        counts.iter().map(|count| self.truth[count]).sum()
    }

    fn truth_in(&self, unit: Unit, counts: &[String]) -> Bytes {
        let truth = self.truth_of(counts);
        let packets: Bytes = counts.iter().map(|count| self.packets[count]).sum();
        Bytes::new(
            unit(truth.received, packets.received, self.header),
            unit(truth.sent, packets.sent, self.header),
        )
    }

    /// Looks at what the program shows from this source until the floor holds and no byte is missing,
    /// or for so long, and until a refresh has come that began after the workload was over.
    pub fn compare(
        &mut self,
        running: &mut Running,
        floor: Floor,
        source: &str,
        patience: Duration,
    ) -> Comparison {
        let first = running.refreshes(1).swap_remove(0);
        let deadline = Instant::now() + patience;
        // The next one may have read the counters before the last bytes came: on a busy machine seconds
        // pass until it is printed.
        let over = running.refreshes(0).len() + 2;
        loop {
            // Where refreshes are rare, one that was begun before is as good if it shows all.
            let so_far = running.refreshes(0).len();
            let last = running.refreshes(so_far + 1).swap_remove(so_far);
            // On a busy machine an acknowledgement may have come after the counters seemed to have settled.
            self.truth = Truth::started(&self.net.watched, self.families.clone()).so_far();
            let comparison = self.compare_now(&first, &last, source);
            if comparison.holds(floor) || so_far + 1 >= over && Instant::now() > deadline {
                return comparison;
            }
        }
    }

    fn compare_now(&self, first: &Refresh, last: &Refresh, source: &str) -> Comparison {
        let mut details = String::new();
        for Owner { name, counts } in &self.owners {
            let (truth, got) = (self.truth_of(counts), last.owned(name));
            details += &format!("\n  {name}: {got}, of {truth}");
        }
        let expected = self.truth.values().copied().sum();
        let sum = if self.elsewhere {
            // The program sees whatever else there is on this host. Other processes' lines are
            // theirs, also that of the workload's own peer; what has no name and was not there before may be the
            // workload's, as far as that has no name, or anybody's.
            let named: Bytes = self.owners.iter().map(|owner| last.owned(&owner.name)).sum();
            let nameless = |refresh: &Refresh| {
                // A socket's counters are there for the new namespaces' kernels, too, which announce
                // themselves to their neighbours; the workload's truth has only what passes through.
                let kernel = if source == "ebpf" { refresh.reason("(kernel)") } else { NONE };
                grown(kernel, refresh.unattributed())
            };
            let (missing, nameless) =
                (grown(named, expected), grown(nameless(first), nameless(last)));
            named + missing.least(nameless)
        } else {
            last.lines.iter().map(|line| line.bytes).sum()
        };
        let worst = self.worst(|name| last.owned(name));
        let by_process =
            self.worst(|name| last.owned(name) + last.starting_with(&format!("[{name}]")));
        let right = self.right(|bytes, _, _| bytes, |name| last.owned(name));
        let lacks = (self.closes_first && source == "ebpf").then_some((self.header, self.bare));
        let nobodys = last.unattributed();
        let is_after = source == "ebpf"
            && !self.elsewhere
            && came_after_the_end(nobodys, self.header, self.bare);
        let after_the_end = if is_after { nobodys } else { NONE };
        Comparison { worst, right, by_process, sum, expected, after_the_end, lacks, details }
    }
}

#[test]
fn a_floor_is_held_without_what_comes_after_the_end_of_sockets() {
    let expected = Bytes::new(1_664_364, 167_920);
    let worst = Share::of(Bytes::new(1_664_000, 167_640), expected);
    let none = Comparison {
        worst,
        right: worst,
        by_process: worst,
        sum: expected,
        expected,
        after_the_end: NONE,
        lacks: None,
        details: String::new(),
    };
    assert!(!none.holds(Floor::from(99.9)));
    let with =
        |after_the_end, sum| Comparison { after_the_end, sum, details: String::new(), ..none };
    assert!(with(Bytes::new(364, 280), expected).holds(Floor::from(99.9)));
    assert!(!with(Bytes::new(52, 40), expected).holds(Floor::from(99.9)));
    assert!(!with(Bytes::new(364, 280), Bytes::new(1_664_364, 167_880)).holds(Floor::from(99.9)));
}

#[test]
fn shares_are_percent_and_floors_hold_both_ways() {
    let shown = |got: u64, sent: u64| Share::of(Bytes::new(got, sent), Bytes::new(10_000, 500));
    assert_eq!(shown(10_000, 500).to_string(), "100");
    assert_eq!(shown(9_990, 500).to_string(), "99.9 / 100");
    assert_eq!(shown(10_010, 0).to_string(), "100.1 / 0");
    assert_eq!(Share::of(Bytes::new(0, 1), Bytes::new(0, 1)).to_string(), "100");
    assert!(!Share::of(Bytes::new(1, 1), Bytes::new(0, 1)).holds(99.9));
    assert!(shown(9_990, 500).holds(99.9));
    assert!(!shown(9_989, 500).holds(99.9));
    assert!(!shown(10_011, 500).holds(99.9));
}
