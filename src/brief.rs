//! Long names in little memory.
//!
//! A process chooses its command line, up to 64 KiB of it, and may choose another one every millisecond. So
//! what outlives a process keeps the whole of a name only where there is room, and shows by `...` where it
//! doesn't.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::quality::RandomState;

use crate::model::traffic::Name;

/// What follows the beginning of a name that was cut.
const CUT: &[u8] = b"...";

/// Bytes of a name in a [`Brief`]: no output shows more of a name than 1,000 characters.
const BRIEF: usize = 1024;

/// The same for all names of this run, and unknown to whoever chooses them.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// `name`, or its beginning and `...` where it has more than `most` bytes: `most` bytes together.
pub(crate) fn shortened(name: &Name, most: usize) -> Name {
    if name.len() <= most {
        return name.clone();
    }
    let end = most.saturating_sub(CUT.len());
    [&name[..end], &CUT[..most.min(CUT.len())]].concat().into()
}

/// Whether `short` is what [`shortened`] made of `name`.
pub(crate) fn is_shortened(name: &[u8], short: &[u8]) -> bool {
    let beginning = short.strip_suffix(CUT);
    name.len() > short.len() && beginning.is_some_and(|beginning| name.starts_with(beginning))
}

/// What a name is remembered by for long: all of it, or the first 1,024 bytes and a hash of the whole. Two
/// names stay two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Brief {
    name: Name,
    /// Of the whole name, if it was cut.
    hash: Option<u64>,
}

impl Brief {
    /// The brief form of `name`, which is `name` itself where that is short.
    pub(crate) fn of(name: &Name) -> Brief {
        let is_long = name.len() > BRIEF;
        Brief { name: shortened(name, BRIEF), hash: is_long.then(|| HASHER.hash_one(&**name)) }
    }

    /// The name, or its beginning and `...`.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Whether there was more of the name.
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
