//! Replaces `%(key)s` in values by the value of that key.
//!
//! Python 2 has two classes for that. Its `SafeConfigParser` replaces `%%` by `%` and refuses a `%`
//! before any other character than `%` or `(`. Its `ConfigParser`, which the original used, keeps a
//! lone `%` and `%%` if the value has no `%(`. Here `%%` always becomes `%`, so that every text can
//! be written, and a lone `%` always stays, so that `date +%H:%M` works.

use super::error::{InterpolationError, shown};

/// Maximum depth of references, Python's `MAX_INTERPOLATION_DEPTH`.
const DEPTH: usize = 10;
/// Maximum length of a value in bytes: ten levels of ten references each would make it huge.
const LONGEST: usize = 1 << 20;
/// Maximum number of references that are followed for one value.
const MOST: usize = 10_000;

/// A piece of a value as it is written.
enum Piece<'a> {
    Text(&'a [u8]),
    Reference(&'a [u8]),
    /// A `%(` without `)s`, to the end of the value.
    Malformed(&'a [u8]),
}

/// The pieces of a value.
fn pieces(mut rest: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    std::iter::from_fn(move || {
        let (piece, length) = match rest {
            [] => return None,
            [b'%', b'%', ..] => (Piece::Text(b"%"), 2),
            [b'%', b'(', after @ ..] => match after.iter().position(|byte| *byte == b')') {
                Some(end) if end > 0 && after.get(end + 1) == Some(&b's') => {
                    (Piece::Reference(&after[..end]), end + 4)
                }
                _ => (Piece::Malformed(rest), rest.len()),
            },
            [_, after @ ..] => {
                let end = after.iter().position(|byte| *byte == b'%');
                let length = 1 + end.unwrap_or(after.len());
                (Piece::Text(&rest[..length]), length)
            }
        };
        rest = &rest[length..];
        Some(piece)
    })
}

/// The keys that a value refers to, in lower case.
pub(super) fn references(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    pieces(value).filter_map(|piece| match piece {
        Piece::Reference(name) => Some(name.to_ascii_lowercase()),
        Piece::Text(_) | Piece::Malformed(_) => None,
    })
}

/// `value` with every reference replaced by the result of `look_up` for its key in lower case.
///
/// # Errors
/// A key isn't found, or a reference is malformed, nested too deeply, or too long.
pub(super) fn interpolate<'a>(
    value: &'a [u8],
    look_up: &dyn Fn(&[u8]) -> Option<&'a [u8]>,
) -> Result<Vec<u8>, InterpolationError> {
    let mut replacing = Replacing { look_up, text: Vec::new(), followed: 0 };
    replacing.append(value, 1)?;
    Ok(replacing.text)
}

struct Replacing<'a, 'l> {
    look_up: &'l dyn Fn(&[u8]) -> Option<&'a [u8]>,
    text: Vec<u8>,
    followed: usize,
}

impl<'a> Replacing<'a, '_> {
    fn append(&mut self, value: &'a [u8], depth: usize) -> Result<(), InterpolationError> {
        for piece in pieces(value) {
            match piece {
                Piece::Text(text) => self.text.extend_from_slice(text),
                Piece::Malformed(rest) => return Err(InterpolationError::Malformed(shown(rest))),
                Piece::Reference(name) => {
                    let unknown = || InterpolationError::Unknown(shown(name));
                    let value = (self.look_up)(&name.to_ascii_lowercase()).ok_or_else(unknown)?;
                    self.followed += 1;
                    if depth == DEPTH && value.contains(&b'%') {
                        return Err(InterpolationError::TooDeep(shown(name)));
                    }
                    self.append(value, depth + 1)?;
                }
            }
            if self.text.len() > LONGEST || self.followed > MOST {
                return Err(InterpolationError::TooLong);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &[u8], keys: &[(&str, &[u8])]) -> Result<String, String> {
        let look_up = |name: &[u8]| {
            keys.iter().find(|(key, _)| key.as_bytes() == name).map(|(_, value)| *value)
        };
        interpolate(value, &look_up)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_of_values() {
        let keys: &[(&str, &[u8])] =
            &[("a", b"1"), ("b", b"<%(a)s>"), ("p", b"100%%"), ("odd key", b"x"), ("e", b"")];
        for (value, expected) in [
            ("plain", "plain"),
            ("", ""),
            // Keys are found in any case, as they are read in any case.
            ("%(A)s", "1"),
            ("x%(b)sy", "x<1>y"),
            ("%(odd key)s", "x"),
            ("[%(e)s]", "[]"),
            // `%%`: `SafeConfigParser` makes one `%` of it. `ConfigParser` does so only where the
            // value has a `%(`, and else leaves two. Ours is always the safe one's.
            ("100%%", "100%"),
            ("100%% %(a)s", "100% 1"),
            ("%%(a)s", "%(a)s"),
            // In a value that is referred to as well.
            ("%(p)s", "100%"),
            // A lone `%`: `SafeConfigParser` refuses it. `ConfigParser` leaves it where the value
            // has no `%(`, and else ends with Python's error about a format. Ours always stays.
            ("date +%H:%M", "date +%H:%M"),
            ("50% of %(a)s %", "50% of 1 %"),
            ("%s %d", "%s %d"),
        ] {
            assert_eq!(read(value.as_bytes(), keys).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn errors_name_the_key() {
        let keys: &[(&str, &[u8])] = &[("a", b"%(b)s"), ("b", b"%(A)s"), ("c", b"%(nowhere)s")];
        for (value, expected) in [
            ("%(zoo)s", "%(zoo)s names a key that neither"),
            ("%(c)s", "%(nowhere)s names a key that neither"),
            ("%(\x1b)s", r"%(\x1b)s names a key"),
            // A circle.
            ("%(a)s", "%(b)s refers to further keys too deep"),
            // Without its `s`, without its `)`, without a name.
            ("x %(a) y", "'%(a) y' begins no reference"),
            ("%(a", "'%(a' begins no reference"),
            ("%()s", "'%()s' begins no reference"),
        ] {
            let error = read(value.as_bytes(), keys).unwrap_err();
            assert!(error.starts_with(expected), "{value:?}: {error}");
        }
    }

    #[test]
    fn ten_steps_are_allowed_as_in_python() {
        // k0 refers to k1, and so on; the last is plain.
        let chain = |length: usize| -> Vec<(String, Vec<u8>)> {
            (0..=length)
                .map(|i| match i {
                    i if i == length => (format!("k{i}"), b"end".to_vec()),
                    i => (format!("k{i}"), format!("%(k{})s", i + 1).into_bytes()),
                })
                .collect()
        };
        let resolve = |keys: &[(String, Vec<u8>)]| {
            let borrowed: Vec<(&str, &[u8])> =
                keys.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
            read(borrowed[0].1, &borrowed)
        };
        assert_eq!(resolve(&chain(10)).as_deref(), Ok("end"));
        assert!(resolve(&chain(11)).unwrap_err().contains("too deep"));
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        // Each of nine steps is ten times the next: a billion.
        for last in [&b"laugh"[..], b""] {
            let values: Vec<Vec<u8>> =
                (1..9).map(|i| format!("%(k{})s", i + 1).repeat(10).into_bytes()).collect();
            let names: Vec<String> = (1..9).map(|i| format!("k{i}")).collect();
            let mut keys: Vec<(&str, &[u8])> =
                names.iter().map(String::as_str).zip(values.iter().map(Vec::as_slice)).collect();
            keys.push(("k9", last));
            assert!(read(b"%(k1)s", &keys).unwrap_err().contains("too long"));
        }
    }

    #[test]
    fn references_are_found_without_following_them() {
        let found: Vec<Vec<u8>> = references(b"%(A)s %%(b)s %(c)s %(d").collect();
        assert_eq!(found, [b"a".to_vec(), b"c".to_vec()]);
    }
}
