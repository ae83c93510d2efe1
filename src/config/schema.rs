//! The keys of the configuration files: what they mean, and what counts where they are not given.
//!
//! This is the only list of them. Readers take their defaults from it, unknown keys are compared
//! with it, and a test looks for each in the sample files.

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// As it is written, in small letters.
    pub name: &'static str,
    /// What is expected as its value, with its unit.
    pub meaning: &'static str,
    /// What counts without it.
    pub default: Default,
}

/// What counts where a key is not given, or has an empty value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// The key has to be given.
    Required,
    /// This value, as it would be written.
    Value(&'static str),
    /// What the key would turn on is off.
    Nothing,
}

/// A kind of sections, all of which have the same keys.
#[derive(Debug)]
pub struct Kind {
    /// What a section of it is called, and where there are several, the value of `type`.
    pub name: &'static str,
    /// Its keys, in the order in which they are shown.
    pub keys: &'static [Key],
}

/// A format: one of the files that an option names.
#[derive(Debug)]
pub struct Format {
    /// The option.
    pub option: &'static str,
    /// The kinds of sections that its files have. Where there are none, all keys are labels.
    pub kinds: &'static [Kind],
}

const fn required(name: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning, default: Default::Required }
}

const fn optional(name: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning, default: Default::Nothing }
}

const fn default(name: &'static str, value: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning, default: Default::Value(value) }
}

/// Which kind a section of the monitor file is of.
pub const TYPE: Key = required("type", "monitor or pipe");

/// A monitor.
pub const MONITOR: Kind = Kind {
    name: "monitor",
    keys: &[
        TYPE,
        optional("include", "a regular expression: only processes whose command line has it"),
        optional("exclude", "a regular expression: no process whose command line has it"),
        default("ignorelocal", "false", "true or false: leave out what stays on this host"),
        optional("source", "ebpf, conntrack, sockets or auto; without it what --source says"),
    ],
};

/// A pipe.
pub const PIPE: Kind = Kind {
    name: "pipe",
    keys: &[
        TYPE,
        required("port", "the local port, 1 to 65535"),
        required("newhost", "the name or the IP address of the remote host"),
        optional("newport", "the remote host's port, 1 to 65535; without it the local one"),
        optional("shape_threshold", "kB per second at which it shapes its traffic"),
        optional("bind", "the local address to listen on; without it every one"),
        default("connect_timeout", "5", "seconds for an address of the host to answer"),
        optional("idle_timeout", "seconds without a byte after which a connection is reset"),
        optional("max_connections", "how many connections are forwarded at once"),
        default("send_proxy", "false", "true or false: begin with a PROXY protocol header"),
    ],
};

/// A notification.
pub const NOTIFICATION: Kind = Kind {
    name: "notification",
    keys: &[
        required("process_filter", "a regular expression that is searched in application names"),
        optional("notification_threshold", "kB per second in or out above which it fires"),
        optional("in_threshold", "kB per second in above which it fires"),
        optional("out_threshold", "kB per second out above which it fires"),
        default("interval", "1", "seconds over which the mean is taken"),
        default("for", "0", "seconds for which the mean must stay above the threshold"),
        default("repeat_interval", "1", "least seconds between two notifications"),
        default("resolve_threshold", "1", "share of the threshold, 0 to 1, at which it is over"),
        optional("notification_command", "a command that is started when it fires"),
        optional("resolved_command", "a command that is started when it is over"),
        default("command_timeout", "60", "seconds after which a command is killed"),
    ],
};

/// What is monitored.
pub static MONITORS: Format = Format { option: "--monitor-config", kinds: &[MONITOR, PIPE] };
/// Which processes are one application. All keys are labels of regular expressions.
pub static APPLICATIONS: Format = Format { option: "--app-config", kinds: &[] };
/// When somebody is told.
pub static NOTIFICATIONS: Format =
    Format { option: "--notification-config", kinds: &[NOTIFICATION] };

impl Kind {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Format {
    fn knows(&self, key: &str) -> bool {
        self.kinds.iter().any(|kind| kind.key(key).is_some())
    }

    /// What to say about a key that sections of `kind` (in `[DEFAULT]`: no kind) don't have.
    pub(super) fn hint(&self, kind: Option<&Kind>, key: &str) -> String {
        let own: Vec<&Kind> = match kind {
            Some(kind) => vec![kind],
            None => self.kinds.iter().collect(),
        };
        if let Some(other) = self.kinds.iter().find(|other| other.key(key).is_some()) {
            let name = other.name;
            return format!("`{key}` is a key of {name}s; did you mean type={name}?");
        }
        for other in [&MONITORS, &NOTIFICATIONS] {
            if other.knows(key) {
                return format!("`{key}` belongs into the file of {}", other.option);
            }
        }
        let mut names: Vec<&str> = Vec::new();
        for key in own.iter().flat_map(|kind| kind.keys) {
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

/// The one of `names` that somebody may have meant by `word`.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Below that, clap too finds no similarity.
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
        let keys = || NOTIFICATION.keys.iter().map(|key| key.name);
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
                Some(&MONITOR),
                "port",
                "`port` is a key of pipes; did you mean type=pipe?",
            ),
            (
                &MONITORS,
                Some(&PIPE),
                "include",
                "`include` is a key of monitors; did you mean type=monitor?",
            ),
            (
                &MONITORS,
                Some(&MONITOR),
                "interval",
                "`interval` belongs into the file of --notification-config",
            ),
            (&NOTIFICATIONS, None, "type", "`type` belongs into the file of --monitor-config"),
            (&MONITORS, Some(&MONITOR), "ignore-local", "did you mean ignorelocal?"),
            (&MONITORS, None, "new_port", "did you mean newport?"),
            (
                &MONITORS,
                Some(&MONITOR),
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
        for kind in MONITORS.kinds {
            for key in kind.keys {
                assert!(!NOTIFICATIONS.knows(key.name), "{}", key.name);
            }
        }
    }

    #[test]
    fn defaults_are_those_of_a_pipe_that_is_told_nothing() {
        let pipe = crate::pipe::Config::new(1, "host", 1);
        let value = |name: &str| match PIPE.key(name).unwrap().default {
            Default::Value(value) => Some(value),
            Default::Nothing => None,
            Default::Required => panic!("{name}"),
        };
        assert_eq!(value("connect_timeout"), Some(&*pipe.connect_timeout.as_secs().to_string()));
        assert_eq!(value("send_proxy"), Some(&*pipe.send_proxy.to_string()));
        assert_eq!((value("idle_timeout"), pipe.idle_timeout), (None, None));
        assert_eq!((value("max_connections"), pipe.max_connections), (None, None));
        assert_eq!((value("shape_threshold"), pipe.shape), (None, None));
        assert_eq!((value("bind"), pipe.bind), (None, None));
    }
}
