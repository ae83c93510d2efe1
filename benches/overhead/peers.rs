//! Who is measured.

use crate::watcher::{BANDWHICH, Peer, RUNMONITOR, UNWATCHED};

pub(crate) static PEERS: [Peer; 5] = [
    UNWATCHED,
    Peer { name: "ebpf", program: Some(RUNMONITOR), arguments: "--source ebpf" },
    Peer { name: "conntrack", program: Some(RUNMONITOR), arguments: "--source conntrack" },
    // All devices, loopback too, and not only TCP.
    Peer { name: "nethogs", program: Some("nethogs"), arguments: "-t -a -C" },
    BANDWHICH,
];
