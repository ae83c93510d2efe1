//! A network namespace in which connections are tracked, and its end.

use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::common::{Piped, delete_namespace, inside, run, this_program, until_closed};

/// Any rule that asks for a connection's state makes the kernel track in a namespace.
const TRACK: &str = "add table inet bench { chain track { \
    type filter hook input priority 0; ct state new; }; }";

/// What the namespace itself is set to: counters, and entries that outlive the measurements.
const SETTINGS: [(&str, &str); 4] = [
    ("nf_conntrack_acct", "1"),
    ("nf_conntrack_udp_timeout", "7200"),
    ("nf_conntrack_udp_timeout_stream", "7200"),
    ("nf_conntrack_tcp_timeout_established", "7200"),
];
const NETFILTER: &str = "/proc/sys/net/netfilter";
/// One for all namespaces, and only the initial one may set it.
const MAXIMUM: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// A namespace, for as long as this lives.
pub(crate) struct Namespace {
    /// The file that stands for it.
    pub(crate) path: String,
    /// Ends it, also where this program was killed.
    _janitor: Piped,
}

impl Namespace {
    /// With room for so many entries.
    pub(crate) fn tracking(entries: usize) -> anyhow::Result<Namespace> {
        let maximum = raise_maximum(entries + entries / 10)?;
        let name = format!("bwmon-bench-{}", std::process::id());
        let namespace = Namespace::begin(&name, &maximum)?;
        let path = &namespace.path;
        run(inside(path, "nft").arg(TRACK))?;
        run(inside(path, &this_program()?).arg("prepare"))?;
        Ok(namespace)
    }

    /// Where nothing is tracked.
    pub(crate) fn begin(name: &str, maximum: &str) -> anyhow::Result<Namespace> {
        // First of all: from here on it all goes away with this process.
        let janitor = Piped::spawn(&["janitor", name, maximum], None)?;
        let path = format!("/run/netns/{name}");
        run(Command::new("ip").args(["netns", "add", name]))?;
        run(inside(&path, "ip").args(["link", "set", "lo", "up"]))?;
        Ok(Namespace { path, _janitor: janitor })
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

/// Deletes the namespace, and with it its entries, and puts the maximum back.
pub(crate) fn janitor(name: &str, maximum: &str) -> anyhow::Result<()> {
    until_closed()?;
    delete_namespace(name)?;
    if !maximum.is_empty() {
        fs::write(MAXIMUM, maximum)?;
    }
    Ok(())
}

/// Sets the namespace in which it runs.
pub(crate) fn prepare() -> anyhow::Result<()> {
    for (name, value) in SETTINGS {
        let path = format!("{NETFILTER}/{name}");
        fs::write(&path, value).context(path)?;
    }
    Ok(())
}
