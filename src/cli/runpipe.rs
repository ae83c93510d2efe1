//! `runpipe`: a local port forwarded to a remote host, and what goes through it.

use std::io::{self, Write};
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::beat::{following, interval, seconds};
use super::pipe_log::Log;
use super::signals::{Signals, Woken};
use super::{USAGE, is_broken_pipe, say};
use crate::pipe::{Config, Pipe, PipeError};
use crate::render::terminal::Terminal;
use crate::render::{Screen, classic};
use crate::traffic::Row;
use crate::view::arrange;

const PROGRAM: &str = "runpipe";

/// As the original's manual has it.
const FORMS: &str = "usage: runpipe [OPTIONS] PORT HOST\n       \
                     runpipe [OPTIONS] LOCALPORT HOST REMOTEPORT\n";

/// How often it is looked whether the last connection has ended.
const GLANCE: Duration = Duration::from_millis(20);

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

/// Runs the program with the arguments of the process.
///
/// # Errors
/// What ends it at run time, to be shown as one line. Usage errors are shown here.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if is_wrong_count(&error) => {
            let _ = io::stderr().write_all(FORMS.as_bytes());
            return Ok(ExitCode::from(USAGE));
        }
        Err(error) => return super::usage(PROGRAM, &error),
    };
    let terminal = Terminal::of_stdout();
    let log = Log::start(PROGRAM, arguments.log, terminal.is_screen())
        .context("no thread for messages can be had")?;
    let Arguments { port, ref host, remote_port, .. } = arguments;
    let mut config = Config::new(port, host, remote_port.unwrap_or(port));
    config.bind = arguments.bind;
    config.connect_timeout = arguments.connect_timeout;
    config.idle_timeout = arguments.idle_timeout;
    config.max_connections = arguments.max_connections;
    config.shape = arguments.shape;
    config.send_proxy = arguments.send_proxy;
    config.workers = arguments.workers.unwrap_or(config.workers);
    config.report = Some(log.report());
    config.report_ends = arguments.log;
    let name = config.name();
    allow_descriptors();
    let signals = Signals::new().context("signals can't be handled")?;
    let pipe = Pipe::start(config).map_err(explain)?;
    let mut show = Show { name, terminal, screen: Screen::new(io::stdout()), log, signals };
    let ended = show.run(&arguments, pipe);
    show.log.finish();
    ended
}

/// Whether there are too few arguments beside the options, or too many.
fn is_wrong_count(error: &clap::Error) -> bool {
    match error.kind() {
        ErrorKind::MissingRequiredArgument => true,
        ErrorKind::UnknownArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(argument)) => !argument.starts_with('-'),
            _ => false,
        },
        _ => false,
    }
}

/// As many descriptors as the administrator allows: a connection takes two, and programs start
/// with a limit made for those that ask select(2).
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where that is refused, the limit is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// What can't be listened on, and what would mend it.
fn explain(error: PipeError) -> anyhow::Error {
    let PipeError::Listen { address, error } = &error else { return error.into() };
    let (port, ip) = (address.port(), address.ip());
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {port} is in use; take another one, or end the program that listens on it \
             (ss -tlnp shows which)"
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "port {port} is privileged; run it as root, or allow it once by: setcap \
             cap_net_bind_service+ep /path/to/runpipe"
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{ip} is no address of this host (ip address shows which are)")
        }
        _ => anyhow::anyhow!("{address} can't be listened on: {error}"),
    }
}

/// What shows the pipe's traffic until the end.
struct Show {
    name: String,
    terminal: Terminal,
    screen: Screen<io::Stdout>,
    log: Log,
    signals: Signals,
}

impl Show {
    fn run(&mut self, arguments: &Arguments, pipe: Pipe) -> anyhow::Result<ExitCode> {
        let mut next = Instant::now() + arguments.interval;
        let mut refreshes = 0;
        let outcome = loop {
            match self.signals.wait(next, None).context("waiting failed") {
                Ok(Woken::Stop) => break Ok(()),
                Ok(Woken::Resized) if refreshes == 0 || !self.terminal.is_screen() => continue,
                Ok(Woken::Resized) => {}
                Ok(Woken::Time | Woken::Events) => {
                    refreshes += 1;
                    next = following(next, arguments.interval, Instant::now());
                }
                Err(error) => break Err(error),
            }
            if let Err(error) = self.refresh(&pipe) {
                break Err(error);
            }
            if arguments.count.is_some_and(|count| refreshes >= count) {
                break Ok(());
            }
        };
        let counted = arguments.count.is_some_and(|count| refreshes >= count);
        self.drain(arguments, &pipe, next, outcome.is_ok() && !counted);
        pipe.stop();
        match outcome {
            // Who read it has read enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            outcome => outcome.map(|()| ExitCode::SUCCESS),
        }
    }

    fn refresh(&mut self, pipe: &Pipe) -> anyhow::Result<()> {
        let rows = arrange(vec![Row::new(pipe.traffic(), self.name.as_str())]);
        let frame = classic::compose(&self.log.on_screen(), &rows, &self.terminal.layout());
        self.screen.show(&frame).context("standard output")
    }

    /// Lets the open connections run to their end, unless that takes too long. If it is still
    /// `shown` what they do, the last refresh is what was forwarded in all.
    fn drain(&mut self, arguments: &Arguments, pipe: &Pipe, mut next: Instant, mut shown: bool) {
        self.signals.stop();
        pipe.close();
        self.log.say("Waiting for threads to finish...");
        let limit = arguments.drain_timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let glance = Instant::now() + GLANCE;
            if pipe.wait(Some(limit.map_or(glance, |at| at.min(glance)))) {
                break;
            }
            let now = Instant::now();
            if limit.is_some_and(|at| at <= now) {
                let open = pipe.open();
                say(PROGRAM, &format!("{open} connections were cut after the drain timeout"));
                break;
            }
            if now >= next {
                next = following(next, arguments.interval, now);
                shown = shown && self.refresh(pipe).is_ok();
            }
        }
        if shown {
            let _ = self.refresh(pipe);
        }
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
