//! The flags of `runpipe`.

use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::PROGRAM;
use crate::cli::beat::{interval, seconds};

/// Forwards a local TCP port to a remote host, and shows how many bytes went through it.
///
/// With two arguments PORT is the local port and that of the remote host. Every refresh prints a
/// line: bytes from the clients to the remote host / bytes from the remote host to the clients --
/// pipe-PORT:HOST:REMOTEPORT. Ctrl-C ends the listening; open connections run to their end, unless
/// it is pressed again.
#[derive(Clone, Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    infer_long_args = true,
    args_override_self = true
)]
pub struct Arguments {
    /// The local port, 1 to 65535
    #[arg(value_parser = port)]
    pub port: u16,

    /// The remote host: a name or an IP address
    #[arg(value_parser = host)]
    pub host: String,

    /// The remote host's port, if it is another one
    #[arg(value_name = "REMOTEPORT", value_parser = port)]
    pub remote_port: Option<u16>,

    /// Listen on this local address only, instead of every one
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub bind: Option<IpAddr>,

    /// How long each address of the host may take to answer
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "5",
        value_parser = timeout,
        allow_hyphen_values = true
    )]
    pub connect_timeout: Duration,

    /// Reset connections on which no byte has moved for so long
    #[arg(long, value_name = "SECONDS", value_parser = timeout, allow_hyphen_values = true)]
    pub idle_timeout: Option<Duration>,

    /// Forward at most N connections at once; more clients wait until one ends
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    pub max_connections: Option<NonZeroUsize>,

    /// Forward at most so many KiB per second in each direction, all connections together
    #[arg(long, value_name = "KB/S", value_parser = rate, allow_hyphen_values = true)]
    pub shape: Option<NonZeroU64>,

    /// Tell the remote host each client's address by a PROXY protocol header, version 2
    #[arg(long)]
    pub send_proxy: bool,

    /// How many threads forward; the number of cores if not given
    #[arg(long, value_name = "N", value_parser = workers, allow_hyphen_values = true)]
    pub workers: Option<NonZeroUsize>,

    /// Seconds between two refreshes; fractions are allowed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "1",
        value_parser = interval,
        allow_hyphen_values = true
    )]
    pub interval: Duration,

    /// End after N refreshes, as Ctrl-C does
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_hyphen_values = true
    )]
    pub count: Option<u64>,

    /// Write a line to standard error for each connection that ends
    #[arg(long)]
    pub log: bool,

    /// After Ctrl-C, wait at most so long for open connections, then reset them
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = drain_timeout,
        allow_hyphen_values = true
    )]
    pub drain_timeout: Option<Duration>,
}

fn port(value: &str) -> Result<u16, String> {
    let port = value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

fn host(value: &str) -> Result<String, String> {
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

fn address(value: &str) -> Result<IpAddr, String> {
    value.parse().map_err(|_| "expected an IP address of this host, such as 127.0.0.1".to_owned())
}

fn timeout(value: &str) -> Result<Duration, String> {
    seconds(value, 0.01)
}

fn drain_timeout(value: &str) -> Result<Duration, String> {
    seconds(value, 0.0)
}

fn count(value: &str) -> Result<NonZeroUsize, String> {
    value.parse().map_err(|_| "expected a number from 1 on".to_owned())
}

fn workers(value: &str) -> Result<NonZeroUsize, String> {
    let workers = value.parse::<NonZeroUsize>().ok().filter(|workers| workers.get() <= 1024);
    workers.ok_or_else(|| "expected a number of threads from 1 to 1024".to_owned())
}

/// Bytes per second of a number of KiB per second.
fn rate(value: &str) -> Result<NonZeroU64, String> {
    let expected = "expected KiB per second, more than 0 and at most 1e9, such as 100";
    let rate = value.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1e9);
    // `as` rounds down.
    let bytes = rate.and_then(|rate| NonZeroU64::new((rate * 1024.0) as u64));
    bytes.ok_or_else(|| expected.to_owned())
}

/// Whether there are too few arguments beside the options, or too many.
pub(super) fn is_wrong_count(error: &clap::Error) -> bool {
    match error.kind() {
        ErrorKind::MissingRequiredArgument => true,
        ErrorKind::UnknownArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(argument)) => !argument.starts_with('-'),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["runpipe"], words].concat())
    }

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_original_forms_and_options_between_them() {
        let two = parse(&["8080", "example.com"]).unwrap();
        assert_eq!((two.port, two.remote_port), (8080, None));
        let three = parse(&["8080", "--shape=0.5", "example.com", "--log", "80"]).unwrap();
        assert_eq!((three.port, three.remote_port), (8080, Some(80)));
        assert_eq!(three.host, "example.com");
        assert_eq!(three.shape, NonZeroU64::new(512));
        assert!(three.log);
    }

    #[test]
    fn a_wrong_count_is_told_from_a_wrong_option() {
        for words in
            [&[][..], &["1"], &["1", "h", "2", "3"], &["--log"], &["1", "h", "2", "3", "-x"]]
        {
            assert!(is_wrong_count(&parse(words).unwrap_err()), "{words:?}");
        }
        for words in [&["1", "h", "--frob"][..], &["x", "h"], &["1", "h", "--shape", "x"]] {
            assert!(!is_wrong_count(&parse(words).unwrap_err()), "{words:?}");
        }
    }

    #[test]
    fn hosts() {
        for (given, taken) in [
            ("example.com", "example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
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
        for bad in ["0", "1025", "-1", "x"] {
            assert!(workers(bad).is_err(), "{bad:?}");
        }
        assert!(count("0").is_err() && timeout("0").is_err());
        assert_eq!(drain_timeout("0"), Ok(Duration::ZERO));
    }
}
