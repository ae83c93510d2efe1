//! A `/proc` for tests that has only the processes of one test.
//!
//! Between fork and exec, the children of other tests hold copies of all sockets of the test process; and a
//! host may have so many descriptors that a search ends before it comes to those of the test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of links to some of the directories in `/proc`; removed when dropped.
#[derive(Debug)]
pub(super) struct Few(PathBuf);

impl Few {
    /// The test process alone.
    pub(super) fn new() -> Few {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let own = std::process::id();
        let name = format!("bwmon-few-{own}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let few = Few(std::env::temp_dir().join(name));
        fs::create_dir(&few.0).unwrap();
        few.add(own);
        symlink(own.to_string(), few.0.join("self")).unwrap();
        few
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Another process.
    pub(super) fn add(&self, pid: u32) {
        let link = self.0.join(pid.to_string());
        if fs::symlink_metadata(&link).is_err() {
            symlink(format!("/proc/{pid}"), link).unwrap();
        }
    }

    /// Takes the processes out that are no more, as `/proc` does by itself.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.0).unwrap().flatten() {
            if fs::metadata(entry.path()).is_err() {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// All processes that are now in this process group.
    pub(super) fn add_group(&self, group: u32) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // Behind the name in parentheses: the state, the parent, the group.
            let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' '));
            if fields.and_then(|mut fields| fields.nth(2)) == Some(&group.to_string()) {
                self.add(pid);
            }
        }
    }
}

impl Drop for Few {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
