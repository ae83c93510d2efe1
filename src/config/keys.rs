//! The keys of configuration files, for each kind of section.
//!
//! Each key is one `Key`: its name, its help, its default, the syntax of its value, and its setting. The
//! reader, the messages, `--check-config`, flags of the same meaning, the comments of the sample files and
//! the tables of the user manual all use it.

use super::error::{Problem, shown};
use super::ini::Section;
use super::monitor::MONITOR;
use super::notifications::NOTIFICATION;
use super::pipe::PIPE;
use super::section::Reading;
use super::values::{Syntax, Wrong};

/// A key in sections that are read into an `S`, with values of type `T`.
pub(crate) struct Key<S: 'static, T: 'static> {
    /// The name, in lower case.
    pub(crate) name: &'static str,
    /// The help: sentences with their units, without the last full stop.
    pub(crate) help: &'static str,
    /// What applies without the key.
    pub(crate) default: Fallback,
    /// The syntax of its value.
    pub(crate) value: &'static Syntax<T>,
    /// Stores the value in the settings.
    pub(crate) set: fn(&mut S, T),
    /// Gets the value from the settings; `None` if it is not given.
    pub(crate) get: fn(&S) -> Option<T>,
}

/// What applies if a key is missing or has an empty value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// An error: the key is required.
    Required,
    /// This value, as a file would have it.
    Value(&'static str),
    /// No value; the words describe the meaning.
    Nothing(&'static str),
}

impl<S, T> Key<S, T> {
    /// Parses the value of a flag of the same meaning.
    ///
    /// # Errors
    /// What was expected, as a part of a sentence.
    pub(crate) fn parse(&self, text: &str) -> Result<T, String> {
        (self.value.parse)(text).map_err(|wrong| match wrong {
            Wrong::Value => self.value.expectation(text),
            Wrong::Because(why) => why,
            Wrong::Pattern(error) => error.to_string(),
        })
    }

    /// The help of a flag of the same meaning. clap itself adds a default that is a value.
    pub(crate) fn flag_help(&self) -> String {
        match self.default {
            Fallback::Nothing(meaning) => format!("{} [default: {meaning}]", self.help),
            Fallback::Required | Fallback::Value(_) => self.help.to_owned(),
        }
    }

    /// The help of a flag of the same meaning that may be repeated.
    pub(crate) fn repeated_help(&self) -> String {
        format!("{}. May be given several times", self.help)
    }

    /// The default as a file would have it, if it is a value.
    pub(crate) fn default_value(&self) -> Option<&'static str> {
        match self.default {
            Fallback::Value(value) => Some(value),
            Fallback::Required | Fallback::Nothing(_) => None,
        }
    }

    /// The problem with a value.
    pub(super) fn problem(&self, text: &str, wrong: Wrong) -> Problem {
        let value = shown(text.as_bytes());
        match wrong {
            Wrong::Value => Problem::BadValue { value, expected: self.value.expectation(text) },
            Wrong::Because(expected) => Problem::BadValue { value, expected },
            Wrong::Pattern(error) => error.into(),
        }
    }
}

/// A key of sections that are read into an `S`, with values of any type.
pub(super) trait AnyKey<S>: Sync {
    /// See [`Key::name`].
    fn name(&self) -> &'static str;
    /// The documentation of the key.
    fn doc(&self) -> KeyDoc;
    /// Stores its value in a section in the settings. Errors are collected.
    fn read(&self, reading: &mut Reading<'_>, section: &Section, settings: &mut S);
    /// Its value in the settings as a file would have it, or an empty text.
    fn show(&self, settings: &S) -> String;
}

impl<S, T> AnyKey<S> for Key<S, T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> KeyDoc {
        let Key { name, help, default, value, .. } = *self;
        KeyDoc { name, help, expected: value.expected(), example: value.example, default }
    }

    fn read(&self, reading: &mut Reading<'_>, section: &Section, settings: &mut S) {
        if let Some(value) = reading.get(section, self) {
            (self.set)(settings, value);
        }
    }

    fn show(&self, settings: &S) -> String {
        (self.get)(settings).map(|value| (self.value.show)(&value)).unwrap_or_default()
    }
}

/// A kind of section: sections with the same keys, which are read into an `S`.
pub(super) struct Kind<S: 'static> {
    /// Its name, which is the value of `type` if a file has several kinds.
    pub(super) name: &'static str,
    /// Its keys, in the order in which they are read and shown.
    pub(super) keys: &'static [&'static dyn AnyKey<S>],
}

impl<S> Kind<S> {
    /// The lines of a section with these settings: keys and values.
    pub(super) fn show(&self, settings: &S) -> Vec<(&'static str, String)> {
        self.keys.iter().map(|key| (key.name(), key.show(settings))).collect()
    }

    fn doc(&self) -> KindDoc {
        KindDoc { name: self.name, keys: self.keys.iter().map(|key| key.doc()).collect() }
    }
}

/// The format of a configuration file.
#[derive(Debug)]
pub struct Format {
    /// The option that names the file.
    pub option: &'static str,
    kinds: fn() -> Vec<KindDoc>,
}

/// Monitors and pipes.
pub static MONITORS: Format =
    Format { option: "--monitor-config", kinds: || vec![MONITOR.doc(), PIPE.doc()] };
/// Applications. Their keys are arbitrary labels of regular expressions.
pub static APPLICATIONS: Format = Format { option: "--app-config", kinds: Vec::new };
/// Notifications.
pub static NOTIFICATIONS: Format =
    Format { option: "--notification-config", kinds: || vec![NOTIFICATION.doc()] };

/// The documentation of a kind of section.
#[derive(Clone, Debug)]
pub struct KindDoc {
    /// Its name, which is the value of `type` if a file has several kinds.
    pub name: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: Vec<KeyDoc>,
}

/// The documentation of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The name, in lower case.
    pub name: &'static str,
    /// The help: sentences without the last full stop.
    pub help: &'static str,
    /// The expected value.
    pub expected: String,
    /// An example of a value.
    pub example: &'static str,
    /// What applies without the key.
    pub default: Fallback,
}

impl KindDoc {
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.name == key)
    }
}

impl Format {
    /// The kinds of sections in the file. If there are none, all keys are labels.
    pub fn kinds(&self) -> Vec<KindDoc> {
        (self.kinds)()
    }

    fn knows(&self, key: &str) -> bool {
        self.kinds().iter().any(|kind| kind.has(key))
    }

    /// The hint about a key that sections of the `kind` (in `[DEFAULT]`: of any kind) don't have.
    pub(super) fn hint(&self, kind: Option<&str>, key: &str) -> String {
        let kinds = self.kinds();
        if let Some(KindDoc { name, .. }) = kinds.iter().find(|other| other.has(key)) {
            return format!("`{key}` is a key of {name}s; did you mean type={name}?");
        }
        for other in [&MONITORS, &NOTIFICATIONS] {
            if other.knows(key) {
                return format!("`{key}` belongs into the file of {}", other.option);
            }
        }
        let mut names: Vec<&str> = Vec::new();
        let own = kinds.iter().filter(|own| kind.is_none_or(|kind| own.name == kind));
        for key in own.flat_map(|kind| &kind.keys) {
            if !names.contains(&key.name) {
                names.push(key.name);
            }
        }
        match nearest(key, names.iter().copied()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("expected one of {}", names.join(", ")),
        }
    }
}

/// The one of `names` that is most similar to `word`.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Below that, clap finds no similarity either.
    const LIKE: f64 = 0.7;
    let word = word.to_ascii_lowercase();
    let likeness = |name| strsim::jaro(&word, name);
    let near = names.map(|name| (likeness(name), name)).filter(|(like, _)| *like > LIKE);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_nothing_that_is_far() {
        let keys = || NOTIFICATION.keys.iter().map(|key| key.name());
        for (word, expected) in [
            ("in_treshold", Some("in_threshold")),
            ("outthreshold", Some("out_threshold")),
            ("process-filter", Some("process_filter")),
            ("intervall", Some("interval")),
            ("command", Some("command_timeout")),
            ("Notification_Comand", Some("notification_command")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys()), expected, "{word}");
        }
    }

    #[test]
    fn hints() {
        for (format, kind, key, expected) in [
            (
                &MONITORS,
                Some("monitor"),
                "port",
                "`port` is a key of pipes; did you mean type=pipe?",
            ),
            (
                &MONITORS,
                Some("pipe"),
                "include",
                "`include` is a key of monitors; did you mean type=monitor?",
            ),
            (
                &MONITORS,
                Some("monitor"),
                "interval",
                "`interval` belongs into the file of --notification-config",
            ),
            (&NOTIFICATIONS, None, "type", "`type` belongs into the file of --monitor-config"),
            (&MONITORS, Some("monitor"), "ignore-local", "did you mean ignorelocal?"),
            (&MONITORS, None, "new_port", "did you mean newport?"),
            (
                &MONITORS,
                Some("monitor"),
                "zzz",
                "expected one of type, include, exclude, ignorelocal, source",
            ),
        ] {
            assert_eq!(format.hint(kind, key), expected);
        }
    }

    #[test]
    fn no_two_formats_share_a_key() {
        // Else it couldn't be said where one belongs.
        for kind in MONITORS.kinds() {
            for key in kind.keys {
                assert!(!NOTIFICATIONS.knows(key.name), "{}", key.name);
            }
        }
    }

    #[test]
    fn a_section_has_each_key_once() {
        for kind in MONITORS.kinds().into_iter().chain(NOTIFICATIONS.kinds()) {
            for (index, key) in kind.keys.iter().enumerate() {
                let others = &kind.keys[..index];
                assert!(others.iter().all(|other| other.name != key.name), "{} twice", key.name);
            }
        }
    }
}
