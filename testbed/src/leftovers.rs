//! What tests leave on a host that they share: its names, and what becomes of it when they are killed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use crate::netns::{NAMESPACES, delete_namespace};

/// Names of namespaces, directories, control groups and locks begin so; then comes the number of the test process.
pub const PREFIX: &str = "bwmon-it";

/// Where control groups of tests may be.
const CGROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"];

/// Deletes namespaces, directories and control groups of test processes that are no more.
pub(crate) fn sweep() {
    let dead = |name: &str| {
        name.strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-')?.split('-').next()?.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    for group in CGROUPS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        if group.file_name().to_str().is_some_and(dead) {
            // Those below first; one that somebody is in stays.
            for below in fs::read_dir(group.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(below.path());
            }
            let _ = fs::remove_dir(group.path());
        }
    }
    for folder in [Path::new(NAMESPACES), &std::env::temp_dir()] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| dead(name)) else { continue };
            if folder == Path::new(NAMESPACES) {
                delete_namespace(name);
            } else {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// A directory of a test that needs no namespaces, removed when dropped.
pub struct Dir(pub PathBuf);

impl Dir {
    /// An empty one.
    pub fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("{PREFIX}-{}-dir{number}", process::id()));
        fs::create_dir(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
