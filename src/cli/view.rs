//! What of the traffic is shown, and how it is grouped: the flags `--by`, `--details`, `--pid` and `--user`.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use nix::unistd::{Uid, User};

use super::output::{FormatChoice, Output};
use crate::by::{By, Names, grouped};
use crate::model::Snapshot;
use crate::model::traffic::Name;
use crate::monitor::Options;
use crate::resolve::Resolver;
use crate::selection::Only;
use crate::services::Services;

// Doc comments would replace the program's description in its help.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, Args)]
pub struct Grouped {
    /// Group rows by this, or by several together: --by unit,interface
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub by: Vec<By>,

    /// Add to each row its remote ends, by protocol, port and interface (JSON)
    #[arg(long)]
    pub details: bool,

    /// Show names of remote hosts and of ports instead of addresses and numbers, with --by and --top. Reverse look-ups
    /// ask the name servers of this host
    #[arg(long)]
    pub resolve: bool,
}

#[allow(missing_docs)]
#[derive(Clone, Debug, Default, Args)]
pub struct View {
    #[command(flatten)]
    pub grouped: Grouped,

    /// Show only the process with this pid; may be repeated
    #[arg(short = 'p', long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,

    /// Show only processes of this user, by name or number; may be repeated
    #[arg(long = "user", value_name = "USER", value_parser = user)]
    pub users: Vec<String>,
}

/// The names that the system gives.
#[derive(Debug)]
struct HostNames {
    resolver: Resolver,
    services: Services,
}

impl Names for HostNames {
    fn host(&self, address: IpAddr) -> Option<Arc<str>> {
        self.resolver.name(address)
    }

    fn service(&self, protocol: u8, port: u16) -> Option<&str> {
        self.services.name(protocol, port)
    }
}

/// Flags that exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--details is for --format json; to list remote ends as text or CSV: --by command,remote")]
pub(super) struct ViewError;

impl Grouped {
    /// Checks that the flags don't exclude each other.
    ///
    /// # Errors
    /// They do.
    pub(super) fn check(&self, output: Output) -> Result<(), ViewError> {
        if self.details && output.format != FormatChoice::Json {
            return Err(ViewError);
        }
        Ok(())
    }

    /// Adds to the options of a monitor what the flags need.
    pub(super) fn add_to(&self, options: &mut Options) {
        options.details |= self.details || self.by.iter().any(|by| by.needs_details());
        options.attributes |= self.by.iter().any(|by| by.needs_attributes());
    }

    /// Names of remote hosts and ports, if they are asked for.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn names(&self) -> anyhow::Result<Option<Arc<dyn Names>>> {
        if !self.resolve {
            return Ok(None);
        }
        let resolver = Resolver::new().context("no thread for look-ups can be had")?;
        // Without the file, ports have no names.
        let services = Services::read().unwrap_or_default();
        Ok(Some(Arc::new(HostNames { resolver, services })))
    }

    /// Groups the rows of a snapshot, if that is asked for.
    pub(super) fn group(&self, snapshot: &mut Snapshot, names: Option<&dyn Names>) {
        if !self.by.is_empty() {
            snapshot.rows = grouped(snapshot, &self.by, names);
            if !self.details {
                snapshot.rows.iter_mut().for_each(|row| row.details.clear());
            }
        }
    }
}

impl View {
    /// See [`Grouped::add_to`].
    pub(super) fn add_to(&self, options: &mut Options) {
        self.grouped.add_to(options);
        options.attributes |= !self.users.is_empty();
        let users = self.users.iter().map(|user| Name::from(user.as_bytes()));
        options.only = Only { pids: self.pids.clone(), users: users.collect() };
    }
}

/// The value of `--user`: the user's name, or the number if it has none.
fn user(value: &str) -> Result<String, String> {
    if let Ok(number) = value.parse::<u32>() {
        let found = User::from_uid(Uid::from_raw(number)).ok().flatten();
        return Ok(found.map_or_else(|| number.to_string(), |user| user.name));
    }
    match User::from_name(value) {
        Ok(Some(user)) => Ok(user.name),
        _ => Err("there is no such user; a name or a number of `getent passwd` is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number() {
        assert_eq!(user("root").as_deref(), Ok("root"));
        assert_eq!(user("0").as_deref(), Ok("root"));
        assert_eq!(user("4000000000").as_deref(), Ok("4000000000"));
        assert!(user("nobody-has-this-name").is_err());
        assert!(user("").is_err() && user("-1").is_err());
    }

    #[test]
    fn what_is_read_is_what_the_flags_need() {
        let options = |by: &[By], users: &[&str]| {
            let users = users.iter().map(|user| user.to_string()).collect();
            let mut options = Options::default();
            let grouped = Grouped { by: by.to_vec(), ..Grouped::default() };
            View { grouped, users, ..View::default() }.add_to(&mut options);
            (options.details, options.attributes, options.only.users.len())
        };
        assert_eq!(options(&[], &[]), (false, false, 0));
        assert_eq!(options(&[By::Command], &["root"]), (false, true, 1));
        assert_eq!(options(&[By::Remote], &[]), (true, false, 0));
        assert_eq!(options(&[By::Unit, By::Interface], &[]), (true, true, 0));
    }
}
