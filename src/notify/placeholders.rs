//! What a command is told: in its environment, and in place of `{app}` and the like.

use super::Facts;
use crate::escape::visible_cut;

/// The most characters of a name that are passed on.
///
/// execve takes no string beyond 128 KiB (and a command line may have megabytes): the command
/// could not be started for just those that try to hide.
const NAME: usize = 1000;

/// Each fact: its placeholder and its environment variable.
const NAMES: [(&str, &str); 7] = [
    ("{rule}", "BWMON_RULE"),
    ("{app}", "BWMON_APP"),
    ("{direction}", "BWMON_DIRECTION"),
    ("{threshold}", "BWMON_THRESHOLD_KIBPS"),
    ("{value}", "BWMON_VALUE_KIBPS"),
    ("{state}", "BWMON_STATE"),
    ("{time}", "BWMON_TIME"),
];

/// The facts as text.
#[derive(Clone, Debug)]
pub(super) struct Texts([String; 7]);

impl Texts {
    /// Names are made visible and cut: a process chooses its own, and no mail's header or log must
    /// get control characters from it.
    pub(super) fn new(facts: &Facts) -> Texts {
        Texts([
            visible_cut(&facts.rule, NAME),
            visible_cut(&facts.application, NAME),
            facts.direction.to_string(),
            format!("{:.2}", facts.threshold),
            format!("{:.2}", facts.value),
            facts.state.to_string(),
            facts.time.clone(),
        ])
    }

    /// The environment variables.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        NAMES.iter().map(|(_, variable)| *variable).zip(self.0.iter().map(String::as_str))
    }

    /// `word` with its placeholders replaced. What was put in is not searched again, and all other
    /// braces stay as they are.
    ///
    /// Where the word begins with a value, that can't make an option of it (`-f`, `+x`), nor the name
    /// of a file (`@x`): a space comes before it.
    pub(super) fn fill(&self, word: &str) -> String {
        let mut filled = String::with_capacity(word.len());
        let mut rest = word;
        while let Some((at, index)) = first(rest) {
            filled.push_str(&rest[..at]);
            filled.push_str(&self.0[index]);
            rest = &rest[at + NAMES[index].0.len()..];
        }
        filled.push_str(rest);
        let begins_with_value = first(word).is_some_and(|(at, _)| at == 0);
        if begins_with_value && filled.starts_with(['-', '+', '@']) {
            filled.insert(0, ' ');
        }
        filled
    }
}

/// The environment variable with the value of this placeholder.
pub(super) fn variable(placeholder: &str) -> &'static str {
    NAMES.iter().find(|(name, _)| *name == placeholder).map_or("", |(_, variable)| variable)
}

/// The first placeholder in `word`, if it has any.
pub(super) fn placeholder(word: &str) -> Option<&'static str> {
    first(word).map(|(_, index)| NAMES[index].0)
}

/// Where in `word` the first placeholder is, and which.
fn first(word: &str) -> Option<(usize, usize)> {
    word.match_indices('{').find_map(|(at, _)| {
        let here = |(name, _): &(&str, &str)| word[at..].starts_with(name);
        NAMES.iter().position(here).map(|index| (at, index))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Direction, State};

    fn facts(application: &[u8]) -> Facts {
        Facts {
            rule: b"SSH {value}".to_vec(),
            application: application.into(),
            direction: Direction::Out,
            threshold: 100.0,
            value: 123.456,
            state: State::Firing,
            time: "2026-01-02 03:04:05".to_owned(),
        }
    }

    #[test]
    fn placeholders() {
        let texts = Texts::new(&facts(b"ssh {rule}"));
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("{app}", "ssh {rule}"),
            ("{rule}: {state}", "SSH {value}: firing"),
            (
                "{direction} {value}/{threshold} at {time}",
                "out 123.46/100.00 at 2026-01-02 03:04:05",
            ),
            ("{state}{state}", "firingfiring"),
            // All other braces are somebody else's.
            ("{print $1}", "{print $1}"),
            ("{{state}}", "{firing}"),
            ("{ state } {State} {} { {stat", "{ state } {State} {} { {stat"),
            ("${app}", "$ssh {rule}"),
            ("caf\u{e9}{state}\u{754c}", "caf\u{e9}firing\u{754c}"),
        ];
        for (word, expected) in cases {
            assert_eq!(texts.fill(word), expected, "{word}");
        }
        assert_eq!(placeholder("a{b}{state}{app}"), Some("{state}"));
        assert_eq!(placeholder("{print}"), None);
    }

    #[test]
    fn names_are_made_visible_and_cut() {
        let texts = Texts::new(&facts(b"a\n\x1b[2J\0\xff"));
        assert_eq!(texts.fill("{app}"), "a\\n\\x1b[2J\\x00\\xff");
        let texts = Texts::new(&facts(&vec![b'x'; 1_000_000]));
        assert_eq!(texts.fill("{app}").len(), 1000);
        assert!(texts.fill("{app}").ends_with("x..."));
    }

    #[test]
    fn a_value_makes_no_option_of_a_word() {
        for (application, word, expected) in [
            (&b"-f/etc/shadow"[..], "{app}", " -f/etc/shadow"),
            (b"--help", "{app}: {state}", " --help: firing"),
            (b"+x", "{app}", " +x"),
            (b"@/etc/shadow", "{app}", " @/etc/shadow"),
            (b"", "{app}-x", " -x"),
            // The file has chosen these.
            (b"-x", "-{app}", "--x"),
            (b"-x", "--subject={app}", "--subject=-x"),
            (b"x", "-s", "-s"),
            (b"a-b", "{app}", "a-b"),
        ] {
            assert_eq!(Texts::new(&facts(application)).fill(word), expected, "{word}");
        }
        // There it begins no word.
        let texts = Texts::new(&facts(b"-f"));
        assert!(texts.environment().any(|pair| pair == ("BWMON_APP", "-f")));
    }

    #[test]
    fn the_environment() {
        let texts = Texts::new(&facts(b"ssh"));
        let environment: Vec<_> = texts.environment().collect();
        assert_eq!(
            environment,
            [
                ("BWMON_RULE", "SSH {value}"),
                ("BWMON_APP", "ssh"),
                ("BWMON_DIRECTION", "out"),
                ("BWMON_THRESHOLD_KIBPS", "100.00"),
                ("BWMON_VALUE_KIBPS", "123.46"),
                ("BWMON_STATE", "firing"),
                ("BWMON_TIME", "2026-01-02 03:04:05"),
            ]
        );
    }
}
