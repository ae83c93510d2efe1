//! Network namespaces of a bench, and their end.

use std::ops::Deref;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use std::{fs, process};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::roles::{Piped, until_closed};
use crate::netns::{NAMESPACES, Namespace};

/// How often what is left in a namespace is asked to end, and how long it has between.
const KILLS: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// What a namespace in which connections are tracked is set to: counters, and entries that outlive the
/// measurements.
const SETTINGS: [(&str, u32); 4] = [
    ("nf_conntrack_acct", 1),
    ("nf_conntrack_udp_timeout", 7200),
    ("nf_conntrack_udp_timeout_stream", 7200),
    ("nf_conntrack_tcp_timeout_established", 7200),
];
/// One for all namespaces, and only the initial one may set it.
const MAXIMUM: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// A namespace that is gone when the bench is, also where that was killed.
pub struct Kept {
    // Before the namespace, in the order in which they are dropped: it ends what still runs there.
    _janitor: Piped,
    namespace: Namespace,
}

impl Deref for Kept {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Kept {
    /// Where nothing is tracked. `maximum` is what `nf_conntrack_max` becomes in the end, and `directory` what is
    /// removed then, if there are any.
    ///
    /// # Errors
    ///
    /// If there is no janitor.
    pub fn new(name: String, maximum: &str, directory: &str) -> anyhow::Result<Kept> {
        // First of all: from here on it all goes away with this process.
        let janitor = Piped::spawn(&["janitor", &name, maximum, directory], None)?;
        Ok(Kept { _janitor: janitor, namespace: Namespace::plain(name) })
    }

    /// Where connections are tracked, with room for so many entries.
    ///
    /// # Errors
    ///
    /// If there is no janitor, or there can't be so many.
    pub fn tracking(entries: usize) -> anyhow::Result<Kept> {
        let maximum = raise_maximum(entries + entries / 10)?;
        let kept = Kept::new(format!("bwmon-bench-{}", process::id()), &maximum, "")?;
        kept.track();
        for (name, value) in SETTINGS {
            kept.set_sysctl(&format!("net.netfilter.{name}"), value);
        }
        Ok(kept)
    }
}

/// Makes room for `needed` entries. Returns what to set the maximum to afterwards; nothing if it
/// was high enough.
fn raise_maximum(needed: usize) -> anyhow::Result<String> {
    // Missing where the module is not loaded: the first rule will bring it. Whether it has room
    // enough by itself is seen by what there is afterwards.
    let Ok(before) = fs::read_to_string(MAXIMUM) else { return Ok(String::new()) };
    if before.trim().parse::<usize>()? >= needed {
        return Ok(String::new());
    }
    fs::write(MAXIMUM, needed.to_string()).context(MAXIMUM)?;
    Ok(before.trim().to_owned())
}

/// The role `janitor`: waits for the end of the bench, ends whatever runs in the namespace, deletes it, and with
/// it its entries, puts the maximum back, and removes the directory.
///
/// # Errors
///
/// If the words are not those of [`Kept::new`], or something is left.
pub fn janitor(words: &[&str]) -> anyhow::Result<()> {
    let [name, maximum, directory] = *words else { bail!("janitor: {words:?}") };
    until_closed()?;
    clear(name);
    if !maximum.is_empty() {
        fs::write(MAXIMUM, maximum)?;
    }
    if !directory.is_empty() && Path::new(directory).exists() {
        fs::remove_dir_all(directory).with_context(|| directory.to_owned())?;
    }
    Ok(())
}

/// Ends whatever runs in a namespace, and deletes it, if there is one of that name.
fn clear(name: &str) {
    if !Path::new(NAMESPACES).join(name).exists() {
        return;
    }
    let namespace = Namespace { name: name.to_owned() };
    for attempt in 0..KILLS {
        let left: Vec<i32> = namespace.pids().iter().flat_map(|pid| pid.parse()).collect();
        if left.is_empty() {
            break;
        }
        let signal = if attempt < KILLS / 2 { Signal::TERM } else { Signal::KILL };
        for pid in left.into_iter().flat_map(Pid::from_raw) {
            // It may have ended since.
            let _ = kill_process(pid, signal);
        }
        sleep(PAUSE);
    }
}
