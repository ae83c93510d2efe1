//! Who is measured.

use testbed::bench::roles::this_program;
use testbed::bench::watcher::{BANDWHICH, Peer, UNWATCHED};

use crate::RUNMONITOR;

pub(crate) static PEERS: [Peer; 5] = [
    UNWATCHED,
    Peer {
        name: "ebpf",
        program: Some(RUNMONITOR.path),
        arguments: "--source ebpf",
        is_ours: true,
    },
    Peer {
        name: "conntrack",
        program: Some(RUNMONITOR.path),
        arguments: "--source conntrack",
        is_ours: true,
    },
    // All devices, loopback too, and not only TCP.
    Peer { name: "nethogs", program: Some("nethogs"), arguments: "-t -a -C", is_ours: false },
    BANDWHICH,
];

/// Programs that do nothing, at the hooks of the source `ebpf`: this very program has them there.
pub(crate) fn hooks() -> &'static Peer {
    let program = Some(&*String::leak(this_program()));
    Box::leak(Box::new(Peer { name: "hooks", program, arguments: "hooks", is_ours: false }))
}
