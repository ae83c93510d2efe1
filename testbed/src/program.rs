//! The programs under test, and the ways in which tests start them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::lines::Refresh;
use crate::netns::{Namespace, Net};
use crate::programs;
use crate::running::Running;

/// Makes a program watch only the namespace in which it runs: the others of a test stand for other
/// hosts.
pub const OWN: [&str; 2] = ["--netns", "own"];

/// Options of `setpriv`: runs a command as nobody, without any privilege.
pub const NOBODY: &[&str] = &["--reuid=65534", "--regid=65534", "--clear-groups"];

/// A program of the package under test. Only cargo knows where it is: see [`program!`](crate::program!).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where cargo has put it.
    pub path: &'static str,
}

/// A program that cargo has built for the test or bench that calls; the name has to be a literal.
///
/// Elsewhere it doesn't compile: `CARGO_BIN_EXE_…` is set for tests and benches alone.
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        $crate::program::Program { path: env!(concat!("CARGO_BIN_EXE_", $name)) }
    };
}

impl AsRef<Path> for Program {
    fn as_ref(&self) -> &Path {
        self.path.as_ref()
    }
}

impl AsRef<OsStr> for Program {
    fn as_ref(&self) -> &OsStr {
        self.path.as_ref()
    }
}

impl Program {
    /// Where no namespace matters.
    pub fn here(self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path);
        command.args(args);
        command
    }

    /// In a namespace and watching only that, as root.
    pub fn inside(self, namespace: &Namespace, args: &[&str]) -> Command {
        self.anywhere(namespace, &[&OWN, args].concat())
    }

    /// In a namespace, watching what it watches by itself: every namespace of the host.
    pub fn anywhere(self, namespace: &Namespace, args: &[&str]) -> Command {
        let mut command = namespace.command(self);
        command.args(args);
        command
    }

    /// In the watched namespace and watching only that, through `setpriv` with these options.
    pub fn with_setpriv(self, net: &Net, setpriv: &[&str], args: &[&str]) -> Command {
        let mut command = net.watched.command("setpriv");
        command.args(setpriv).arg(programs::copy(self, &net.dir));
        command.args(OWN).args(args).current_dir(&net.dir);
        command
    }

    /// One refresh, which has to succeed.
    pub fn once(self, namespace: &Namespace, args: &[&str]) -> Refresh {
        let args = [&["--count", "1"], args].concat();
        Running::start(self.inside(namespace, &args)).finish().single_refresh()
    }

    /// Watching the watched namespace with this source, its first refresh done.
    pub fn watch(self, net: &Net, source: &str, args: &[&str]) -> Running {
        let args = [&["--source", source, "--interval", "0.2"], args].concat();
        let mut running = Running::start(self.inside(&net.watched, &args));
        running.begun();
        running
    }
}
