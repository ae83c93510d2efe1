//! Who is measured.

use crate::common::this_program;
use crate::watcher::{BANDWHICH, Peer, RUNMONITOR, UNWATCHED};

pub(crate) static PEERS: [Peer; 5] = [
    UNWATCHED,
    Peer { name: "ebpf", program: Some(RUNMONITOR), arguments: "--source ebpf" },
    Peer { name: "conntrack", program: Some(RUNMONITOR), arguments: "--source conntrack" },
    // All devices, loopback too, and not only TCP.
    Peer { name: "nethogs", program: Some("nethogs"), arguments: "-t -a -C" },
    BANDWHICH,
];

/// Programs that do nothing, at the hooks of the source `ebpf`: this very program has them there.
pub(crate) fn hooks() -> anyhow::Result<&'static Peer> {
    let program = Some(&*String::leak(this_program()?));
    Ok(Box::leak(Box::new(Peer { name: "hooks", program, arguments: "hooks" })))
}
