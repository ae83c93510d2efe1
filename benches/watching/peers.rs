//! Who is measured.

use crate::watcher::{BANDWHICH, Peer, RUNMONITOR, UNWATCHED};

pub(crate) const OURS: &str = "runmonitor";

pub(crate) static PEERS: [Peer; 4] = [
    Peer { name: OURS, program: Some(RUNMONITOR), arguments: "--source conntrack --unattributed" },
    Peer { name: "nethogs", program: Some("nethogs"), arguments: "-t" },
    BANDWHICH,
    UNWATCHED,
];
