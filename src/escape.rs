//! Makes untrusted bytes safe to print.
//!
//! A process chooses its own command line. Printed unchanged, it could move the cursor, set the
//! title, answer in the user's name, forge a line of a log, or look like other text. So outside
//! text reaches a terminal or a log only through [`visible`].

use std::borrow::Cow;

/// Characters that are drawn as nothing, or that change how their neighbours are drawn.
///
/// std treats most of them as unprintable too; they are listed so that the guarantee does not
/// depend on the version of its tables. std treats the others (marks with the property
/// Default_Ignorable_Code_Point: fillers, variation selectors) as printable, and they would make
/// different names look the same.
const HIDDEN: &[(char, char)] = &[
    ('\u{0}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),        // soft hyphen
    ('\u{34f}', '\u{34f}'),      // combining grapheme joiner
    ('\u{61c}', '\u{61c}'),      // Arabic letter mark
    ('\u{115f}', '\u{1160}'),    // Hangul fillers
    ('\u{17b4}', '\u{17b5}'),    // Khmer inherent vowels
    ('\u{180b}', '\u{180f}'),    // Mongolian selectors and vowel separator
    ('\u{200b}', '\u{200f}'),    // zero width, left-to-right and right-to-left marks
    ('\u{2028}', '\u{202e}'),    // line and paragraph separators, embeddings, overrides
    ('\u{2060}', '\u{206f}'),    // word joiner, invisible operators, isolates
    ('\u{3164}', '\u{3164}'),    // Hangul filler
    ('\u{e000}', '\u{f8ff}'),    // private use
    ('\u{fdd0}', '\u{fdef}'),    // noncharacters
    ('\u{fe00}', '\u{fe0f}'),    // variation selectors
    ('\u{feff}', '\u{feff}'),    // byte order mark
    ('\u{ffa0}', '\u{ffa0}'),    // halfwidth Hangul filler
    ('\u{fff0}', '\u{fffb}'),    // interlinear annotation
    ('\u{13430}', '\u{1343f}'),  // Egyptian hieroglyph format controls
    ('\u{1bca0}', '\u{1bca3}'),  // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'),  // musical format controls
    ('\u{e0000}', '\u{e0fff}'),  // tags, more variation selectors
    ('\u{f0000}', '\u{10ffff}'), // private use
];

/// How a terminal draws a character.
#[derive(PartialEq)]
enum Look {
    Plain,
    /// Onto the character before it.
    Combining,
    Hidden,
}

/// Whether a character alone is drawn as nothing, controls a terminal, or changes how its neighbours are drawn.
pub(crate) fn is_hidden(c: char) -> bool {
    look(c) == Look::Hidden
}

/// Whether a name consists of ASCII letters, digits and `-`, `_` and `.`, at most 253 of them as in the domain name
/// system, and not of none. It then stands for nothing but itself, wherever it is printed.
pub(crate) fn is_plain(name: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (1..=253).contains(&name.len()) && name.iter().all(is_allowed)
}

fn look(c: char) -> Look {
    if matches!(c, ' '..='~') {
        return Look::Plain;
    }
    let noncharacter = u32::from(c) & 0xfffe == 0xfffe;
    if noncharacter || HIDDEN.iter().any(|&(first, last)| (first..=last).contains(&c)) {
        return Look::Hidden;
    }
    // std has a table of printable characters, but exposes it only through its escaping: a lone
    // combining mark is escaped there, one after another character is not. What is escaped in both
    // positions is unassigned, a format character, or a space that is not the plain one.
    if c.escape_debug().len() == 1 {
        return Look::Plain;
    }
    let mut pair = [b'x'; 5];
    let end = 1 + c.encode_utf8(&mut pair[1..]).len();
    match std::str::from_utf8(&pair[..end]) {
        Ok(pair) if pair.escape_debug().eq(pair.chars()) => Look::Combining,
        _ => Look::Hidden,
    }
}

/// `bytes` as text that is safe on a terminal and in one line of a log.
///
/// Printable UTF-8 stays, including right-to-left letters. Escaped are: control characters (`\n`,
/// `\t`, `\r`, `\x1b`, `\u{9b}`), bytes that are not UTF-8 (`\xff`), and everything that is
/// invisible, unassigned, private, or changes the direction of its neighbours (`\u{202e}`); of
/// spaces, all but the plain one. A combining mark without a character of the text before it is
/// escaped too: it would be drawn onto whatever was printed before.
///
/// A backslash stays a backslash, so `\n` in the result may be a newline or the two characters.
/// Command lines contain many backslashes, and the result is only for reading: regular expressions
/// use the raw bytes, and nothing parses the text.
pub fn visible(bytes: &[u8]) -> String {
    escaped(bytes, |_, _| false)
}

/// Escapes `bytes` as [`visible`], but reversibly, for programs: a backslash is `\\`. A first character that starts a
/// formula in spreadsheets (`=`, `+`, `-`, `@`) is escaped as well.
///
/// `\xHH` is the byte of these two hexadecimal digits, `\u{H}` the character of that number in UTF-8, and `\n`, `\r`,
/// `\t` are as in C.
pub fn reversible(bytes: &[u8]) -> String {
    escaped(bytes, |at, c| c == '\\' || at == 0 && matches!(c, '=' | '+' | '-' | '@'))
}

/// As [`visible`]; also escapes each character for which `other` returns true. It is called for each character in their
/// order.
pub(crate) fn visible_without(bytes: &[u8], mut other: impl FnMut(char) -> bool) -> String {
    escaped(bytes, |_, c| other(c))
}

/// `text` with each character beyond ASCII as `\u{e9}`, for a terminal of another character set than UTF-8.
pub(crate) fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c.is_ascii() {
            true => escaped.push(c),
            false => push_escape(&mut escaped, c),
        }
    }
    Cow::Owned(escaped)
}

/// Also escapes each character for which `other` returns true; `other` receives its position in the
/// result.
fn escaped(bytes: &[u8], mut other: impl FnMut(usize, char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut combinable = false;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let shown = match look(c) {
                _ if other(text.len(), c) => false,
                Look::Plain => true,
                Look::Combining => combinable,
                Look::Hidden => false,
            };
            combinable = shown;
            if shown {
                text.push(c);
            } else {
                push_escape(&mut text, c);
            }
        }
        for byte in chunk.invalid() {
            combinable = false;
            push_hex(&mut text, *byte);
        }
    }
    text
}

fn push_escape(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\\' => text.push_str("\\\\"),
        '\0'..='\x7f' => push_hex(text, c as u8),
        _ => text.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
    }
}

fn push_hex(text: &mut String, byte: u8) {
    text.push_str(&format!("\\x{byte:02x}"));
}

/// `text`, or if it has more than `limit` characters its first `limit - 3` and `...`.
///
/// The result never has more than `limit` characters: below 3 it consists of dots only.
pub fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.chars().nth(limit).is_none() {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(limit.saturating_sub(3)).collect();
    short.push_str(&"..."[..limit.min(3)]);
    Cow::Owned(short)
}

/// As [`cut`] of [`visible`], without escaping what is cut off: a command line may have megabytes.
pub fn visible_cut(bytes: &[u8], limit: usize) -> String {
    // A character of the result stands for at most four bytes. A sequence that this splits is wrong
    // only beyond the first `limit + 1` characters, which `cut` doesn't use.
    let enough = limit.saturating_add(2).saturating_mul(4);
    let text = visible(&bytes[..bytes.len().min(enough)]);
    match cut(&text, limit) {
        Cow::Borrowed(_) => text,
        Cow::Owned(short) => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let cases: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"/usr/bin/ssh -p 22 host", "/usr/bin/ssh -p 22 host"),
            (
                "caf\u{e9} \u{4e16}\u{754c} \u{1f980}".as_bytes(),
                "caf\u{e9} \u{4e16}\u{754c} \u{1f980}",
            ),
            ("\u{5e9}\u{5dc}\u{5d5}\u{5dd}".as_bytes(), "\u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            (br#"sed 's/\n/"/' C:\x"#, r#"sed 's/\n/"/' C:\x"#),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\0\x1b\x7f", "\\x00\\x1b\\x7f"),
            // An operating system command that sets the title, and a cursor movement.
            (b"evil\x1b]0;x\x07", "evil\\x1b]0;x\\x07"),
            (b"\x1b[2J\x1b[1;1Hfake", "\\x1b[2J\\x1b[1;1Hfake"),
            // The same as one C1 character, encoded and bare.
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            (b"\x9b31m", "\\x9b31m"),
            ("\u{80}\u{85}\u{9f}".as_bytes(), "\\u{80}\\u{85}\\u{9f}"),
            (b"\xff\xfe", "\\xff\\xfe"),
            // Cut short, overlong, and a surrogate.
            (b"\xe4\xb8", "\\xe4\\xb8"),
            (b"\xc0\xaf", "\\xc0\\xaf"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
            ("user\u{202e}gpj.exe".as_bytes(), "user\\u{202e}gpj.exe"),
            (
                "\u{2066}a\u{2069}\u{61c}\u{200e}\u{200f}".as_bytes(),
                "\\u{2066}a\\u{2069}\\u{61c}\\u{200e}\\u{200f}",
            ),
            ("a\u{2028}b\u{2029}c".as_bytes(), "a\\u{2028}b\\u{2029}c"),
            (
                "s\u{200b}s\u{200d}h\u{ad}\u{feff}".as_bytes(),
                "s\\u{200b}s\\u{200d}h\\u{ad}\\u{feff}",
            ),
            (
                "\u{180e}\u{2060}\u{2064}\u{e0041}\u{fff9}".as_bytes(),
                "\\u{180e}\\u{2060}\\u{2064}\\u{e0041}\\u{fff9}",
            ),
            ("\u{3164}\u{fe0f}\u{34f}".as_bytes(), "\\u{3164}\\u{fe0f}\\u{34f}"),
            (
                "\u{e000}\u{fdd0}\u{ffff}\u{10ffff}".as_bytes(),
                "\\u{e000}\\u{fdd0}\\u{ffff}\\u{10ffff}",
            ),
            // Unassigned in every version so far.
            ("\u{378}".as_bytes(), "\\u{378}"),
            // Spaces that only look like one.
            ("a\u{a0}b\u{3000}".as_bytes(), "a\\u{a0}b\\u{3000}"),
            // A mark combines, but not with what is not part of the text, nor with an escape.
            ("e\u{301}\u{323}".as_bytes(), "e\u{301}\u{323}"),
            ("\u{301}e".as_bytes(), "\\u{301}e"),
            ("\n\u{301}\u{302}".as_bytes(), "\\n\\u{301}\\u{302}"),
            (b"\xff\xcc\x81", "\\xff\\u{301}"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(visible(bytes), *expected, "{bytes:x?}");
        }
    }

    #[test]
    fn beyond_ascii() {
        assert_eq!(ascii("caf\u{e9} \u{db}2J \u{1f980}"), "caf\\u{e9} \\u{db}2J \\u{1f980}");
        assert!(matches!(ascii("a\\n"), Cow::Borrowed("a\\n")));
    }

    #[test]
    fn ranges_that_must_never_pass() {
        let ranges = [
            0..=0x1f,
            0x7f..=0x9f,
            0xad..=0xad,
            0x61c..=0x61c,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x2069,
            0xe000..=0xf8ff,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0xfffe..=0xffff,
            0x1fffe..=0x1ffff,
            0xe0000..=0xe007f,
            0xf0000..=0x10ffff_u32,
        ];
        for c in ranges.into_iter().flatten().filter_map(char::from_u32) {
            let text = visible(format!("a{c}").as_bytes());
            assert!(text.starts_with("a\\") && text.is_ascii(), "{:x}: {text}", u32::from(c));
        }
    }

    #[test]
    fn long_text_keeps_57_of_60_characters() {
        let sixty = "x".repeat(60);
        assert_eq!(cut(&sixty, 60), sixty);
        assert!(matches!(cut(&sixty, 60), Cow::Borrowed(_)));
        assert_eq!(cut(&"x".repeat(61), 60), format!("{}...", "x".repeat(57)));
        // Characters, not bytes.
        let wide = "\u{4e16}".repeat(60);
        assert_eq!(cut(&wide, 60), wide);
        assert_eq!(cut(&"\u{4e16}".repeat(61), 60), format!("{}...", "\u{4e16}".repeat(57)));
        // Those of the escaped text.
        assert_eq!(visible_cut(&[0x1b; 15], 60), "\\x1b".repeat(15));
        assert_eq!(visible_cut(&[0x1b; 16], 60), format!("{}\\...", "\\x1b".repeat(14)));
    }

    #[test]
    fn tiny_limits() {
        for (limit, expected) in
            [(0, ""), (1, "."), (2, ".."), (3, "..."), (4, "a..."), (5, "abcde")]
        {
            assert_eq!(cut("abcde", limit), expected);
        }
        assert_eq!(cut("", 0), "");
        assert_eq!(cut("ab", usize::MAX), "ab");
        assert_eq!(visible_cut(b"ab", usize::MAX), "ab");
    }

    /// Any bytes, with text that matters here well represented.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<Vec<u8>>(),
            any::<String>().prop_map(String::into_bytes),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            "[\u{0}-\u{9f}\u{300}-\u{310}\u{200b}-\u{206f}\u{4e00}-\u{4e10}]{0,8}"
                .prop_map(String::into_bytes),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// What [`reversible`] was made of, as its documentation says.
    fn reversed(text: &str) -> Vec<u8> {
        let (mut bytes, mut chars) = (Vec::new(), text.chars());
        let hex = |digits: String| u32::from_str_radix(&digits, 16).unwrap();
        while let Some(c) = chars.next() {
            if c != '\\' {
                bytes.extend(c.to_string().bytes());
                continue;
            }
            match chars.next().unwrap() {
                'x' => bytes.push(hex(chars.by_ref().take(2).collect()) as u8),
                'u' => {
                    assert_eq!(chars.next(), Some('{'));
                    let number = hex(chars.by_ref().take_while(|c| *c != '}').collect());
                    bytes.extend(char::from_u32(number).unwrap().to_string().bytes());
                }
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                other => bytes.extend(other.to_string().bytes()),
            }
        }
        bytes
    }

    #[test]
    fn for_programs_a_backslash_and_the_beginning_of_a_formula_are_escaped() {
        for (bytes, expected) in [
            (&b"sed 's/\\n/x/'"[..], r"sed 's/\\n/x/'"),
            (b"=1+1", r"\x3d1+1"),
            (b"-bash", r"\x2dbash"),
            (b"a=b", "a=b"),
            (b"\xff\n", r"\xff\n"),
        ] {
            assert_eq!(reversible(bytes), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_for_programs_is_read_back(bytes in bytes()) {
            let text = reversible(&bytes);
            prop_assert_eq!(reversed(&text), bytes);
            prop_assert!(!text.starts_with(['=', '+', '-', '@']));
        }

        #[test]
        fn nothing_dangerous_passes(bytes in bytes()) {
            let text = visible(&bytes);
            for c in text.chars() {
                prop_assert!(!c.is_control());
                prop_assert!(look(c) != Look::Hidden, "{:x}", u32::from(c));
                prop_assert!(!matches!(u32::from(c),
                    0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x2069 | 0xfeff));
            }
            // What is safe already stays.
            prop_assert_eq!(visible(text.as_bytes()), text);
        }

        #[test]
        fn printable_ascii_stays(text in "[ -~]{0,80}") {
            prop_assert_eq!(visible(text.as_bytes()), text);
        }

        #[test]
        fn cutting_early_changes_nothing(bytes in bytes(), limit in 0_usize..80) {
            let short = visible_cut(&bytes, limit);
            prop_assert!(short.chars().count() <= limit);
            let whole = visible(&bytes);
            prop_assert_eq!(short, cut(&whole, limit));
        }
    }
}
