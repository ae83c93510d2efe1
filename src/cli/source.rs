//! The values of `--source` and `--netns`.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::model::SourceChoice;
use crate::netns::NetnsChoice;

impl ValueEnum for SourceChoice {
    fn value_variants<'a>() -> &'a [SourceChoice] {
        &SourceChoice::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            SourceChoice::Ebpf => "IP bytes of every socket, counted by eBPF programs",
            SourceChoice::Conntrack => "IP bytes of every tracked flow, from connection tracking",
            SourceChoice::Sockets => "Payload bytes of TCP, from the sockets themselves",
            SourceChoice::Auto => "eBPF if it is allowed, else conntrack, else sockets",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for NetnsChoice {
    fn value_variants<'a>() -> &'a [NetnsChoice] {
        &[NetnsChoice::All, NetnsChoice::Own]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            NetnsChoice::All => {
                PossibleValue::new("all").help("Those of all processes, including containers")
            }
            NetnsChoice::Own => PossibleValue::new("own").help("Only that of the program itself"),
        })
    }
}

/// What eBPF doesn't count if its programs can't read the kernel's structures, and why they can't.
pub(super) const UNREAD_KERNEL: &str = "what packet sockets send and packets without a socket are not counted, and \
    short Multipath TCP connections have no process, because eBPF can't read this kernel's structures (no BTF, or \
    lockdown)";
/// The fix.
pub(super) const MEND_UNREAD_KERNEL: &str = "use a kernel that has /sys/kernel/btf/vmlinux \
    (CONFIG_DEBUG_INFO_BTF) and is not booted with lockdown=confidentiality";
