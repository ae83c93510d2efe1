//! Tests in a process of their own: alone in it, or in a control group of their own as well.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

use crate::leftovers::PREFIX;
use crate::requirements::namespaces_are_possible;
use crate::wait::{DEADLINE, until};

/// What the process of its own has in its environment.
const APART: &str = "BWMON_TEST_APART";

/// Whether this is the process of its own for the test that calls. Else the test has been run in one.
pub fn alone() -> bool {
    if std::env::var_os(APART).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    again(command.env(APART, ""));
    false
}

/// As [`alone`], in a control group of its own. A path instead of `/proc` by which programs are attached there and
/// not at the root of the hierarchy, so that they see no socket of others; `None` in the process that has waited,
/// and where such tests can't run.
pub fn in_own_cgroup() -> Option<PathBuf> {
    if let Some(proc) = std::env::var_os(APART) {
        return Some(proc.into());
    }
    if !namespaces_are_possible() {
        return None;
    }
    // Without a namespace of the caller's: who waits for its turn must not hold one.
    let group = Group::new();
    let mut command = Command::new("sh");
    let script = format!("echo $$ > '{}/cgroup.procs'; exec \"$0\" \"$@\"", group.path.display());
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).env(APART, &group.proc);
    again(&mut command);
    None
}

/// Runs the test that calls by this command.
fn again(command: &mut Command) {
    let thread = thread::current();
    let name = thread.name().expect("a test has a thread of its name");
    command.args(["--exact", name, "--test-threads=1", "--nocapture"]);
    let run = command.output().unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    let passed = run.status.success() && output.contains("1 passed");
    assert!(passed, "{output}\n{}", String::from_utf8_lossy(&run.stderr));
}

/// A control group, and a directory in which it is mounted in the place of all; both removed when dropped.
struct Group {
    path: PathBuf,
    proc: PathBuf,
}

impl Group {
    fn new() -> Group {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-apart{number}", process::id());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_all = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let of_all = of_all.expect("cgroup v2 is mounted");
        let point = of_all.split(' ').nth(4).unwrap();
        let group =
            Group { path: Path::new(point).join(&name), proc: std::env::temp_dir().join(name) };
        fs::create_dir(&group.path).unwrap();
        fs::create_dir_all(group.proc.join("self")).unwrap();
        let own = of_all.replacen(&format!(" {point} "), &format!(" {} ", group.path.display()), 1);
        fs::write(group.proc.join("self/mountinfo"), own + "\n").unwrap();
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it takes a moment to be gone.
        until(DEADLINE, || fs::remove_dir(&self.path).is_ok());
        let _ = fs::remove_dir_all(&self.proc);
    }
}
