//! Keeps the lines of processes apart from those that are the program's own.
//!
//! Reasons, such as `(kernel)`, and `(ended)` begin with a bracket, pipes with `pipe-8080:`. A process
//! chooses its own name, and could choose one of these. So what a process or an application is named
//! gets a backslash in front where it could be taken for one: `\(kernel)`. No other line has that form,
//! and the program's own lines stay what scripts expect.
//!
//! Regular expressions search the [`original`].

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

use crate::traffic::Name;

/// How many bytes of a name are looked at.
const LOOKED_AT: usize = 256;

/// What a pipe's name begins with; the number of a port follows.
const PIPE: [char; 5] = ['p', 'i', 'p', 'e', '-'];

/// Characters that [`escape`](crate::escape) prints as they are, and that fonts draw as nothing: the space, the
/// Braille pattern without dots, the Egyptian full and half blank, the Khitan filler, the notehead that is null.
/// It escapes all other blanks.
const BLANKS: [&str; 6] = [" ", "\u{2800}", "\u{13441}", "\u{13442}", "\u{16fe4}", "\u{1d159}"];

/// Characters that are drawn much like an opening parenthesis.
const PARENTHESES: &[char] = &[
    '(', '\u{207d}', '\u{208d}', '\u{239b}', '\u{2768}', '\u{276a}', '\u{2772}', '\u{27ee}',
    '\u{2985}', '\u{2e28}', '\u{3014}', '\u{fd3e}', '\u{fe59}', '\u{ff08}', '\u{ff5f}',
];

/// The name of a line of processes, with a backslash in front where it looks like one of the
/// program's own. Two names never become the same.
pub fn distinct(name: &Name) -> Name {
    if !is_lookalike(without_backslashes(name)) {
        return name.clone();
    }
    let mut distinct = Vec::with_capacity(name.len() + 1);
    distinct.push(b'\\');
    distinct.extend_from_slice(name);
    distinct.into()
}

/// The name that [`distinct`] was given; that of a line that is the program's own as it is.
pub fn original(name: &[u8]) -> &[u8] {
    match name.strip_prefix(b"\\") {
        Some(rest) if is_lookalike(without_backslashes(rest)) => rest,
        _ => name,
    }
}

/// What follows the backslashes at the beginning.
fn without_backslashes(name: &[u8]) -> &[u8] {
    let count = name.iter().take_while(|byte| **byte == b'\\').count();
    &name[count..]
}

/// What follows the blanks at the beginning.
fn without_blanks(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = BLANKS.iter().find_map(|blank| name.strip_prefix(blank.as_bytes())) {
        name = rest;
    }
    name
}

/// Whether the name, printed, begins like a reason or a pipe.
fn is_lookalike(name: &[u8]) -> bool {
    // Most names.
    if name.first().is_some_and(|first| first.is_ascii() && !matches!(first, b' ' | b'(' | b'p')) {
        let mixed = name.iter().take(PIPE.len() + 1).any(|byte| !byte.is_ascii());
        if !mixed {
            return false;
        }
    }
    let name = without_blanks(name);
    let text: Cow<'_, str> = String::from_utf8_lossy(&name[..name.len().min(LOOKED_AT)]);
    let mut characters = text.chars();
    if characters.clone().next().is_some_and(|first| PARENTHESES.contains(&first)) {
        return true;
    }
    // Many alphabets have letters like these.
    let like = |(ours, theirs): (char, char)| {
        ours == theirs || (!theirs.is_ascii() && theirs.width() == Some(1))
    };
    let beginning: Vec<char> = characters.by_ref().take(PIPE.len()).collect();
    beginning.len() == PIPE.len()
        && PIPE.into_iter().zip(beginning).all(like)
        && characters.next().is_some_and(|digit| digit.is_numeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::ENDED;
    use crate::monitor::Reason;

    fn of(name: &str) -> String {
        String::from_utf8(distinct(&name.as_bytes().into()).to_vec()).unwrap()
    }

    #[test]
    fn what_could_be_taken_for_a_line_of_ours() {
        let reasons = Reason::ALL.iter().map(|reason| format!("({reason})"));
        for name in
            reasons.chain([ENDED, "(no name)", "pipe-8080:example.com:80"].map(str::to_owned))
        {
            assert_eq!(of(&name), format!("\\{name}"));
            assert_eq!(of(&format!("  {name} ")), format!("\\  {name} "));
            // A process of that name is another one.
            assert_eq!(of(&format!("\\{name}")), format!("\\\\{name}"));
        }
        for name in [
            "(k\u{435}rnel)",
            "\u{ff08}kernel)",
            "\u{2768}kernel\u{2769}",
            "\u{440}\u{456}\u{440}\u{435}\u{2010}8080:example.com:80",
            "p\u{456}pe-8080:example.com:80",
            "pipe\u{2010}8080:example.com:80",
        ] {
            assert_eq!(of(name), format!("\\{name}"));
        }
    }

    #[test]
    fn no_blank_hides_the_likeness() {
        // All that fonts draw as nothing, whatever the standard library and unicode-width take them for.
        let escaped = "\u{a0}\u{115f}\u{1160}\u{1680}\u{2007}\u{3000}\u{3164}\u{ffa0}";
        let printed = " \u{2800}\u{13441}\u{13442}\u{16fe4}\u{1d159}";
        for blank in escaped.chars().chain(printed.chars()) {
            for reason in ["(kernel)", "pipe-8080:example.com:80"] {
                for name in [format!("{blank}{reason}"), format!(" {blank} {blank}{reason}")] {
                    let shown = crate::escape::visible(distinct(&name.as_bytes().into()).as_ref());
                    assert!(shown.trim_start().starts_with('\\'), "{name:?}: {shown:?}");
                }
            }
            assert_eq!(of(&format!("{blank}ssh ")), format!("{blank}ssh "));
        }
    }

    #[test]
    fn most_names_stay() {
        for name in [
            "",
            "\\",
            " ",
            "/usr/bin/ssh -p 22 host ",
            "nginx: worker process",
            "[kworker/0:1]",
            "pipewire ",
            "pipe-fitter ",
            "python3 pipe-8080 ",
            "\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}",
            "\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}8",
            "caf\u{e9} (kernel)",
        ] {
            assert_eq!(of(name), name);
        }
    }

    proptest! {
        #[test]
        fn the_original_comes_back(
            bytes in any::<Vec<u8>>(),
            text in r"[\\]{0,3}[ \u{2800}]{0,2}(\(|pipe-|pi\u{440}e-)[8(]?.{0,5}",
        ) {
            for name in [bytes, text.into_bytes()] {
                let name: Name = name.into();
                let shown = distinct(&name);
                prop_assert_eq!(original(&shown), &name[..]);
                prop_assert!(!is_lookalike(&shown));
            }
        }
    }
}
