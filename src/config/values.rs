//! The syntax of values, which is the same on a command line and in a configuration file. An error
//! says what was expected.

use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use regex::bytes::Regex;

use super::keys::nearest;
use super::show;
use crate::escape::visible;
use crate::filter::{self, PatternError};
use crate::model::SourceChoice;
use crate::notify::Command;

/// The syntax of a kind of value, for parsing and for writing.
pub(crate) struct Syntax<T> {
    /// The placeholder in the help of a flag, such as `SECONDS`.
    pub(crate) name: &'static str,
    /// The expected value.
    pub(super) expected: Expected,
    /// An example.
    pub(super) example: &'static str,
    /// Parses a text that isn't empty.
    pub(super) parse: fn(&str) -> Result<T, Wrong>,
    /// Writes the value as a text that parses to the same value.
    pub(super) show: fn(&T) -> String,
}

/// The expected value.
pub(super) enum Expected {
    /// In words that follow "expected", without an example.
    Words(&'static str),
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// A regular expression. Bytes that are not UTF-8 become its escapes; elsewhere they are an
    /// error.
    Regex,
}

/// The error of a value.
#[derive(Debug, PartialEq)]
pub(super) enum Wrong {
    /// It is not what is expected.
    Value,
    /// This text, which includes what was expected.
    Because(String),
    /// It is no valid regular expression.
    Pattern(PatternError),
}

impl<T> Syntax<T> {
    /// The words that follow "expected".
    pub(super) fn expected(&self) -> String {
        match &self.expected {
            Expected::Words(words) => format!("{words}, such as {}", self.example),
            Expected::OneOf([names @ .., last]) => format!("{} or {last}", names.join(", ")),
            Expected::OneOf([]) => String::new(),
            Expected::Regex => format!("a regular expression, such as {}", self.example),
        }
    }

    /// The words that follow "expected", for this text.
    pub(super) fn expectation(&self, text: &str) -> String {
        let expected = format!("expected {}", self.expected());
        match &self.expected {
            Expected::OneOf(names) => match nearest(text, names.iter().copied()) {
                Some(near) => format!("{expected}; did you mean {near}?"),
                None => expected,
            },
            Expected::Words(_) | Expected::Regex => expected,
        }
    }
}

/// A TCP port that can be listened on or connected to.
pub(super) static PORT: Syntax<u16> = Syntax {
    name: "PORT",
    expected: Expected::Words("a port from 1 to 65535"),
    example: "2222",
    parse: |text| text.parse().ok().filter(|port| *port > 0).ok_or(Wrong::Value),
    show: u16::to_string,
};

/// A host: a name or an IP address. It is not resolved here.
pub(super) static HOST: Syntax<String> = Syntax {
    name: "HOST",
    expected: Expected::Words("the name or the IP address of a host, without a port"),
    example: "host.example.com",
    parse: host,
    show: |host| visible(host.as_bytes()),
};

fn host(text: &str) -> Result<String, Wrong> {
    // In brackets, as in a URL.
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    // No host name has invisible characters, and messages could not show them.
    let is_plain = bare == visible(bare.as_bytes()) && !bare.contains(char::is_whitespace);
    // Link-local addresses name their interface: fe80::1%eth0.
    let scoped = bare.split_once('%').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    if bare.is_empty() || !is_plain || (text.contains(':') && !scoped) {
        return Err(Wrong::Value);
    }
    Ok(bare.to_owned())
}

/// An address of this host.
pub(super) static ADDRESS: Syntax<IpAddr> = Syntax {
    name: "ADDRESS",
    expected: Expected::Words("an IP address of this host"),
    example: "127.0.0.1",
    parse: |text| text.parse().map_err(|_| Wrong::Value),
    show: IpAddr::to_string,
};

/// A number of seconds, at least `least` and at most a day.
pub(crate) fn seconds(value: &str, least: f64) -> Result<Duration, String> {
    let expected = || format!("expected seconds from {least} to 86400, such as 0.5");
    let seconds: f64 = value.parse().map_err(|_| expected())?;
    if !(least..=86400.0).contains(&seconds) {
        return Err(expected());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn show_seconds(duration: &Duration) -> String {
    duration.as_secs_f64().to_string()
}

/// A timeout in seconds.
pub(super) static TIMEOUT: Syntax<Duration> = Syntax {
    name: "SECONDS",
    expected: Expected::Words("seconds from 0.01 to 86400"),
    example: "0.5",
    parse: |text| seconds(text, 0.01).map_err(|_| Wrong::Value),
    show: show_seconds,
};

/// A time in seconds, which may be 0.
pub(super) static DELAY: Syntax<Duration> = Syntax {
    name: "SECONDS",
    expected: Expected::Words("seconds from 0 to 86400"),
    example: "0.5",
    parse: |text| seconds(text, 0.0).map_err(|_| Wrong::Value),
    show: show_seconds,
};

/// The length of a window in seconds.
pub(super) static WINDOW: Syntax<Duration> = Syntax {
    name: "SECONDS",
    expected: Expected::Words("seconds, more than 0 and at most 86400"),
    example: "5",
    parse: |text| seconds(text, 0.0).ok().filter(|window| !window.is_zero()).ok_or(Wrong::Value),
    show: show_seconds,
};

/// A maximum number.
pub(super) static COUNT: Syntax<NonZeroUsize> = Syntax {
    name: "N",
    expected: Expected::Words("a number from 1 on"),
    example: "100",
    parse: |text| text.parse().map_err(|_| Wrong::Value),
    show: NonZeroUsize::to_string,
};

/// A limit in bytes per second; `None` for no limit.
pub(crate) type Limit = Option<NonZeroU64>;

/// A limit, written in KiB/s.
pub(super) static RATE: Syntax<Limit> = Syntax {
    name: "KiB/s",
    expected: Expected::Words("KiB/s from 0 to 1e9"),
    example: "100",
    parse: |text| {
        let rate: f64 = text.parse().map_err(|_| Wrong::Value)?;
        if !(0.0..=1e9).contains(&rate) {
            return Err(Wrong::Value);
        }
        // `as` rounds down.
        let limit = NonZeroU64::new((rate * 1024.0) as u64);
        // Less than a byte per second is not "no limit".
        if limit.is_none() && rate > 0.0 { Err(Wrong::Value) } else { Ok(limit) }
    },
    // A power of two: nothing is lost.
    show: |limit| limit.map_or("0".to_owned(), |rate| (rate.get() as f64 / 1024.0).to_string()),
};

/// A threshold in KiB/s; `None` for no threshold.
pub(super) type Threshold = Option<f64>;

/// A threshold.
pub(super) static THRESHOLD: Syntax<Threshold> = Syntax {
    name: "KiB/s",
    expected: Expected::Words("KiB/s from 0 up"),
    example: "100",
    parse: |text| match text.parse::<f64>() {
        Ok(rate) if rate >= 0.0 && rate.is_finite() => Ok(Some(rate).filter(|rate| *rate > 0.0)),
        _ => Err(Wrong::Value),
    },
    show: |threshold| threshold.map_or("0".to_owned(), |rate| rate.to_string()),
};

/// A fraction.
pub(super) static SHARE: Syntax<f64> = Syntax {
    name: "FRACTION",
    expected: Expected::Words("a number from 0 to 1"),
    example: "0.8",
    parse: |text| {
        let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        // A zero has no sign.
        share.map(f64::abs).ok_or(Wrong::Value)
    },
    show: f64::to_string,
};

/// A truth value, in the words of Python's `getboolean`.
pub(super) static TRUTH: Syntax<bool> = Syntax {
    name: "BOOL",
    expected: Expected::OneOf(&["true", "false"]),
    example: "true",
    parse: |text| match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Wrong::Value),
    },
    show: bool::to_string,
};

/// A source.
pub(super) static SOURCE: Syntax<SourceChoice> = Syntax {
    name: "SOURCE",
    expected: Expected::OneOf(&SourceChoice::NAMES),
    example: SourceChoice::Auto.name(),
    parse: |text| text.parse().map_err(|()| Wrong::Value),
    show: SourceChoice::to_string,
};

/// A regular expression that is searched in names.
pub(super) static PATTERN: Syntax<Regex> = Syntax {
    name: "REGEX",
    expected: Expected::Regex,
    example: "ssh|rsync",
    parse: |text| filter::compile(text).map_err(Wrong::Pattern),
    show: |regex| show::pattern(regex.as_str()),
};

/// A command.
pub(super) static COMMAND: Syntax<Command> = Syntax {
    name: "COMMAND",
    expected: Expected::Words("a command line"),
    example: "logger -t bwmon {app}",
    parse: |text| Command::parse(text).map_err(|error| Wrong::Because(visible(error.as_bytes()))),
    show: show::command,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Option<String> {
        (HOST.parse)(text).ok()
    }

    fn takes<T>(syntax: &Syntax<T>, text: &str) -> Option<T> {
        (syntax.parse)(text).ok()
    }

    #[test]
    fn hosts() {
        for (given, taken) in [
            ("example.com", "example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            // As the original's sample writes one; whether it can be found is not asked here.
            (r"host\.example\.com", r"host\.example\.com"),
            ("b\u{fc}cher.example", "b\u{fc}cher.example"),
        ] {
            assert_eq!(host(given).as_deref(), Some(taken));
        }
        for bad in ["", " ", "[]", "a b", "a\nb", "example.com:80", "http://example.com", "\x1b[2J"]
        {
            assert_eq!(host(bad), None, "{bad:?}");
        }
        // Two that look the same.
        assert_eq!(host("example\u{200b}.com"), None);
    }

    #[test]
    fn numbers() {
        for bad in ["0", "65536", "-1", "http", "", "80.0"] {
            assert_eq!(takes(&PORT, bad), None, "{bad:?}");
        }
        assert_eq!((takes(&COUNT, "0"), takes(&TIMEOUT, "0")), (None, None));
        for bad in ["0", "-1", "nan", "1e-12", "86401", "5s", ""] {
            assert_eq!(takes(&WINDOW, bad), None, "{bad:?}");
        }
        assert_eq!(takes(&WINDOW, "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(takes(&DELAY, "0"), Some(Duration::ZERO));
    }

    #[test]
    fn the_limits_of_seconds_are_those_that_are_told() {
        for (syntax, least) in [(&TIMEOUT, 0.01), (&DELAY, 0.0)] {
            assert_eq!(seconds("x", least), Err(syntax.expectation("x")));
            assert!((syntax.parse)(&least.to_string()).is_ok());
        }
    }

    #[test]
    fn zero_is_none_where_it_makes_sense() {
        assert_eq!(takes(&RATE, "0"), Some(None));
        assert_eq!(takes(&RATE, "0.0"), Some(None));
        assert_eq!(takes(&RATE, "0.5"), Some(NonZeroU64::new(512)));
        assert_eq!(takes(&THRESHOLD, "0"), Some(None));
        assert_eq!(takes(&THRESHOLD, "-0"), Some(None));
        assert_eq!(takes(&THRESHOLD, "0.5"), Some(Some(0.5)));
        for bad in ["-1", "nan", "inf", "x", "1e10", "0.0001"] {
            assert_eq!(takes(&RATE, bad), None, "{bad:?}");
        }
        for bad in ["-1", "nan", "inf", "x", "1e999"] {
            assert_eq!(takes(&THRESHOLD, bad), None, "{bad:?}");
        }
        for bad in ["-0.1", "1.1", "nan", "80%"] {
            assert_eq!(takes(&SHARE, bad), None, "{bad:?}");
        }
        assert_eq!((takes(&SHARE, "0"), takes(&SHARE, "1")), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn words() {
        for yes in ["true", "True", "YES", "on", "1"] {
            assert_eq!(takes(&TRUTH, yes), Some(true));
        }
        for no in ["false", "No", "OFF", "0"] {
            assert_eq!(takes(&TRUTH, no), Some(false));
        }
        assert_eq!((takes(&TRUTH, "2"), takes(&TRUTH, "")), (None, None));
    }

    #[test]
    fn the_message_about_a_source_names_all_of_them() {
        use clap::ValueEnum;
        for choice in SourceChoice::value_variants() {
            assert_eq!(takes(&SOURCE, &choice.to_string()), Some(*choice));
        }
        assert_eq!(
            SOURCE.expectation("ebfp"),
            "expected ebpf, conntrack, sockets or auto; did you mean ebpf?"
        );
        assert_eq!(SOURCE.expectation("x"), "expected ebpf, conntrack, sockets or auto");
        let variants = SourceChoice::value_variants().iter().map(ToString::to_string);
        assert!(variants.eq(SourceChoice::NAMES));
    }
}
