//! The facts that a command gets: in its environment, and in place of `{app}` and the like.
//!
//! A name that is not from the configuration is reduced before it becomes part of a word ([`neutral`]). A
//! list of shells, launchers and interpreters could never be complete; a word without a meaning to any of
//! them needs none.

use super::Facts;
use crate::escape::{cut, visible_cut};

/// Maximum characters of a name that are passed on.
///
/// execve(2) accepts no string beyond 128 KiB, and a command line may have megabytes. Otherwise the
/// command would fail just for processes that try to hide.
const NAME: usize = 1000;

/// The index of `{app}` in [`NAMES`].
const APPLICATION: usize = 1;

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
pub(super) struct Texts {
    /// The values of the environment variables.
    facts: [String; 7],
    /// The application's name inside words.
    application: String,
}

impl Texts {
    /// Names are made visible and cut: a process chooses its own name, and must not put control
    /// characters into the header of a mail or into a log.
    pub(super) fn new(facts: &Facts) -> Texts {
        let application = visible_cut(&facts.application, NAME);
        let in_words = match facts.configured {
            true => application.clone(),
            // One character more than the limit, so that the dots at the end come from the last
            // cut.
            false => cut(&neutral(&visible_cut(&facts.application, NAME + 10)), NAME).into_owned(),
        };
        let facts = [
            visible_cut(&facts.rule, NAME),
            application,
            facts.direction.to_string(),
            format!("{:.2}", facts.threshold),
            format!("{:.2}", facts.value),
            facts.state.to_string(),
            facts.time.clone(),
        ];
        Texts { facts, application: in_words }
    }

    /// The environment variables.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        NAMES.iter().map(|(_, variable)| *variable).zip(self.facts.iter().map(String::as_str))
    }

    /// `word` with its placeholders replaced. The inserted text is not searched again, and all other braces
    /// stay.
    ///
    /// If the word starts with a value from the configuration, a space is inserted before a character that
    /// would make it an option (`-f`, `+x`) or the name of a file (`@x`).
    pub(super) fn fill(&self, word: &str) -> String {
        let mut filled = String::with_capacity(word.len());
        let mut rest = word;
        while let Some((at, index)) = first(rest) {
            filled.push_str(&rest[..at]);
            filled.push_str(match index {
                APPLICATION => &self.application,
                _ => &self.facts[index],
            });
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

/// A name that nobody trusted has chosen, reduced so that it may stand anywhere in a word. Every character
/// except letters, digits and `.:-` becomes an underscore. An underscore comes first.
///
/// Any program that splits it again gets one word, without quotes, operators, substitutions, assignments and
/// wildcards. With the underscore in front it is no option, no program in `PATH`, and no command of any shell
/// or language. Without a slash it can name a file of the working directory only, in which no other user may
/// create one (`config::folder`).
fn neutral(name: &str) -> String {
    let mut neutral = String::with_capacity(name.len() + 1);
    neutral.push('_');
    for character in name.trim_end().chars() {
        let is_plain = character.is_alphanumeric() || matches!(character, '.' | ':' | '-');
        neutral.push(if is_plain { character } else { '_' });
    }
    neutral
}

/// Whether the application's name is inserted into `word`.
pub(super) fn has_application(word: &str) -> bool {
    word.contains(NAMES[APPLICATION].0)
}

/// The environment variable with the value of this placeholder.
pub(super) fn variable(placeholder: &str) -> &'static str {
    NAMES.iter().find(|(name, _)| *name == placeholder).map_or("", |(_, variable)| variable)
}

/// The first placeholder in `word`, if it has any.
pub(super) fn placeholder(word: &str) -> Option<&'static str> {
    first(word).map(|(_, index)| NAMES[index].0)
}

/// The position of the first placeholder in `word`, and its index.
fn first(word: &str) -> Option<(usize, usize)> {
    word.match_indices('{').find_map(|(at, _)| {
        let here = |(name, _): &(&str, &str)| word[at..].starts_with(name);
        NAMES.iter().position(here).map(|index| (at, index))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert::{Direction, State};

    fn facts(application: &[u8]) -> Facts {
        Facts {
            rule: (*b"SSH {value}").into(),
            application: application.into(),
            configured: true,
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
            // All other braces belong to the command.
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

    /// The words for a name that an outsider has chosen.
    fn of_outsider(name: &[u8]) -> Texts {
        Texts::new(&Facts { configured: false, ..facts(name) })
    }

    #[test]
    fn a_name_of_an_outsider_is_neutral_in_a_word_and_whole_in_the_environment() {
        for (name, word, expected) in [
            // Ordinary ones.
            ("ssh", "{app}", "_ssh"),
            ("/usr/bin/ssh -p 22 host ", "{app}: {state}", "__usr_bin_ssh_-p_22_host: firing"),
            ("nginx: worker process", "--subject={app}", "--subject=_nginx:_worker_process"),
            (
                "\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}",
                "{app}",
                "_\u{441}\u{435}\u{440}\u{432}\u{435}\u{440}",
            ),
            ("", "{app}", "_"),
            // Options, files, programs.
            ("-f/etc/shadow", "{app}", "_-f_etc_shadow"),
            ("+x", "{app}", "__x"),
            ("@/etc/shadow", "text={app}", "text=___etc_shadow"),
            ("</etc/secret;type=x", "text={app}", "text=___etc_secret_type_x"),
            ("x@/etc/secret", "{app}", "_x__etc_secret"),
            ("/x", "{app}", "__x"),
            ("/tmp/x/../evil", "{app}", "__tmp_x_.._evil"),
            ("../../..", "/srv/{app}", "/srv/_.._.._.."),
            ("reboot", "{app}", "_reboot"),
            // Program text.
            (
                "a),system(\"/tmp/evil\"),q(",
                "print q({app})",
                "print q(_a__system___tmp_evil___q_)",
            ),
            ("x;/tmp/evil", "exec=logger {app}", "exec=logger _x__tmp_evil"),
            ("$(id) `id` | id & id > x", "{app}", "___id___id____id___id___x"),
            ("A=b reboot", "{app}", "_A_b_reboot"),
            ("x -f /etc/shadow", "logger {app}", "logger _x_-f__etc_shadow"),
            ("a\nb\t\u{202e}\u{a0}", "{app}", "_a_nb_t_u_202e__u_a0_"),
        ] {
            assert_eq!(of_outsider(name.as_bytes()).fill(word), expected, "{name}");
        }
        let texts = of_outsider(b"x;/tmp/evil -f");
        assert!(texts.environment().any(|pair| pair == ("BWMON_APP", "x;/tmp/evil -f")));
        let long = of_outsider(&vec![b'x'; 1_000_000]).fill("{app}");
        assert!(long.len() == 1000 && long.ends_with("x..."));
    }

    proptest! {
        #[test]
        fn no_name_of_an_outsider_means_anything(name in any::<Vec<u8>>(), text in r#"[-+@<|=.$;'" a/]{0,20}"#) {
            for name in [name, text.into_bytes()] {
                let word = of_outsider(&name).fill("{app}");
                prop_assert!(word.starts_with('_'));
                prop_assert!(word.chars().all(|c| c.is_alphanumeric() || "_.:-".contains(c)));
            }
        }
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
