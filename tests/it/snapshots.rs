//! The library's snapshots of real traffic: every byte stands in them once, and none that stood in one is missing in
//! a later one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use bwmon::model::traffic::Traffic;
use bwmon::model::{Account, Snapshot, SourceChoice};
use bwmon::monitor::{Monitor, Options};
use bwmon::netns::NetnsChoice;
use testbed::bytes::Bytes;
use testbed::endpoint::Endpoint;
use testbed::netns::{Net, PEER4};
use testbed::truth::{Count, Truth, came_in_time_wait};
use testbed::wait::eventually;

/// Sums up snapshots, and looks whether they go together.
#[derive(Default)]
struct Sum {
    seq: u64,
    before: Traffic,
    recent: Traffic,
    elapsed: Duration,
    rows: Vec<(Vec<u8>, Account)>,
}

impl Sum {
    fn add(&mut self, snapshot: &Snapshot) {
        assert_eq!(snapshot.seq, self.seq + 1);
        assert_eq!(snapshot.sum(), snapshot.counted, "{snapshot:?}");
        let total = snapshot.counted.total;
        assert!((self.before - total).is_zero(), "{total:?} after {:?}", self.before);
        for (name, account) in &self.rows {
            let row = snapshot.rows.iter().find(|row| *row.name == **name);
            let now = row.map(|row| row.account.total).unwrap_or_default();
            assert!((account.total - now).is_zero(), "{snapshot:?} after {account:?}");
        }
        self.seq = snapshot.seq;
        self.before = total;
        self.recent += snapshot.counted.recent;
        self.elapsed += snapshot.elapsed;
        let row = |row: &bwmon::model::Row| (row.name.to_vec(), row.account);
        self.rows = snapshot.rows.iter().map(row).collect();
    }
}

fn add_up(source: SourceChoice) {
    let Some(net) = Net::new() else { return };
    let truth = Truth::start(&net.watched, &[Count::client("all", "tcp", 9000)]);
    let _server = Endpoint::start(&net, &net.peer, "far", "tcp-server mode=threaded port=9000");
    let role = |end| format!("tcp-churn host={PEER4} port=9000 count=100 up=3000 down=2000 {end}");
    let mut clients = ["", "reset"].map(|end| Endpoint::start(&net, &net.watched, "c", &role(end)));
    let options =
        Options { source, netns: NetnsChoice::Own, lookback: false, ..Options::default() };
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut sum = Sum::default();
    scope(|threads| {
        let watching = threads.spawn(|| {
            net.watched.inside(|| {
                let begin = Instant::now();
                let mut monitor = Monitor::open(&options).unwrap();
                let mut after = 0;
                for snapshot in monitor.snapshots(Duration::from_millis(200)) {
                    sum.add(&snapshot.unwrap());
                    begun.store(true, Ordering::Release);
                    // Long enough for what the kernel tells late.
                    after += u32::from(done.load(Ordering::Acquire));
                    if after > 15 {
                        break;
                    }
                }
                assert!(sum.elapsed <= begin.elapsed());
            });
        });
        eventually("there is a snapshot", || begun.load(Ordering::Acquire));
        clients.iter_mut().for_each(Endpoint::begin);
        clients.iter_mut().for_each(|client| {
            client.done();
        });
        clients.into_iter().for_each(Endpoint::quit);
        done.store(true, Ordering::Release);
        watching.join().unwrap();
    });
    assert_eq!(sum.recent, sum.before, "nothing was counted before the start");
    if source != SourceChoice::Sockets {
        let all = truth.settled()["all"];
        let counted = Bytes::new(sum.before.received, sum.before.sent);
        // The clients close first. Conntrack has what no socket has.
        let missing = Bytes::new(
            all.received.saturating_sub(counted.received),
            all.sent.saturating_sub(counted.sent),
        );
        let may_be = source == SourceChoice::Ebpf && came_in_time_wait(missing, 20, 32);
        assert!(counted == all || counted + missing == all && may_be, "{counted}, of {all}");
    }
}

#[test]
fn ebpf_adds_up() {
    add_up(SourceChoice::Ebpf);
}

#[test]
fn conntrack_adds_up() {
    add_up(SourceChoice::Conntrack);
}

#[test]
fn sockets_add_up() {
    add_up(SourceChoice::Sockets);
}
