//! Who is measured.

use testbed::bench::watcher::{BANDWHICH, Peer, UNWATCHED};

use crate::RUNMONITOR;

pub(crate) const OURS: &str = "runmonitor";

pub(crate) static PEERS: [Peer; 4] = [
    Peer {
        name: OURS,
        program: Some(RUNMONITOR.path),
        arguments: "--source conntrack --unattributed",
        is_ours: true,
    },
    Peer { name: "nethogs", program: Some("nethogs"), arguments: "-t", is_ours: false },
    BANDWHICH,
    UNWATCHED,
];
