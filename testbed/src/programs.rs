//! The scripts and the compiled program that tests run as processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter by its path: a version manager's shim would fork.
pub const PYTHON: &str = "/usr/bin/python3";

/// A script of the folder `programs`.
#[derive(Clone, Copy)]
pub struct Script {
    /// Its name there, and in a test's directory.
    pub name: &'static str,
    text: &'static str,
}

macro_rules! script {
    ($name:literal) => {
        Script { name: $name, text: include_str!(concat!("../programs/", $name)) }
    };
}

/// Roles of clients and servers; see [`crate::endpoint`].
pub const WORKLOAD: Script = script!("workload.py");
/// Clients and servers of MPTCP, with subflows that come and go.
pub const MPTCP: Script = script!("mptcp.py");
/// Processes that rename themselves, call exec, fork and end.
pub const NAMES: Script = script!("names.py");
/// One ping through a ping socket or a raw one.
pub const PING_ONCE: Script = script!("ping_once.py");
/// A program in a mount namespace with a FUSE file system of another user's.
pub const FUSE: Script = script!("fuse.py");

impl Script {
    /// Puts the script into a directory, where every user may read it, if it isn't there: some may be reading it.
    pub fn put(self, directory: &Path) {
        let path = directory.join(self.name);
        if !path.exists() {
            fs::write(&path, self.text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// The program of `short.c` and `calls.c`, which `build.rs` has compiled.
pub fn short() -> &'static Path {
    let program = Path::new(concat!(env!("OUT_DIR"), "/short"));
    let said = || fs::read_to_string(program.with_extension("stderr")).unwrap_or_default();
    assert!(program.exists(), "short.c is not compiled: {}", said());
    program
}

/// A copy of a program in a directory, where every user may run it: the build directory may lie where only root may go.
pub fn copy(program: impl AsRef<Path>, directory: &Path) -> PathBuf {
    let program = program.as_ref();
    let copy = directory.join(program.file_name().unwrap());
    if !copy.exists() {
        // By another process: a file that a test's thread has open for writing may be inherited by what
        // another thread starts, and can't be executed for that moment.
        let mut install = Command::new("install");
        let status = install.args(["-m", "755"]).arg(program).arg(&copy).status().unwrap();
        assert!(status.success(), "no copy of {} at {}", program.display(), copy.display());
    }
    copy
}
