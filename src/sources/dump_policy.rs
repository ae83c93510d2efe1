//! Decides whether a namespace's table of flows is read as a whole, or only the entries that can
//! have changed.
//!
//! Most entries of a busy table belong to ended connections: two thousand connections a second
//! leave 250,000 of them. And a dump walks through all buckets of a hash table that all namespaces
//! share, even for a few entries.

/// Costs in nanoseconds, as measured on one host; only their ratios matter. An empty bucket in a dump,
/// an entry in a dump, an entry that is queried.
const BUCKET: u64 = 30;
const ENTRY: u64 = 2300;
const QUESTION: u64 = 4000;

/// Maximum number of looks between two readings of the whole table, which find what was missed. The
/// first readings follow sooner.
const ROUND: u32 = 30;

/// The decision for one namespace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DumpPolicy {
    /// Number of looks since the last dump; `None` before the first.
    since: Option<u32>,
    /// Number of looks until the next dump.
    round: u32,
    /// Whether the next reading has to be a dump.
    doubtful: bool,
}

impl DumpPolicy {
    /// Whether to read all of `entries` in `buckets`, if `open` of them can have changed.
    pub(crate) fn reads_all(&self, buckets: u64, entries: u64, open: usize) -> bool {
        self.doubtful
            || self.since.is_none_or(|since| since >= self.round)
            || open as u64 * QUESTION > buckets * BUCKET + entries * ENTRY
    }

    /// Notes a dump.
    pub(crate) fn read_all(&mut self) {
        self.since = Some(0);
        self.round = (self.round * 2).clamp(1, ROUND);
        self.doubtful = false;
    }

    /// Notes a reading of chosen entries.
    pub(crate) fn read_chosen(&mut self) {
        self.since = self.since.map(|since| since + 1);
    }

    /// Notes that an expected announcement was missed.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
        self.round = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKETS: u64 = 262_144;
    const MANY: u64 = 200_000;

    #[test]
    fn only_what_can_have_changed_is_read_where_that_is_little() {
        let mut dump_policy = DumpPolicy::default();
        assert!(dump_policy.reads_all(BUCKETS, MANY, 100), "nothing is known yet");
        dump_policy.read_all();
        assert!(!dump_policy.reads_all(BUCKETS, MANY, 100));
        assert!(dump_policy.reads_all(BUCKETS, MANY, 190_000));
        assert!(!dump_policy.reads_all(BUCKETS, 4, 4), "walking through empty buckets costs most");
        assert!(dump_policy.reads_all(1024, 100, 100));
    }

    #[test]
    fn the_whole_table_is_read_soon_and_then_ever_less_often() {
        let mut dump_policy = DumpPolicy::default();
        let mut rounds = Vec::new();
        dump_policy.read_all();
        for _ in 0..8 {
            let mut looks = 0;
            while !dump_policy.reads_all(BUCKETS, MANY, 100) {
                dump_policy.read_chosen();
                looks += 1;
            }
            rounds.push(looks);
            dump_policy.read_all();
        }
        assert_eq!(rounds, [1, 2, 4, 8, 16, ROUND, ROUND, ROUND]);
        dump_policy.doubt();
        assert!(dump_policy.reads_all(BUCKETS, MANY, 100));
        dump_policy.read_all();
        dump_policy.read_chosen();
        assert!(dump_policy.reads_all(BUCKETS, MANY, 100), "what was missed once may be again");
    }
}
