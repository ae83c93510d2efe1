//! Values as they are written: on a command line and in a configuration file alike. What is wrong
//! with one is said as what was expected.

use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use crate::watch::SourceChoice;

/// A TCP port that can be listened on or connected to.
pub(crate) fn port(value: &str) -> Result<u16, String> {
    let port = value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

/// A host: a name or an IP address. That it exists is not looked up.
pub(crate) fn host(value: &str) -> Result<String, String> {
    // As in a URL.
    let bare = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("expected the name or the IP address of a host".to_owned());
    }
    // Link-local addresses name their interface: fe80::1%eth0.
    let scoped = bare.split_once('%').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok());
    if value.contains(':') && !scoped {
        return Err("expected a host without a port, which is an argument of its own".to_owned());
    }
    Ok(bare.to_owned())
}

/// An address of this host.
pub(crate) fn address(value: &str) -> Result<IpAddr, String> {
    value.parse().map_err(|_| "expected an IP address of this host, such as 127.0.0.1".to_owned())
}

/// A number of seconds, at least `least` and at most a day.
pub(crate) fn seconds(value: &str, least: f64) -> Result<Duration, String> {
    let expected = || format!("expected seconds from {least} to 86400, such as 0.5");
    let seconds: f64 = value.parse().map_err(|_| expected())?;
    if !(least..=86400.0).contains(&seconds) {
        return Err(expected());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A number of seconds after which something is given up.
pub(crate) fn timeout(value: &str) -> Result<Duration, String> {
    seconds(value, 0.01)
}

/// A number of seconds that may be none.
pub(super) fn delay(value: &str) -> Result<Duration, String> {
    seconds(value, 0.0)
}

/// A number of seconds that a mean can be taken over.
pub(super) fn window(value: &str) -> Result<Duration, String> {
    let window = seconds(value, 0.0).ok().filter(|window| !window.is_zero());
    window.ok_or_else(|| "expected seconds, more than 0 and at most 86400, such as 5".to_owned())
}

/// How many of something there may be.
pub(crate) fn count(value: &str) -> Result<NonZeroUsize, String> {
    value.parse().map_err(|_| "expected a number from 1 on".to_owned())
}

/// Bytes per second of a number of KiB per second.
pub(crate) fn rate(value: &str) -> Result<NonZeroU64, String> {
    let expected = "expected KiB per second, more than 0 and at most 1e9, such as 100";
    let rate = value.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e9);
    // `as` rounds down.
    let bytes = rate.and_then(|rate| NonZeroU64::new((rate * 1024.0) as u64));
    bytes.ok_or_else(|| expected.to_owned())
}

/// The same, but 0 is no limit.
pub(super) fn shape(value: &str) -> Result<Option<NonZeroU64>, String> {
    if value.parse() == Ok(0.0) {
        return Ok(None);
    }
    let expected = "expected kB per second, at most 1e9, such as 100, or 0 for no limit";
    rate(value).map(Some).map_err(|_| expected.to_owned())
}

/// Above how many KiB per second is too much; 0 is no threshold.
pub(super) fn threshold(value: &str) -> Result<Option<f64>, String> {
    match value.parse::<f64>() {
        Ok(rate) if rate >= 0.0 && rate.is_finite() => Ok(Some(rate).filter(|rate| *rate > 0.0)),
        _ => Err("expected kB per second, such as 100, or 0 for no threshold".to_owned()),
    }
}

/// A share of something.
pub(super) fn share(value: &str) -> Result<f64, String> {
    let share = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    // A zero has no sign.
    share.map(f64::abs).ok_or_else(|| "expected a number from 0 to 1, such as 0.8".to_owned())
}

/// Yes or no, as Python's `getboolean` takes it.
pub(super) fn truth(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Where bytes are counted.
pub(super) fn source(value: &str) -> Result<SourceChoice, String> {
    value.parse().map_err(|()| "expected ebpf, conntrack, sockets or auto".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(host(given).as_deref(), Ok(taken));
        }
        for bad in ["", " ", "a b", "a\nb", "example.com:80", "http://example.com", "\x1b[2J"] {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers() {
        for bad in ["0", "65536", "-1", "http", "", "80.0"] {
            assert!(port(bad).is_err(), "{bad:?}");
        }
        for bad in ["0", "-1", "nan", "inf", "1e10", "0.0001", "x"] {
            assert!(rate(bad).is_err(), "{bad:?}");
        }
        assert!(count("0").is_err() && timeout("0").is_err());
        for bad in ["0", "-1", "nan", "1e-12", "86401", "5s", ""] {
            assert!(window(bad).is_err(), "{bad:?}");
        }
        assert_eq!(window("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(delay("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn zero_is_none_where_it_makes_sense() {
        assert_eq!(shape("0"), Ok(None));
        assert_eq!(shape("0.0"), Ok(None));
        assert_eq!(shape("0.5"), Ok(NonZeroU64::new(512)));
        assert_eq!(threshold("0"), Ok(None));
        assert_eq!(threshold("-0"), Ok(None));
        assert_eq!(threshold("0.5"), Ok(Some(0.5)));
        for bad in ["-1", "nan", "inf", "x", "1e10"] {
            assert!(shape(bad).is_err(), "{bad:?}");
        }
        for bad in ["-1", "nan", "inf", "x", "1e999"] {
            assert!(threshold(bad).is_err(), "{bad:?}");
        }
        for bad in ["-0.1", "1.1", "nan", "80%"] {
            assert!(share(bad).is_err(), "{bad:?}");
        }
        assert_eq!((share("0"), share("1")), (Ok(0.0), Ok(1.0)));
    }

    #[test]
    fn the_message_about_a_source_names_all_of_them() {
        use clap::ValueEnum;
        let message = source("proc").unwrap_err();
        for choice in SourceChoice::value_variants() {
            let name = choice.to_string();
            assert_eq!(source(&name), Ok(*choice));
            assert!(message.contains(&name), "{message}");
            let key = crate::config::schema::MONITOR.key("source").unwrap();
            assert!(key.meaning.contains(&name), "{}", key.meaning);
        }
    }

    #[test]
    fn words() {
        for yes in ["true", "True", "YES", "on", "1"] {
            assert_eq!(truth(yes), Ok(true));
        }
        for no in ["false", "No", "OFF", "0"] {
            assert_eq!(truth(no), Ok(false));
        }
        assert!(truth("2").is_err() && truth("").is_err() && source("proc").is_err());
    }
}
