//! Thousands of clients.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testbed::bytes::Bytes;
use testbed::streams::{connect, exchange, finish};
use testbed::wait::eventually;

use super::Piped;

const DESCRIPTORS: u64 = 20_000;
const WRAPPER: [&str; 2] = ["prlimit", "--nofile=20000:20000"];
const OPTIONS: [&str; 2] = ["--interval", "0.1"];

/// As many as the test process may have; whether that is enough.
fn allow_descriptors() -> bool {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let enough = maximum.is_none_or(|maximum| maximum >= DESCRIPTORS);
    if !enough {
        testbed::requirements::skip("needs a hard limit of 20000 descriptors (ulimit -Hn)");
    }
    enough
}

/// This client's own message of a round, as long as any other's.
fn message(round: usize, number: usize) -> Vec<u8> {
    format!("{round} {number:05}").into_bytes()
}

fn got(mut stream: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn five_thousand_at_once_are_served_and_counted_exactly() {
    const CLIENTS: usize = 5_000;
    if !allow_descriptors() {
        return;
    }
    let mut piped = Piped::through(&WRAPPER, &OPTIONS);
    // Both sides in step, so that no backlog overflows.
    let mut ends: Vec<(TcpStream, TcpStream)> = Vec::new();
    while ends.len() < CLIENTS {
        let clients: Vec<_> = (0..100).map(|_| piped.client()).collect();
        ends.extend(clients.into_iter().map(|client| (client, piped.remote.accept())));
    }
    // Remotes come in any order: pairs are only pairs of numbers.
    let length = message(0, 0).len();
    for round in 0..2 {
        for (number, (client, _)) in ends.iter().enumerate() {
            (&*client).write_all(&message(round, number)).unwrap();
        }
        for (_, remote) in &ends {
            let bytes = got(remote, length);
            (&*remote).write_all(&bytes).unwrap();
        }
        for (number, (client, _)) in ends.iter().enumerate() {
            assert_eq!(got(client, length), message(round, number), "client {number}");
        }
    }
    let each = (2 * CLIENTS * length) as u64;
    let name = piped.name();
    let expected = BTreeMap::from([(name, Bytes::new(each, each))]);
    let shown =
        piped.running.wait_until("every byte is counted", |refresh| refresh.total() >= 2 * each);
    let shown: BTreeMap<_, _> =
        shown.lines.into_iter().map(|line| (line.command, line.bytes)).collect();
    assert_eq!(shown, expected);
    assert!(piped.descriptors() >= 2 * CLIENTS, "they were not open at the same time");
    drop(ends);
    let finished = piped.running.stop();
    let last = finished.refreshes().pop().unwrap();
    finished.expect("bytes after the end", last.total(), 2 * each);
}

#[test]
fn ten_thousand_that_leave_at_once_leave_nothing_behind() {
    const BATCH: usize = 2_000;
    if !allow_descriptors() {
        return;
    }
    let piped = Piped::through(&WRAPPER, &OPTIONS);
    let one = || {
        let (client, remote) = piped.connect();
        exchange(&client, &remote);
        finish(client, remote);
    };
    // Whoever listens may not have all of its own yet; who has served somebody has.
    one();
    let begin = piped.descriptors_at_rest();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // The remote has to keep up: connections that don't fit its backlog hang in the kernel.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                piped.remote.accept_within(Duration::from_millis(10));
            }
        });
        let forgotten = panic::catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..10_000 / BATCH {
                let clients: Vec<_> = (0..BATCH).map(|_| connect(piped.entrance())).collect();
                drop(clients);
            }
            eventually("all of them are forgotten", || piped.descriptors() == begin);
        }));
        done.store(true, Ordering::Relaxed);
        forgotten.unwrap_or_else(|failure| panic::resume_unwind(failure));
    });
    one();
    eventually("the last one is forgotten as well", || piped.descriptors() == begin);
    piped.running.stop();
}
