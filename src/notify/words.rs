//! Splits a command line into words.
//!
//! It does so as Python 2's `shlex.split`, because existing files are written for that. The crates
//! for it follow the shell instead: they drop what follows a `#`, and read `"\$"` as `$`.

/// Splits `text` at white space. `'...'` holds plain characters, and so does `"..."`, except for a
/// backslash before `"` or `\`. Outside of both a backslash makes any character plain.
///
/// # Errors
/// An unfinished quotation or escape: one sentence.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // A word starts with its first character or quotation mark: '' is an empty word.
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' | '"' => quotation(c, &mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(escaped(&mut chars)?),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Appends the text up to the closing `quote` to `word`.
fn quotation(
    quote: char,
    chars: &mut impl Iterator<Item = char>,
    word: &mut String,
) -> Result<(), String> {
    while let Some(c) = chars.next() {
        if c == quote {
            return Ok(());
        }
        if c == '\\' && quote == '"' {
            let next = escaped(chars)?;
            if !matches!(next, '"' | '\\') {
                word.push('\\');
            }
            word.push(next);
        } else {
            word.push(c);
        }
    }
    Err(format!("a quotation that begins with {quote} is never closed"))
}

fn escaped(chars: &mut impl Iterator<Item = char>) -> Result<char, String> {
    chars.next().ok_or_else(|| "nothing follows the backslash at the end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \t\r\n", &[]),
            ("true", &["true"]),
            ("  mail\t root\n", &["mail", "root"]),
            // Of the original's sample.
            (
                "mail -s \"SSH exceeding bandwidth limit\" root",
                &["mail", "-s", "SSH exceeding bandwidth limit", "root"],
            ),
            // Other space than the four characters is plain.
            ("a\u{b}b\u{c}c\u{a0}d\u{3000}e", &["a\u{b}b\u{c}c\u{a0}d\u{3000}e"]),
            // A comment's sign is a plain character.
            ("a #b c#d", &["a", "#b", "c#d"]),
            // A word goes on after a quotation.
            ("a'b c'd\"e f\"g", &["ab cde fg"]),
            ("'' \"\" a''", &["", "", "a"]),
            ("'a\\b' 'a\"b'", &["a\\b", "a\"b"]),
            // Between these quotes a backslash is one but before two characters.
            (r#""\"" "\\" "\$" "\a" "\'""#, &["\"", "\\", "\\$", "\\a", "\\'"]),
            (r#""it's""#, &["it's"]),
            // Outside it makes anything plain, a line's end too.
            (r#"\a \' \" \\ a\ b \#"#, &["a", "'", "\"", "\\", "a b", "#"]),
            ("a\\\nb", &["a\nb"]),
            // What means something to a shell means nothing here.
            ("a;b|c&d $(e) `f` *?", &["a;b|c&d", "$(e)", "`f`", "*?"]),
            ("caf\u{e9} '\u{4e16} \u{754c}'", &["caf\u{e9}", "\u{4e16} \u{754c}"]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text).unwrap(), *expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_finished() {
        let quote = |quote| format!("a quotation that begins with {quote} is never closed");
        assert_eq!(split("a 'b").unwrap_err(), quote('\''));
        assert_eq!(split("it's").unwrap_err(), quote('\''));
        assert_eq!(split("\"a\\\"").unwrap_err(), quote('"'));
        let nothing = "nothing follows the backslash at the end";
        assert_eq!(split("a\\").unwrap_err(), nothing);
        assert_eq!(split("\"a\\").unwrap_err(), nothing);
        assert_eq!(split("'a\\").unwrap_err(), quote('\''));
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec(any::<String>(), 0..5)) {
            let single: Vec<_> =
                words.iter().map(|w| format!("'{}'", w.replace('\'', r#"'"'"'"#))).collect();
            prop_assert_eq!(&split(&single.join(" ")).unwrap(), &words);
            let double: Vec<_> = words
                .iter()
                .map(|w| format!("\"{}\"", w.replace('\\', r"\\").replace('"', "\\\"")))
                .collect();
            prop_assert_eq!(&split(&double.join("\n")).unwrap(), &words);
        }

        #[test]
        fn never_panics(text in r#"[a '"\\#\n]{0,20}"#) {
            let _ = split(&text);
        }
    }
}
