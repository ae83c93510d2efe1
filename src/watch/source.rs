//! Where bytes are counted.

use std::fmt;
use std::str::FromStr;

/// Where bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
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
    /// [`Source::Conntrack`].
    Conntrack,
    /// [`Source::Sockets`].
    Sockets,
    /// [`Source::Ebpf`].
    Ebpf,
    /// eBPF where it is allowed, else conntrack where it counts, else sockets.
    #[default]
    Auto,
}

impl FromStr for SourceChoice {
    type Err = ();

    /// `ebpf`, `conntrack`, `sockets` or `auto`.
    fn from_str(name: &str) -> Result<SourceChoice, ()> {
        match name {
            "conntrack" => Ok(SourceChoice::Conntrack),
            "sockets" => Ok(SourceChoice::Sockets),
            "ebpf" => Ok(SourceChoice::Ebpf),
            "auto" => Ok(SourceChoice::Auto),
            _ => Err(()),
        }
    }
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceChoice::Conntrack => Source::Conntrack.fmt(f),
            SourceChoice::Sockets => Source::Sockets.fmt(f),
            SourceChoice::Ebpf => Source::Ebpf.fmt(f),
            SourceChoice::Auto => f.write_str("auto"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Conntrack => "conntrack",
            Source::Sockets => "sockets",
            Source::Ebpf => "ebpf",
        })
    }
}
