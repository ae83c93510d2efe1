//! The flags of `runpipe`.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::PROGRAM;
use crate::cli::forwarding::drain_timeout;
use crate::cli::output::Output;
use crate::cli::schedule::Refreshes;
use crate::cli::view::Grouped;
use crate::config::pipe::{
    BIND, CONNECT_TIMEOUT, IDLE_TIMEOUT, MAX_CONNECTIONS, NEWHOST, NEWPORT, PORT, SEND_PROXY,
    SHAPE_THRESHOLD,
};
use crate::config::values::Limit;

/// Forwards a local TCP port to a remote host, and shows how many bytes it forwarded.
///
/// With two arguments PORT is both the local and the remote port. Every refresh prints a line: bytes
/// from the clients to the remote host / bytes from the remote host to the clients --
/// pipe-PORT:HOST:REMOTEPORT. Ctrl-C stops listening; open connections are forwarded to their end,
/// unless Ctrl-C is pressed again.
#[derive(Clone, Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    infer_long_args = true,
    args_override_self = true
)]
pub struct Arguments {
    /// As the key `port`.
    #[arg(help = PORT.flag_help(), value_parser = |text: &str| PORT.parse(text))]
    pub port: u16,

    /// As the key `newhost`.
    #[arg(help = NEWHOST.flag_help(), value_parser = |text: &str| NEWHOST.parse(text))]
    pub host: String,

    /// As the key `newport`.
    #[arg(
        value_name = "REMOTEPORT",
        help = NEWPORT.flag_help(),
        value_parser = |text: &str| NEWPORT.parse(text)
    )]
    pub remote_port: Option<u16>,

    /// As the key `bind`.
    #[arg(
        long,
        value_name = BIND.value.name,
        help = BIND.flag_help(),
        value_parser = |text: &str| BIND.parse(text)
    )]
    pub bind: Option<IpAddr>,

    /// As the key `connect_timeout`.
    #[arg(
        long,
        value_name = CONNECT_TIMEOUT.value.name,
        default_value = CONNECT_TIMEOUT.default_value(),
        help = CONNECT_TIMEOUT.flag_help(),
        value_parser = |text: &str| CONNECT_TIMEOUT.parse(text),
        allow_hyphen_values = true
    )]
    pub connect_timeout: Duration,

    /// As the key `idle_timeout`.
    #[arg(
        long,
        value_name = IDLE_TIMEOUT.value.name,
        help = IDLE_TIMEOUT.flag_help(),
        value_parser = |text: &str| IDLE_TIMEOUT.parse(text),
        allow_hyphen_values = true
    )]
    pub idle_timeout: Option<Duration>,

    /// As the key `max_connections`.
    #[arg(
        long,
        value_name = MAX_CONNECTIONS.value.name,
        help = MAX_CONNECTIONS.flag_help(),
        value_parser = |text: &str| MAX_CONNECTIONS.parse(text),
        allow_hyphen_values = true
    )]
    pub max_connections: Option<NonZeroUsize>,

    /// As the key `shape_threshold`, in bytes per second.
    #[arg(
        long,
        value_name = SHAPE_THRESHOLD.value.name,
        default_value = SHAPE_THRESHOLD.default_value(),
        help = SHAPE_THRESHOLD.flag_help(),
        value_parser = |text: &str| SHAPE_THRESHOLD.parse(text),
        allow_hyphen_values = true
    )]
    pub shape: Limit,

    /// As the key `send_proxy`.
    #[arg(long, help = SEND_PROXY.help)]
    pub send_proxy: bool,

    /// Number of threads that forward; by default the number of cores
    #[arg(long, value_name = "N", value_parser = workers, allow_hyphen_values = true)]
    pub workers: Option<NonZeroUsize>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub refreshes: Refreshes,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: Output,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub grouped: Grouped,

    /// Write a line to standard error for each connection that ends
    #[arg(long)]
    pub log: bool,

    /// After Ctrl-C, wait at most this long for open connections, then reset them
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = drain_timeout,
        allow_hyphen_values = true
    )]
    pub drain_timeout: Option<Duration>,
}

fn workers(value: &str) -> Result<NonZeroUsize, String> {
    let workers = value.parse::<NonZeroUsize>().ok().filter(|workers| workers.get() <= 1024);
    workers.ok_or_else(|| "expected a number of threads from 1 to 1024".to_owned())
}

/// Whether the number of positional arguments is wrong.
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
        assert_eq!((three.shape, two.shape), (std::num::NonZeroU64::new(512), None));
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
    fn numbers() {
        for bad in ["0", "1025", "-1", "x"] {
            assert!(workers(bad).is_err(), "{bad:?}");
        }
        assert_eq!(drain_timeout("0"), Ok(Duration::ZERO));
    }
}
