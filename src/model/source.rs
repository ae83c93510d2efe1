//! Where bytes are counted.

use std::fmt;
use std::str::FromStr;

/// Where bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// By connection tracking: IP bytes of every flow.
    Conntrack,
    /// By the TCP sockets themselves: payload bytes.
    Sockets,
    /// By programs in the kernel: IP bytes of every socket.
    Ebpf,
}

/// Which source is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// [`SourceKind::Conntrack`].
    Conntrack,
    /// [`SourceKind::Sockets`].
    Sockets,
    /// [`SourceKind::Ebpf`].
    Ebpf,
    /// eBPF where it is allowed, else conntrack where it counts, else sockets.
    #[default]
    Auto,
}

impl SourceChoice {
    /// All of them, in the order in which they are offered.
    pub const ALL: [SourceChoice; 4] =
        [SourceChoice::Ebpf, SourceChoice::Conntrack, SourceChoice::Sockets, SourceChoice::Auto];

    /// Their names, in the same order.
    pub(crate) const NAMES: [&'static str; 4] = {
        let [a, b, c, d] = SourceChoice::ALL;
        [a.name(), b.name(), c.name(), d.name()]
    };

    /// What flags, files and messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            SourceChoice::Conntrack => SourceKind::Conntrack.name(),
            SourceChoice::Sockets => SourceKind::Sockets.name(),
            SourceChoice::Ebpf => SourceKind::Ebpf.name(),
            SourceChoice::Auto => "auto",
        }
    }
}

impl SourceKind {
    /// What flags, files and messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            SourceKind::Conntrack => "conntrack",
            SourceKind::Sockets => "sockets",
            SourceKind::Ebpf => "ebpf",
        }
    }
}

impl FromStr for SourceChoice {
    type Err = ();

    /// The choice of that [name](SourceChoice::name).
    fn from_str(name: &str) -> Result<SourceChoice, ()> {
        SourceChoice::ALL.into_iter().find(|choice| choice.name() == name).ok_or(())
    }
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
