//! The character set of the locale: what the bytes that a terminal gets mean to it.
//!
//! A terminal of another character set than UTF-8 takes the bytes 0x80 to 0x9f for control characters: the second byte
//! of U+00DB is 0x9b, CSI. So such a terminal gets ASCII only, as from `ls` in the C locale. Streams are UTF-8.

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;

/// Whether the locale of this program is UTF-8.
pub(crate) fn is_utf8() -> bool {
    names_utf8(|name| env::var_os(name))
}

/// Whether a stream is a terminal that has to get ASCII only.
pub(crate) fn is_ascii_terminal(stream: &impl IsTerminal) -> bool {
    !is_utf8() && stream.is_terminal()
}

/// Whether these variables name a locale of UTF-8, by the order of locale(7). Without any the locale is C.
fn names_utf8(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_character_set() {
        for (all, ctype, lang, expected) in [
            ("", "", "", false),
            ("", "", "de_DE.UTF-8", true),
            ("", "", "C.utf8", true),
            ("", "en_US.ISO-8859-1", "de_DE.UTF-8", false),
            ("C", "de_DE.UTF-8", "de_DE.UTF-8", false),
            ("POSIX", "", "", false),
            ("de_DE", "", "", false),
            ("C.UTF-8", "C", "C", true),
        ] {
            let variable = |name: &str| {
                let value = match name {
                    "LC_ALL" => all,
                    "LC_CTYPE" => ctype,
                    "LANG" => lang,
                    _ => return None,
                };
                Some(value.into())
            };
            assert_eq!(names_utf8(variable), expected, "{all} {ctype} {lang}");
        }
        assert!(!names_utf8(|_| None));
    }
}
