//! The limit of bytes per second.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use testbed::streams::read_some;
use testbed::wait::eventually;

use super::pattern::{Chance, Pattern, send};
use super::rig::Rig;

const RATE: u64 = 400_000;
const LIMIT: Option<NonZeroU64> = NonZeroU64::new(RATE);
/// Of each of the connections, each way: at the limit this would take more than a minute.
const SIZE: u64 = 8_000_000;
const CONNECTIONS: u64 = 4;

/// Reads all, counting as it goes.
fn receive(from: &TcpStream, pattern: Pattern, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    let mut offset = 0;
    loop {
        let length = read_some(from, &mut buffer).unwrap();
        if length == 0 {
            assert_eq!(offset, SIZE, "bytes were lost");
            return;
        }
        pattern.check(offset, &buffer[..length]);
        offset += length as u64;
        count.fetch_add(length as u64, Relaxed);
    }
}

/// Both directions busy on several connections, while `during` looks at what arrives each way.
fn busy<T>(rig: &Rig, during: impl FnOnce(&[AtomicU64; 2]) -> T) -> T {
    let mut chance = Chance::new();
    let pairs: Vec<_> = (0..CONNECTIONS).map(|_| rig.connect()).collect();
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let result = thread::scope(|scope| {
        for (number, (client, remote)) in (0..).zip(&pairs) {
            let (up, down) = (Pattern::new(2 * number), Pattern::new(2 * number + 1));
            let (mut a, mut b) = (chance.fork(), chance.fork());
            scope.spawn(move || send(client, up, SIZE, &mut a));
            scope.spawn(move || send(remote, down, SIZE, &mut b));
            let [received, sent] = &counts;
            scope.spawn(move || receive(remote, up, received));
            scope.spawn(move || receive(client, down, sent));
        }
        let result = during(&counts);
        // Released, or this would not end in time.
        rig.pipe.shape(None);
        result
    });
    rig.expect_counted(CONNECTIONS * SIZE, CONNECTIONS * SIZE);
    result
}

fn now(counts: &[AtomicU64; 2]) -> (Instant, [u64; 2]) {
    (Instant::now(), [counts[0].load(Relaxed), counts[1].load(Relaxed)])
}

/// The rates of three seconds, as shares of the limit.
fn measure(counts: &[AtomicU64; 2]) -> [f64; 2] {
    // What was on the way before, or may come at once, is over.
    thread::sleep(Duration::from_millis(500));
    let (begin, before) = now(counts);
    thread::sleep(Duration::from_secs(3));
    let (end, after) = now(counts);
    let limit = RATE as f64 * (end - begin).as_secs_f64();
    [0, 1].map(|way| (after[way] - before[way]) as f64 / limit)
}

/// Several attempts: other tests may take the processor away.
fn expect_rate(attempt: impl Fn() -> [f64; 2]) {
    let mut seen = Vec::new();
    for _ in 0..8 {
        let rates = attempt();
        if rates.iter().all(|rate| (rate - 1.0).abs() <= 0.02) {
            return;
        }
        seen.push(rates);
    }
    panic!("shares of the limit, not within 2 %: {seen:?}");
}

#[test]
fn all_connections_together_are_held_to_the_rate_each_way() {
    expect_rate(|| busy(&Rig::with(|config| config.shape = LIMIT), measure));
}

#[test]
fn a_limit_can_be_set_while_running() {
    expect_rate(|| {
        let rig = Rig::new();
        busy(&rig, |counts| {
            eventually("bytes arrive", || now(counts).1.iter().all(|&count| count > 0));
            rig.pipe.shape(LIMIT);
            let (mut last, mut since) = (now(counts).1, Instant::now());
            // The kernel's buffers may still hold much that was forwarded before.
            while since.elapsed() < Duration::from_millis(20) {
                thread::sleep(Duration::from_millis(5));
                let next = now(counts).1;
                if next[0] - last[0] > 100_000 {
                    since = Instant::now();
                }
                last = next;
            }
            measure(counts)
        })
    });
}

/// Connections that never have enough, either way, and what arrived of each.
struct Crowd {
    pairs: Vec<(TcpStream, TcpStream)>,
    arrived: [Vec<u64>; 2],
    buffer: Vec<u8>,
}

impl Crowd {
    fn new(rig: &Rig, count: usize) -> Crowd {
        let buffer = vec![0; 64 << 10];
        let pairs: Vec<_> = (0..count)
            .map(|_| {
                let pair = rig.connect();
                for mut end in [&pair.0, &pair.1] {
                    end.set_nonblocking(true).unwrap();
                    // None of them is ever idle.
                    assert!(end.write(&buffer).unwrap() > 0);
                }
                pair
            })
            .collect();
        Crowd { pairs, arrived: [vec![0; count], vec![0; count]], buffer }
    }

    /// Sends and receives as much as is possible now.
    fn go_on(&mut self) {
        for (number, (client, remote)) in self.pairs.iter().enumerate() {
            for (way, (mut from, mut to)) in
                [(client, remote), (remote, client)].into_iter().enumerate()
            {
                let _ = from.write(&self.buffer);
                while let Ok(count @ 1..) = to.read(&mut self.buffer) {
                    self.arrived[way][number] += count as u64;
                }
            }
        }
    }
}

#[test]
fn many_connections_have_equal_shares_each_way() {
    const COUNT: usize = 50;
    const MEAN: u64 = 20_000;
    let rig = Rig::with(|config| config.shape = LIMIT);
    let mut crowd = Crowd::new(&rig, COUNT);
    eventually("as much arrives as the limit allows in a while", || {
        crowd.go_on();
        crowd.arrived.iter().all(|way| way.iter().sum::<u64>() >= MEAN * COUNT as u64)
    });
    for way in &crowd.arrived {
        let mean = way.iter().sum::<u64>() / COUNT as u64;
        let (least, most) = (way.iter().min().unwrap(), way.iter().max().unwrap());
        assert!(*least > mean / 4 && *most < mean * 4, "{least} to {most} bytes, mean {mean}");
    }
}

#[test]
fn whoever_waits_for_the_limit_is_not_idle() {
    const COUNT: usize = 40;
    // A round takes longer than a second.
    let rig = Rig::with(|config| {
        config.shape = NonZeroU64::new(1_000);
        config.idle_timeout = Some(Duration::from_millis(500));
    });
    let mut crowd = Crowd::new(&rig, COUNT);
    eventually("some rounds are over", || {
        crowd.go_on();
        crowd.arrived.iter().all(|way| way.iter().sum::<u64>() >= 4_000)
    });
    assert_eq!(rig.events.ends(), []);
}
