//! Whether a namespace's table of flows is read as a whole, or only what can have changed in it.
//!
//! Most entries of a busy table are of connections that are over: two thousand a second leave a
//! quarter of a million of them. And a dump walks through all buckets of a hash table that all
//! namespaces share, however few entries there are.

/// What things cost, in nanoseconds, as measured on one machine. What matters are the ratios: a bucket
/// that is walked past, an entry of a dump, an entry that is asked for.
const BUCKET: u64 = 30;
const ENTRY: u64 = 2300;
const QUESTION: u64 = 4000;

/// After so many looks at the latest a table is read as a whole again, to see whether anything was
/// missed; after fewer at first.
const ROUND: u32 = 30;

/// Decides for one namespace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DumpPolicy {
    /// How many looks ago the whole table was read; `None` before that.
    since: Option<u32>,
    /// After how many it is read again.
    round: u32,
    /// Whether the table as a whole has to be read next time.
    doubtful: bool,
}

impl DumpPolicy {
    /// Whether to read all of `entries` in `buckets`, of which `open` can have changed.
    pub(crate) fn reads_all(&self, buckets: u64, entries: u64, open: usize) -> bool {
        self.doubtful
            || self.since.is_none_or(|since| since >= self.round)
            || open as u64 * QUESTION > buckets * BUCKET + entries * ENTRY
    }

    /// The table was read as a whole.
    pub(crate) fn read_all(&mut self) {
        self.since = Some(0);
        self.round = (self.round * 2).clamp(1, ROUND);
        self.doubtful = false;
    }

    /// Only what can have changed was read.
    pub(crate) fn read_chosen(&mut self) {
        self.since = self.since.map(|since| since + 1);
    }

    /// Something that should have been announced was not.
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
