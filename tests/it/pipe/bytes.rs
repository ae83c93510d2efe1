//! Every byte arrives, in its place, and is counted.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rustix::net::SendFlags;
use testbed::streams::{Remote, exchange, finish};
use testbed::wait::eventually;

use super::pattern::{Chance, Pattern, send};
use super::rig::{Answer, Rig};

/// Both directions at once, cut into pieces of chance on every side.
fn both_ways(up: u64, down: u64) {
    let mut chance = Chance::new();
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    let (to_remote, to_client) = (Pattern::new(1), Pattern::new(2));
    let [mut a, mut b, mut c, mut d] = std::array::from_fn(|_| chance.fork());
    thread::scope(|scope| {
        scope.spawn(|| send(&client, to_remote, up, &mut a));
        scope.spawn(|| send(&remote, to_client, down, &mut b));
        scope.spawn(|| to_remote.expect_all(&remote, up, &mut c));
        to_client.expect_all(&client, down, &mut d);
    });
    rig.expect_counted(up, down);
    let ended = rig.events.ended();
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!((ended[0].traffic.received, ended[0].traffic.sent), (up, down));
    assert_eq!(ended[0].client, client.local_addr().unwrap());
    assert_eq!(ended[0].remote, rig.remote.address());
    assert_eq!(ended[0].end.to_string(), "closed");
}

#[test]
fn nothing_at_all_arrives_as_nothing() {
    both_ways(0, 0);
}

#[test]
fn sizes_around_those_of_buffers_arrive_to_the_byte() {
    for size in [1, 65_535, 65_536, 65_537] {
        both_ways(size, size);
        both_ways(size, 0);
        both_ways(0, size);
    }
}

#[test]
fn ten_megabytes_arrive_to_the_byte_both_ways_at_once() {
    both_ways(10_000_000, 10_000_000);
}

#[test]
fn the_count_is_live() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    let pattern = Pattern::new(3);
    for (step, size) in [1, 70_000, 5].into_iter().enumerate() {
        let before = rig.pipe.traffic();
        thread::scope(|scope| {
            scope.spawn(|| (&client).write_all(&pattern.bytes(0, size)).unwrap());
            pattern.read_part(&remote, 0, size as u64);
        });
        thread::scope(|scope| {
            scope.spawn(|| (&remote).write_all(&pattern.bytes(0, 2 * size)).unwrap());
            pattern.read_part(&client, 0, 2 * size as u64);
        });
        // The count may lag behind the bytes by the moment between two statements.
        eventually(&format!("step {step} is counted while the connection is open"), || {
            let traffic = rig.pipe.traffic() - before;
            (traffic.received, traffic.sent) == (size as u64, 2 * size as u64)
        });
        assert_eq!(rig.pipe.open(), 1);
    }
}

#[test]
fn the_count_survives_the_connections() {
    let rig = Rig::new();
    for round in 1..=20 {
        let (client, remote) = rig.connect();
        exchange(&client, &remote);
        testbed::streams::finish(client, remote);
        rig.expect_counted(9 * round, 9 * round);
    }
}

#[test]
fn many_connections_at_once_do_not_mix() {
    const SIZE: u64 = 300_000;
    const COUNT: u64 = 40;
    let mut chance = Chance::new();
    let rig = Rig::new();
    let pairs: Vec<_> = (0..COUNT).map(|_| rig.connect()).collect();
    thread::scope(|scope| {
        for (number, (client, remote)) in pairs.iter().enumerate() {
            let up = Pattern::new(2 * number as u64);
            let down = Pattern::new(2 * number as u64 + 1);
            let [mut a, mut b, mut c, mut d] = std::array::from_fn(|_| chance.fork());
            scope.spawn(move || send(client, up, SIZE, &mut a));
            scope.spawn(move || send(remote, down, SIZE, &mut b));
            scope.spawn(move || up.expect_all(remote, SIZE, &mut c));
            scope.spawn(move || down.expect_all(client, SIZE, &mut d));
        }
    });
    rig.expect_counted(COUNT * SIZE, COUNT * SIZE);
}

/// Urgent data is a part of the stream: without care its last byte would leave it, and what comes
/// after it would never be read. All of it is there before the pipe reads, so that no later byte
/// can wake it.
#[test]
fn urgent_bytes_stay_in_their_place() {
    for before in [3, 70_000] {
        let (answer, answers) = mpsc::channel();
        let (remote, answers) = (Remote::new(), Mutex::new(answers));
        let rig = Rig::before(remote, |config| {
            config.host = "name".to_owned();
            let resolve = move || Ok(answers.lock().unwrap().recv().into_iter().collect());
            config.resolver = Arc::new(Answer(resolve));
        });
        let mut client = rig.client();
        let bytes = Pattern::new(1).bytes(0, before + 4);
        client.write_all(&bytes[..before]).unwrap();
        rustix::net::send(&client, &bytes[before..=before], SendFlags::OOB).unwrap();
        client.write_all(&bytes[before + 1..]).unwrap();
        answer.send(rig.remote.address()).unwrap();
        let mut remote = rig.remote.accept();
        let mut got = vec![0; bytes.len()];
        remote.read_exact(&mut got).unwrap();
        assert!(got == bytes, "{before} bytes before the urgent one");
        finish(client, remote);
        rig.expect_counted(before as u64 + 4, 0);
    }
}
