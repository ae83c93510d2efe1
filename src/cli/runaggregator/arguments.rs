//! The flags of `runaggregator`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::PROGRAM;
use crate::cli::forwarding::drain_timeout;
use crate::cli::output::Output;
use crate::cli::schedule::Refreshes;
use crate::config::Files;
use crate::config::monitor::SOURCE;
use crate::model::SourceChoice;
use crate::netns::NetnsChoice;
use crate::processes::LabelBy;

/// Shows how much each application receives and sends, from monitors and pipes together, and tells
/// when it is too much.
///
/// Every refresh prints a line for each application that used more than 1 KiB per second, the
/// busiest last: KiB per second received / sent -- application. Without files it monitors every
/// process, each command line for itself. SIGHUP makes it read the files again.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM, version, infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// Which processes are one application
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub app_config: Option<PathBuf>,

    /// Which monitors and pipes there are
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub monitor_config: Option<PathBuf>,

    /// When somebody is told of an application's traffic, and how
    ///
    /// In commands that a shell reads, write "$BWMON_APP", with the quotes, and not {app}: a process
    /// chooses its own name, which {app} has reduced to letters, digits and _.:/-. Root reads only
    /// files that nobody but their owner can write, who must be root or the user who called sudo.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub notification_config: Option<PathBuf>,

    /// Put processes that --app-config puts nowhere together by the names of their programs
    #[arg(long)]
    pub auto_group: bool,

    /// Put processes that --app-config puts nowhere together by this; those that have no such thing
    /// as --auto-group says
    #[arg(long, value_enum, value_name = "WHAT")]
    pub group_by: Option<GroupBy>,

    /// Show also what used less than 1 KiB per second
    #[arg(long)]
    pub all: bool,

    /// As the key `source`.
    #[arg(long, value_enum, default_value_t, help = SOURCE.help)]
    pub source: SourceChoice,

    /// Which network namespaces are watched
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub netns: NetnsChoice,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub refreshes: Refreshes,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: Output,

    /// Show also the bytes for which no process can be named, a line for each reason
    #[arg(long)]
    pub unattributed: bool,

    /// Serve a web page of the last minute on this port of 127.0.0.1, or on this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = page_address)]
    pub serve: Option<SocketAddr>,

    /// Check the files, print what was understood, and end
    #[arg(long)]
    pub check_config: bool,

    /// After Ctrl-C, wait at most so long for open connections and running commands
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = drain_timeout,
        allow_hyphen_values = true
    )]
    pub drain_timeout: Option<Duration>,
}

/// The value of `--group-by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// The user whose rights the process has
    User,
    /// The systemd unit that it runs in
    Unit,
    /// The container that it runs in
    Container,
    /// The path of its program
    Exe,
}

impl Arguments {
    /// The configuration's files.
    pub(super) fn files(&self) -> Files {
        Files {
            applications: self.app_config.clone(),
            monitors: self.monitor_config.clone(),
            notifications: self.notification_config.clone(),
        }
    }

    /// What processes are labelled by.
    pub(super) fn labels(&self) -> Vec<LabelBy> {
        let by = self.group_by.map(|by| match by {
            GroupBy::User => LabelBy::User,
            GroupBy::Unit => LabelBy::Unit,
            GroupBy::Container => LabelBy::Container,
            GroupBy::Exe => LabelBy::Exe,
        });
        by.into_iter().chain(self.auto_group.then_some(LabelBy::Program)).collect()
    }
}

fn page_address(value: &str) -> Result<SocketAddr, String> {
    let expected = || "expected a port, or an address and a port such as 127.0.0.1:8000".to_owned();
    let address = match value.parse() {
        Ok(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        Err(_) => value.parse().map_err(|_| expected())?,
    };
    if address.port() == 0 { Err(expected()) } else { Ok(address) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["runaggregator"], words].concat())
    }

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.starts_with("Shows how much each application"), "{help}");
    }

    #[test]
    fn the_originals_flags_may_be_abbreviated_and_repeated() {
        let words = ["--app", "a", "--mon=m", "--not", "old", "--notification-config=-n", "--auto"];
        let arguments = parse(&words).unwrap();
        let path = |name: &str| Some(PathBuf::from(name));
        assert_eq!(
            arguments.files(),
            Files { applications: path("a"), monitors: path("m"), notifications: path("-n") }
        );
        assert_eq!(arguments.labels(), [LabelBy::Program]);
        assert_eq!(parse(&[]).unwrap().labels(), []);
        let labels = parse(&["--group-by", "unit", "--auto-group"]).unwrap().labels();
        assert_eq!(labels, [LabelBy::Unit, LabelBy::Program]);
    }

    #[test]
    fn a_page_is_on_loopback_unless_told_otherwise() {
        let address = |value: &str| parse(&["--serve", value]).ok()?.serve;
        assert_eq!(address("8000"), Some("127.0.0.1:8000".parse().unwrap()));
        assert_eq!(address("0.0.0.0:80"), Some("0.0.0.0:80".parse().unwrap()));
        assert_eq!(address("[::1]:80"), Some("[::1]:80".parse().unwrap()));
        for bad in ["", "0", "65536", "x", "localhost:80", "127.0.0.1", "127.0.0.1:0", "::1:80"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
