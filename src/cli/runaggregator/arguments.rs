//! The flags of `runaggregator`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::PROGRAM;
use crate::cli::forwarding::drain_timeout;
use crate::cli::output::Output;
use crate::cli::schedule::Refreshes;
use crate::cli::top::Top;
use crate::cli::view::View;
use crate::config::Files;
use crate::config::monitor::SOURCE;
use crate::model::SourceChoice;
use crate::netns::NetnsChoice;
use crate::processes::LabelBy;

/// Shows how much each application receives and sends, over all monitors and pipes, and notifies
/// when it is too much.
///
/// Every refresh prints a line for each application that used more than 1 KiB per second, the
/// busiest last: KiB per second received / sent -- application. Without files it monitors every
/// process, and each command line is an application. On SIGHUP it reads the files again.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM, version, infer_long_args = true, args_override_self = true)]
pub struct Arguments {
    /// File with the applications: which processes share a line
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub app_config: Option<PathBuf>,

    /// File with the monitors and pipes
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub monitor_config: Option<PathBuf>,

    /// File with the notifications about the traffic of applications
    ///
    /// In commands that a shell reads, write "$BWMON_APP", with the quotes, instead of {app}: a process
    /// chooses its own name, and {app} reduces it to letters, digits and _.:-. A command with {app}
    /// needs a working directory in which no other user can create files. If root runs the
    /// program, a file must belong to root or to the user who called sudo, and nobody else may be
    /// able to write it.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub notification_config: Option<PathBuf>,

    /// Group processes by the name of their program if no rule of --app-config matches them
    #[arg(long)]
    pub auto_group: bool,

    /// Group processes by this attribute if no rule of --app-config matches them. Processes without
    /// it follow --auto-group
    #[arg(long, value_enum, value_name = "WHAT")]
    pub group_by: Option<GroupBy>,

    /// Also show applications that used 1 KiB per second or less
    #[arg(long)]
    pub all: bool,

    /// As the key `source`.
    #[arg(long, value_enum, default_value_t, help = SOURCE.help)]
    pub source: SourceChoice,

    /// Network namespaces to watch
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub netns: NetnsChoice,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub refreshes: Refreshes,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: Output,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub view: View,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub top: Top,

    /// Also show bytes without a known process, a line for each reason
    #[arg(long)]
    pub unattributed: bool,

    /// Serve a web page with the last minute on this port of 127.0.0.1, or on this address and port
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = page_address)]
    pub serve: Option<SocketAddr>,

    /// Check the files, print the resulting configuration, and exit
    #[arg(long)]
    pub check_config: bool,

    /// After Ctrl-C, wait at most this long for open connections and running commands
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
    /// The effective user
    User,
    /// The systemd unit
    Unit,
    /// The container
    Container,
    /// The path of the executable file
    Exe,
}

impl Arguments {
    /// The configuration files.
    pub(super) fn files(&self) -> Files {
        Files {
            applications: self.app_config.clone(),
            monitors: self.monitor_config.clone(),
            notifications: self.notification_config.clone(),
        }
    }

    /// The attributes that label processes.
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
