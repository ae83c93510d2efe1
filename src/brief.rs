//! Long names in bounded memory.
//!
//! A process chooses its command line, up to 64 KiB, and may choose another one every millisecond. So
//! values that outlive a process keep a whole name only if there is room; a name that was cut ends in
//! `...`.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::quality::RandomState;

use crate::model::traffic::Name;

/// The end of a name that was cut.
const CUT: &[u8] = b"...";

/// Maximum bytes of a name in a [`Brief`]: no output shows more than 1,000 characters of a name.
const BRIEF: usize = 1024;

/// The same for all names of this run, and unknown to the processes that choose them.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// `name`, or if it has more than `most` bytes its start and `...`, together `most` bytes.
pub(crate) fn shortened(name: &Name, most: usize) -> Name {
    if name.len() <= most {
        return name.clone();
    }
    let end = most.saturating_sub(CUT.len());
    [&name[..end], &CUT[..most.min(CUT.len())]].concat().into()
}

/// Whether `short` is the result of [`shortened`] for `name`.
pub(crate) fn is_shortened(name: &[u8], short: &[u8]) -> bool {
    let beginning = short.strip_suffix(CUT);
    name.len() > short.len() && beginning.is_some_and(|beginning| name.starts_with(beginning))
}

/// A name for long storage: all of it, or its first 1,024 bytes and a hash of the whole. Different names
/// stay different.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Brief {
    name: Name,
    /// The hash of the whole name, if it was cut.
    hash: Option<u64>,
}

impl Brief {
    /// The brief form of `name`; a short name stays as it is.
    pub(crate) fn of(name: &Name) -> Brief {
        let is_long = name.len() > BRIEF;
        Brief { name: shortened(name, BRIEF), hash: is_long.then(|| HASHER.hash_one(&**name)) }
    }

    /// The name, or its start and `...`.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Whether the name was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.hash.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_ends_where_it_was_cut() {
        let name: Name = b"java -cp a.jar Main"[..].into();
        assert_eq!(shortened(&name, 19), name);
        let short = shortened(&name, 12);
        assert_eq!(&*short, b"java -cp ...");
        assert!(is_shortened(&name, &short) && !is_shortened(&short, &name));
        assert!(!is_shortened(&name, &name) && !is_shortened(b"perl -e 'x' y", &short));
        for (most, expected) in [(3, &b"..."[..]), (2, b".."), (0, b"")] {
            assert_eq!(&*shortened(&name, most), expected);
        }
    }

    #[test]
    fn names_that_differ_at_their_end_stay_two() {
        let long =
            |end: &str| -> Name { ["x".repeat(BRIEF).as_str(), end].concat().as_bytes().into() };
        let (one, other) = (Brief::of(&long("Main")), Brief::of(&long("Other")));
        assert!(one != other && one == Brief::of(&long("Main")));
        assert!(one.is_cut() && one.name() == other.name() && one.name().len() == BRIEF);
        // A short name is what it is, also one that looks like a cut one.
        let short = Brief::of(one.name());
        assert!(short != one && !short.is_cut() && short.name() == one.name());
    }
}
