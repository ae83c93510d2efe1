//! The sysctls of connection tracking, which show whether it can count here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ACCOUNTING: &str = "sys/net/netfilter/nf_conntrack_acct";
const ENTRIES: &str = "sys/net/netfilter/nf_conntrack_count";
const EVENTS: &str = "sys/net/netfilter/nf_conntrack_events";
const BUCKETS: &str = "sys/net/netfilter/nf_conntrack_buckets";

/// Values in `/proc/sys/net/netfilter`, for the network namespace of the thread that reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sysctls {
    /// Whether new flows get counters (`nf_conntrack_acct`); `None` if the kernel has no connection
    /// tracking.
    pub accounting: Option<bool>,
    /// Number of entries in the table (`nf_conntrack_count`). It stays 0 until a rule needs the
    /// state of connections: the kernel doesn't track before.
    pub entries: Option<u64>,
    /// Whether the starts and ends of flows are announced (`nf_conntrack_events`); `None` if the
    /// kernel doesn't report it.
    pub announced: Option<bool>,
    /// Number of buckets of the hash table, which all network namespaces share
    /// (`nf_conntrack_buckets`).
    pub buckets: Option<u64>,
}

/// Reads the values through the procfs that is mounted at `proc`. Unreadable ones are `None`.
pub(crate) fn read(proc: &Path) -> Sysctls {
    let number = |name| fs::read_to_string(proc.join(name)).ok()?.trim().parse::<u64>().ok();
    let switch = |name| number(name).map(|on| on != 0);
    Sysctls {
        accounting: switch(ACCOUNTING),
        entries: number(ENTRIES),
        announced: switch(EVENTS),
        buckets: number(BUCKETS),
    }
}

/// Switches accounting on in this network namespace, for flows that start later.
///
/// # Errors
/// The path, and the error of opening or writing it: the kernel has no connection tracking, or the
/// user may not write.
pub(crate) fn enable_accounting(proc: &Path) -> Result<(), (PathBuf, io::Error)> {
    let path = proc.join(ACCOUNTING);
    // Opened for writing only: the file must not be created where it is missing, and procfs has no
    // truncation.
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"1\n"))
        .map_err(|error| (path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_connection_tracking_has_no_state() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(read(nowhere), Sysctls::default());
        let (path, error) = enable_accounting(nowhere).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(path.ends_with("nf_conntrack_acct"));
    }

    #[test]
    fn the_numbers_are_read_and_accounting_is_written() {
        let proc = std::env::temp_dir().join(format!("bwmon-state-{}", std::process::id()));
        fs::create_dir_all(proc.join("sys/net/netfilter")).unwrap();
        fs::write(proc.join(ACCOUNTING), "0\n").unwrap();
        fs::write(proc.join(ENTRIES), "217\n").unwrap();
        let before = read(&proc);
        enable_accounting(&proc).unwrap();
        let after = read(&proc);
        fs::remove_dir_all(&proc).unwrap();
        let expected =
            Sysctls { accounting: Some(false), entries: Some(217), announced: None, buckets: None };
        assert_eq!(before, expected);
        assert_eq!(after, Sysctls { accounting: Some(true), ..before });
    }
}
