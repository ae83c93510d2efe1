//! A network namespace and a directory for files, and their end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, set_child_subreaper, setrlimit};
use testbed::bench::roles::this_program;
use testbed::bench::tracked::Kept;

/// What the namespace is set to. A connection for each request leaves two that linger for a minute:
/// there must be ports for the next ones, and the table must not overflow, or a connection's end
/// would cost less as soon as it does.
const SETTINGS: [(&str, &str); 3] = [
    ("ip_local_port_range", "10000 65535"),
    ("tcp_tw_reuse", "1"),
    ("tcp_max_tw_buckets", "262144"),
];

/// Where the forwarder listens: below the ports that clients get. Always the same, so that
/// connections which linger are as many for everybody.
pub(crate) const FORWARDER: u16 = 5001;
/// Where a second forwarder listens, if there is one.
pub(crate) const SECOND: u16 = 5002;
/// Where servers listen.
pub(crate) const BULK: u16 = 5201;
pub(crate) const WEB: u16 = 8080;
pub(crate) const ECHO: u16 = 7007;

/// Where everything takes place.
pub(crate) struct Stage {
    /// The file that stands for the namespace.
    pub(crate) path: String,
    /// For configurations and what programs say.
    pub(crate) directory: PathBuf,
    pub(crate) cores: usize,
}

impl Stage {
    /// Sets the namespace in which this runs, and the limits that others inherit.
    pub(crate) fn prepare(path: &str, directory: &str) -> anyhow::Result<Stage> {
        for (name, value) in SETTINGS {
            let path = Path::new("/proc/sys/net/ipv4").join(name);
            fs::write(&path, value).with_context(|| path.display().to_string())?;
        }
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
        // What a forwarder leaves behind when it is killed is waited for here.
        set_child_subreaper(Pid::from_raw(1))?;
        let cores = std::thread::available_parallelism()?.get();
        Ok(Stage { path: path.to_owned(), directory: directory.into(), cores })
    }
}

/// Runs this program again as `conduct`, in a namespace that ends with this process.
pub(crate) fn run_inside(words: &[&str]) -> anyhow::Result<ExitCode> {
    let name = format!("bwmon-pipe-{}", std::process::id());
    let directory = std::env::temp_dir().join(&name);
    let directory = directory.to_str().context("the temporary directory has no name in UTF-8")?;

    let kept = Kept::new(name.clone(), "", directory)?;
    fs::create_dir(directory).with_context(|| directory.to_owned())?;
    let path = kept.path().display().to_string();
    let conduct = ["conduct", &path, directory];
    let status = kept.command(this_program()).args(conduct).args(words).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
