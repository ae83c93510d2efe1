//! Whether connection tracking can count here at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ACCOUNTING: &str = "sys/net/netfilter/nf_conntrack_acct";
const ENTRIES: &str = "sys/net/netfilter/nf_conntrack_count";
const EVENTS: &str = "sys/net/netfilter/nf_conntrack_events";
const BUCKETS: &str = "sys/net/netfilter/nf_conntrack_buckets";

/// What `/proc/sys/net/netfilter` says of the network namespace of the thread that reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether new flows get counters (`nf_conntrack_acct`); `None` where the kernel has no
    /// connection tracking.
    pub accounting: Option<bool>,
    /// How many entries the table has (`nf_conntrack_count`). Without a rule that asks for the
    /// state of connections the kernel doesn't track, and the table stays empty.
    pub entries: Option<u64>,
    /// Whether the beginnings and ends of flows are announced (`nf_conntrack_events`); `None` where
    /// the kernel doesn't tell.
    pub announced: Option<bool>,
    /// How many buckets the hash table has, which all network namespaces share
    /// (`nf_conntrack_buckets`).
    pub buckets: Option<u64>,
}

/// Reads the state through the procfs that is mounted at `proc`.
pub fn read(proc: &Path) -> State {
    let number = |name| fs::read_to_string(proc.join(name)).ok()?.trim().parse::<u64>().ok();
    let switch = |name| number(name).map(|on| on != 0);
    State {
        accounting: switch(ACCOUNTING),
        entries: number(ENTRIES),
        announced: switch(EVENTS),
        buckets: number(BUCKETS),
    }
}

/// Switches accounting on in this network namespace, for the flows that begin from now on.
///
/// # Errors
/// If there is no connection tracking, or the user may not; with the path.
pub fn enable_accounting(proc: &Path) -> Result<(), (PathBuf, io::Error)> {
    let path = proc.join(ACCOUNTING);
    // Not created where it is missing, and opened for writing only: procfs has no truncation.
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
        assert_eq!(read(nowhere), State::default());
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
            State { accounting: Some(false), entries: Some(217), announced: None, buckets: None };
        assert_eq!(before, expected);
        assert_eq!(after, State { accounting: Some(true), ..before });
    }
}
