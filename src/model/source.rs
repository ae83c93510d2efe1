//! Sources: where bytes are counted.

use std::fmt;
use std::str::FromStr;

/// A source of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Connection tracking: IP bytes of every flow.
    Conntrack,
    /// The TCP sockets themselves: payload bytes.
    Sockets,
    /// eBPF programs: IP bytes of every socket.
    Ebpf,
}

/// The source that the user chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// [`SourceKind::Conntrack`].
    Conntrack,
    /// [`SourceKind::Sockets`].
    Sockets,
    /// [`SourceKind::Ebpf`].
    Ebpf,
    /// The first of eBPF, conntrack and sockets that works here.
    #[default]
    Auto,
}

impl SourceChoice {
    /// All choices, in the order of `--help`.
    pub const ALL: [SourceChoice; 4] =
        [SourceChoice::Ebpf, SourceChoice::Conntrack, SourceChoice::Sockets, SourceChoice::Auto];

    /// Their names, in the same order.
    pub(crate) const NAMES: [&'static str; 4] = {
        let [a, b, c, d] = SourceChoice::ALL;
        [a.name(), b.name(), c.name(), d.name()]
    };

    /// The name in flags, files and messages.
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
    /// The name in flags, files and messages.
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

    /// The choice with that [name](SourceChoice::name).
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
