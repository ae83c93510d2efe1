//! Recordings of real traffic: what a replay comes to is what the program has shown, refresh by refresh.
//!
//! With `BWMON_RECORD=1` they become the fixtures of `src/replay/tests.rs`, in `tests/fixtures/recordings`.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bwmon::replay::{Player, Replayed, Truth};
use testbed::bytes::Bytes;
use testbed::lines::beginnings;
use testbed::running::Running;
use testbed::workloads::comparison::Floor;
use testbed::workloads::{Played, Size, WORKLOADS, Workload};

use crate::RUNMONITOR;

/// How long the figures may take to come right.
const PATIENCE: Duration = Duration::from_secs(8);

/// Seconds between two refreshes: the shortest workloads have some.
const INTERVAL: &str = "0.3";

/// How often a workload is played until a recording is worth being kept.
const ATTEMPTS: u32 = 5;

fn is_to_be_kept() -> bool {
    std::env::var_os("BWMON_RECORD").is_some()
}

/// Records a workload and replays it.
fn record(source: &str, name: &str, floor: f64) {
    let workload = WORKLOADS.iter().copied().flatten().find(|workload| workload.name == name);
    let workload = *workload.expect("there is such a workload");
    // What it shows matters only where it is kept: `floors` sees to that otherwise.
    let workload = if is_to_be_kept() { workload } else { workload.crowded() };
    let counts_payload = source == "sockets";
    let attempts = if is_to_be_kept() && !counts_payload { ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        let Some(holds) = record_once(source, &workload, floor) else { return };
        if holds || !is_to_be_kept() {
            return;
        }
        assert!(attempt < attempts, "{source} {name}: not {floor} %, {attempts} times");
    }
}

/// Whether what was shown was worth being kept; `None` where it can't be played.
fn record_once(source: &str, workload: &Workload, floor: f64) -> Option<bool> {
    let mut running: Option<(Running, PathBuf)> = None;
    let mut played = workload.play(Size::Tiny, Some(source), |net| {
        let path = net.dir.join("recording");
        let record = ["--interval", INTERVAL, "--record", path.to_str().unwrap()];
        running = Some((workload.monitor_with(RUNMONITOR, net, source, &record), path));
    })?;
    let (mut running, path) = running.expect("it was started");
    let comparison = played.compare(&mut running, Floor::from(floor), source, PATIENCE);
    running.stop();
    let truth = truth(workload, source, floor, &played, comparison.sum);
    let mut file = File::options().append(true).open(&path).unwrap();
    writeln!(file, "{}", serde_json::json!({ "truth": truth })).unwrap();
    let replayed = replayed(&path);
    assert!(replayed.len() >= 3, "{} refreshes", replayed.len());
    for Replayed { recorded, replayed, .. } in &replayed {
        assert_eq!(recorded, replayed, "{source} {}: what was shown, and what is", workload.name);
    }
    let holds = source == "sockets" || comparison.holds(Floor::from(floor));
    if holds && is_to_be_kept() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
        fs::create_dir_all(&fixtures).unwrap();
        fs::copy(&path, fixtures.join(format!("{source}-{}.jsonl", workload.name))).unwrap();
    }
    Some(holds)
}

/// What nft has counted, of which so much was `shown`; it says nothing of payload.
fn truth(workload: &Workload, source: &str, floor: f64, played: &Played, shown: Bytes) -> Truth {
    let both = |bytes: Bytes| [bytes.received, bytes.sent];
    let owned = played.owned().into_iter().filter(|_| source != "sockets");
    let owners = owned.map(|(owner, bytes)| {
        let names = if owner.starts_with('(') { vec![owner] } else { beginnings(&owner).to_vec() };
        (names, both(bytes))
    });
    Truth {
        workload: workload.title.to_owned(),
        owners: owners.collect(),
        // The last packets of a connection may be missing: then this is not to be compared.
        sum: played.all().filter(|all| *all == shown).map(both),
        floor,
    }
}

fn replayed(path: &Path) -> Vec<Replayed> {
    let player = Player::open(BufReader::new(File::open(path).unwrap())).unwrap();
    player.map(Result::unwrap).collect()
}

macro_rules! recordings {
    ($source:ident: $($name:ident: $floor:expr,)*) => {
        mod $source {
            $(
                #[test]
                fn $name() {
                    super::record(stringify!($source), stringify!($name), $floor);
                }
            )*
        }
    };
}

recordings! { conntrack:
    churn: 99.0,
    resets: 99.0,
    reuse_reset: 99.0,
    reuse_close: 99.0,
    flush: 99.9,
    processes_5ms: 95.0,
    forking: 99.9,
    forking_short: 95.0,
    preforked: 99.9,
    preforked_short: 99.0,
    redirected: 99.9,
    accepted_late: 99.9,
    container_client: 99.9,
    container_tracks: 99.9,
    container_server_short: 99.0,
}

// Payload: nothing is compared with what nft has counted.
recordings! { sockets:
    churn: 0.0,
}

recordings! { ebpf:
    accepted_late: 99.9,
    churn: 99.9,
    forking: 99.9,
    forking_short: 99.0,
    preforked: 99.9,
    preforked_short: 99.0,
    processes_5ms: 99.0,
}
