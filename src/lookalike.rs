//! Keeps the lines of processes distinct from the program's own lines.
//!
//! Reasons, such as `(kernel)`, and `(ended)` start with a parenthesis, pipes with `pipe-8080:`. A
//! process chooses its own name, and could choose one of these. So the name of a process or an
//! application that looks like one gets a backslash in front: `\(kernel)`. No other line has that form,
//! and the program's own lines stay as scripts expect them. A name that starts with a backslash gets
//! another one, so that the first one always comes from this program.
//!
//! The line of an alert has words of its own around the name: see [`reads`].
//!
//! Regular expressions search the [`original`].

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_width::UnicodeWidthChar;

use crate::model::traffic::Name;

/// Maximum characters of a [`skeleton`]: `PATH_MAX`, the longest name that a process has not chosen.
const SKELETON: usize = 4096;

/// Characters in a row that are drawn as nothing, and inside a name are believed to be part of it.
const GAP: usize = 16;

/// Letters that a word has to have in common with one that it is [read](reads) as.
const SAME: usize = 3;

/// The start of a pipe's name; the port number follows.
const PIPE: [char; 5] = ['p', 'i', 'p', 'e', '-'];

/// Characters that [`escape`](crate::escape) leaves unchanged, and that fonts draw as nothing: the space, the
/// Braille pattern without dots, the Egyptian full and half blank, the Khitan filler, the null notehead. It
/// escapes all other blanks.
const BLANKS: [char; 6] = [' ', '\u{2800}', '\u{13441}', '\u{13442}', '\u{16fe4}', '\u{1d159}'];

/// Characters that look like an opening parenthesis, and are in another class than opening brackets:
/// the parts of a tall one, and the ornate one (a closing bracket, since it is used from right to
/// left).
const PARENTHESES: [char; 4] = ['\u{239b}', '\u{239c}', '\u{239d}', '\u{fd3e}'];

/// The name of a line of processes, with a backslash in front if it looks like one of the program's
/// own, or starts with a backslash. Different names stay different.
pub(crate) fn distinct(name: &Name) -> Name {
    if name.first() == Some(&b'\\') || is_own(name) { marked(name) } else { name.clone() }
}

/// The name of a line of processes, always with a backslash in front: another line may have the name
/// itself.
pub(crate) fn marked(name: &Name) -> Name {
    let mut marked = Vec::with_capacity(name.len() + 1);
    marked.push(b'\\');
    marked.extend_from_slice(name);
    marked.into()
}

/// The name that [`distinct`] or [`marked`] was given; the name of the program's own line stays.
pub(crate) fn original(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"\\").unwrap_or(name)
}

/// Whether the printed name of a line starts like a reason or a pipe: the line is the program's own, or
/// looks like it.
pub(crate) fn is_own(name: &[u8]) -> bool {
    // Most names. Only a mark comes before the first character.
    if name.first().is_none_or(|first| first.is_ascii() && !matches!(first, b' ' | b'(' | b'p')) {
        return false;
    }
    // A plain space between the letters is one for readers too.
    let is_skipped = |character: &char| *character != ' ' && BLANKS.contains(character);
    // Byte by byte where that is enough: a process may choose 64 KiB of spaces.
    let after = with_width(name.trim_ascii_start())
        .skip_while(|character| BLANKS.contains(character) || character.is_whitespace())
        .filter(|character| !is_skipped(character));
    let mut characters = compatible(after);
    let Some(first) = characters.find(|character| !BLANKS.contains(character)) else {
        return false;
    };
    if is_bracket(first) {
        return true;
    }
    let mut characters = std::iter::once(first).chain(characters);
    let beginning: Vec<char> = characters.by_ref().take(PIPE.len()).collect();
    beginning.len() == PIPE.len()
        && PIPE.into_iter().zip(beginning).all(|(ours, theirs)| is_like(ours, theirs))
        && characters.next().is_some_and(char::is_numeric)
}

/// The characters of a name.
///
/// Any number of marks and of blanks may come before one that is seen. The readers of `/proc` bound what a process
/// can choose: a command line is at most `COMMAND_LINE_MAX` bytes (`processes/describe.rs`), a path `PATH_MAX`.
fn characters(name: &[u8]) -> impl Iterator<Item = char> {
    name.utf8_chunks().flat_map(|chunk| {
        let invalid = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(invalid)
    })
}

fn has_width(character: &char) -> bool {
    character.width().is_some_and(|width| width > 0)
}

/// The characters of a name that take space on a screen.
fn with_width(name: &[u8]) -> impl Iterator<Item = char> {
    characters(name).filter(has_width)
}

/// Instead of compatibility forms (fullwidth, in a circle, in parentheses, set vertically) the characters that
/// Unicode maps them to. The mapping is slow, and sorts all marks that follow a character before it gives the next
/// one, so what is not needed is left out before.
fn compatible(characters: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    characters.nfkd().filter(has_width)
}

/// What a reader sees of a name: two names with the same result look alike. It has no characters without width and
/// no blanks at its ends; a single space stands for blanks inside. It ends before more than [`GAP`] characters in a
/// row that are drawn as nothing, because what comes after them may be cut off, and after `PATH_MAX` characters.
pub(crate) fn skeleton(name: &[u8]) -> String {
    let (mut has_begun, mut gap) = (false, 0);
    let looked_at = characters(name.trim_ascii_start()).map_while(|character| {
        let is_blank = BLANKS.contains(&character);
        if is_blank || !has_width(&character) {
            gap += 1;
            return (!has_begun || gap <= GAP).then_some((is_blank && has_begun).then_some(' '));
        }
        (has_begun, gap) = (true, 0);
        Some(Some(character))
    });
    let mut seen = String::new();
    let mut is_apart = false;
    for character in compatible(looked_at.flatten().take(SKELETON)) {
        if BLANKS.contains(&character) {
            is_apart = !seen.is_empty();
            continue;
        }
        if std::mem::take(&mut is_apart) {
            seen.push(' ');
        }
        seen.push(character);
    }
    seen
}

/// Whether a text that was made visible can be read as one with `word` in it: lower-case letters. Blanks
/// between letters are no difference. Some letters have to be those of `word` themselves, not only letters of
/// another alphabet, which many words consist of.
pub(crate) fn reads(text: &str, word: &str) -> bool {
    let characters: Vec<char> = compatible(with_width(text.as_bytes()))
        .filter(|character| !BLANKS.contains(character))
        .map(|character| character.to_ascii_lowercase())
        .collect();
    let is_here = |here: &[char]| {
        let mut pairs = word.chars().zip(here.iter().copied());
        let same = pairs.clone().filter(|(ours, theirs)| ours == theirs).count();
        same >= SAME && pairs.all(|(ours, theirs)| is_like(ours, theirs))
    };
    characters.windows(word.len()).any(is_here)
}

/// Whether `theirs` looks like `ours`: many alphabets have letters like those of ASCII.
fn is_like(ours: char, theirs: char) -> bool {
    ours == theirs || (!theirs.is_ascii() && theirs.width() == Some(1))
}

/// Whether a character looks like an opening parenthesis. Of the opening brackets only those that names
/// of processes start with (`[kworker/0:1]`) are treated as distinct.
fn is_bracket(character: char) -> bool {
    let opens = character.general_category() == GeneralCategory::OpenPunctuation;
    opens && !matches!(character, '[' | '{') || PARENTHESES.contains(&character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::ENDED;
    use crate::model::owner::Reason;

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
            "\u{ff50}\u{ff49}\u{ff50}\u{ff45}\u{ff0d}8083:example.com:80",
            "pipe-\u{ff18}083:example.com:80",
            "\u{24df}ipe-8090:example.com:80",
            // Letters with a mark.
            "pi\u{307}pe-8080:example.com:80",
            "pipe\u{320}-8081:example.com:80",
            "p\u{345}ipe-8082:example.com:80",
            "pip\u{e9}-8082:example.com:80",
        ] {
            assert_eq!(of(name), format!("\\{name}"));
        }
    }

    #[test]
    fn every_opening_bracket_but_those_of_names() {
        let brackets = "\u{fe35}\u{fe5d}\u{fe59}\u{3018}\u{2997}\u{2987}\u{f3c}\u{2e26}\u{2e28}\u{2e55}\
                        \u{2e59}\u{27ec}\u{27ee}\u{239b}\u{239c}\u{239d}\u{3008}\u{2329}\u{169b}\u{207d}\
                        \u{208d}\u{2045}\u{29fc}\u{2768}\u{276a}\u{2772}\u{2985}\u{3014}\u{fd3e}\u{ff08}\
                        \u{ff5f}";
        for first in brackets.chars().chain('\u{249c}'..='\u{24b5}') {
            for name in [format!("{first}kernel)"), format!(" \u{323}{first}kernel)")] {
                assert_eq!(of(&name), format!("\\{name}"));
            }
        }
        for name in ["[kworker/0:1]", "{}", "\u{ff3b}x]"] {
            assert_eq!(of(name), name);
        }
    }

    #[test]
    fn a_mark_on_a_blank_hides_nothing() {
        for mark in "\u{17d2}\u{1107f}\u{1039}\u{20e3}\u{323}\u{301}".chars() {
            for reason in ["(kernel)", "pipe-8080:example.com:80"] {
                let name = format!(" {mark} {mark}{mark}{reason}");
                assert_eq!(of(&name), format!("\\{name}"));
            }
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
            " ",
            "\u{301}",
            "/usr/bin/ssh -p 22 host ",
            "nginx: worker process",
            "[kworker/0:1]",
            "pipewire ",
            "pipe-fitter ",
            "python3 pipe-8080 ",
            "\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}",
            "\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}8",
            "caf\u{e9} (kernel)",
            "pi\u{301}pe",
        ] {
            assert_eq!(of(name), name);
        }
        // So that the backslash in front is always this program's.
        for name in ["\\", "\\x", "\\server\\share"] {
            assert_eq!(of(name), format!("\\{name}"));
        }
    }

    #[test]
    fn no_character_without_width_stands_for_one_with_width() {
        let has_width = |character: &char| character.width().is_some_and(|width| width > 0);
        for character in ('\0'..=char::MAX).filter(|character| !has_width(character)) {
            let all: Vec<char> = std::iter::once(character).nfkd().collect();
            assert!(!all.iter().any(has_width), "{character:?}: {all:?}");
        }
    }

    #[test]
    fn what_looks_alike_has_one_skeleton() {
        for name in [
            "DB (main)",
            " DB (main) ",
            "DB  \u{2800}(main)",
            "D\u{1107f}B\u{1d159}(main)\u{2800}",
            "\u{ff24}\u{ff22} \u{ff08}main\u{ff09}",
        ] {
            assert_eq!(skeleton(name.as_bytes()), "DB (main)", "{name:?}");
        }
        for name in ["", "  ", "\u{2800} \u{301}"] {
            assert_eq!(skeleton(name.as_bytes()), "");
        }
        for nothing in [" ", "\u{2800}", "\u{1107f}", " \u{301}"] {
            let name = format!("DB{}x", nothing.repeat(60));
            assert_eq!(skeleton(name.as_bytes()), "DB", "{name:?}");
        }
        assert_eq!(skeleton(format!("DB{}x", " ".repeat(GAP)).as_bytes()), "DB x");
        assert_ne!(skeleton(b"DB(main)"), skeleton(b"DB (main)"));
        assert_ne!(skeleton(b"\xff"), skeleton(b""));
    }

    /// Any number of characters that are drawn as nothing.
    fn nothing(characters: &'static [char]) -> impl Strategy<Value = String> {
        let one = proptest::sample::select(characters);
        (proptest::collection::vec(one, 1..8), 0_usize..2000)
            .prop_map(|(some, count)| some.into_iter().cycle().take(count).collect())
    }

    const INVISIBLE: &[char] = &[
        '\u{301}',
        '\u{1039}',
        '\u{1107f}',
        '\u{20e3}',
        '\u{2800}',
        '\u{13441}',
        '\u{16fe4}',
        '\u{1d159}',
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_number_of_blanks_and_marks_hides_the_likeness(
            before in nothing(&[' ', '\u{301}', '\u{1107f}', '\u{2800}', '\u{1d159}', '\u{13442}']),
            between in nothing(INVISIBLE),
            at in 0_usize..6,
        ) {
            let kernel = format!("{before}(kernel)");
            prop_assert!(is_own(kernel.as_bytes()), "{kernel:?}");
            let (start, rest) = "pipe-8080:host:80".split_at(at);
            let pipe = format!("{before}{start}{between}{rest}");
            prop_assert!(is_own(pipe.as_bytes()), "{pipe:?}");
            let seen = skeleton(pipe.as_bytes()).replace(' ', "");
            let is_whole = at == 0 || between.chars().count() <= GAP;
            prop_assert_eq!(seen, if is_whole { "pipe-8080:host:80" } else { start });
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
                prop_assert!(!is_own(&shown));
                let marked = marked(&name);
                prop_assert_eq!(original(&marked), &name[..]);
            }
        }
    }
}
