//! How connections end: each end's word reaches the other one, and no other word.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bwmon::pipe::{End, Side};
use testbed::streams::{exchange, expect_end, expect_reset, finish, reset};
use testbed::wait::eventually;

use super::pattern::{Chance, Pattern, send};
use super::rig::Rig;

/// One end is done at once; long afterwards the other one still sends, and is answered by nothing.
fn half_close(first: impl Fn(&(TcpStream, TcpStream)) -> [&TcpStream; 2]) -> (u64, u64) {
    let mut chance = Chance::new();
    let rig = Rig::new();
    let pair = rig.connect();
    let [done, going_on] = first(&pair);
    let (short, long) = (Pattern::new(1), Pattern::new(2));
    send(done, short, 1000, &mut chance);
    short.expect_all(going_on, 1000, &mut chance);
    // One message after the other: each would be lost if the pipe took the one end for both.
    for step in 0..50 {
        (&mut &*going_on).write_all(&long.bytes(step * 1000, 1000)).unwrap();
        long.read_part(done, step * 1000, 1000);
    }
    assert_eq!(rig.pipe.open(), 1);
    thread::scope(|scope| {
        scope.spawn(move || {
            (&mut &*going_on).write_all(&long.bytes(50_000, 3_000_000)).unwrap();
            going_on.shutdown(Shutdown::Write).unwrap();
        });
        long.read_part(done, 50_000, 3_000_000);
        expect_end(done);
    });
    rig.expect_idle();
    assert_eq!(rig.events.first_end(), End::Closed);
    let traffic = rig.pipe.traffic();
    (traffic.received, traffic.sent)
}

#[test]
fn the_remote_may_go_on_after_the_client_is_done() {
    assert_eq!(half_close(|(client, remote)| [client, remote]), (1000, 3_050_000));
}

#[test]
fn the_client_may_go_on_after_the_remote_is_done() {
    assert_eq!(half_close(|(client, remote)| [remote, client]), (3_050_000, 1000));
}

#[test]
fn both_may_be_done_at_once() {
    let rig = Rig::new();
    for round in 1..=50 {
        let (client, remote) = rig.connect();
        exchange(&client, &remote);
        client.shutdown(Shutdown::Write).unwrap();
        remote.shutdown(Shutdown::Write).unwrap();
        expect_end(&client);
        expect_end(&remote);
        rig.expect_counted(9 * round, 9 * round);
    }
    assert!(rig.events.ends().iter().all(|&end| end == End::Closed));
}

#[test]
fn a_reset_by_the_client_resets_the_remote() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    let pattern = Pattern::new(1);
    (&client).write_all(&pattern.bytes(0, 100_000)).unwrap();
    pattern.read_part(&remote, 0, 100_000);
    reset(client);
    expect_reset(&remote);
    rig.expect_counted(100_000, 0);
    assert_eq!(rig.events.first_end(), End::Reset(Side::Client));
}

#[test]
fn a_reset_by_the_remote_resets_the_client() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    let pattern = Pattern::new(1);
    (&remote).write_all(&pattern.bytes(0, 100_000)).unwrap();
    pattern.read_part(&client, 0, 100_000);
    reset(remote);
    expect_reset(&client);
    rig.expect_counted(0, 100_000);
    assert_eq!(rig.events.first_end(), End::Reset(Side::Remote));
}

/// The other end has read all the time: what was counted has arrived, and never more than that.
#[test]
fn what_was_counted_before_a_reset_has_arrived() {
    let mut chance = Chance::new();
    for round in 0..50_u64 {
        let rig = Rig::new();
        let (client, remote) = rig.connect();
        let pattern = Pattern::new(round);
        let by_client = round % 2 == 0;
        let (breaks, reads) = if by_client { (client, remote) } else { (remote, client) };
        // Less than any socket's buffer: it never waits in the pipe for the reader.
        let size = 1 + chance.below(30_000);
        pattern.write(&breaks, size, &mut chance);
        reset(breaks);
        let (got, end) = pattern.read(&reads, &mut chance);
        let error = end.expect_err("a stream that was broken off came to an ordinary end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let (received, sent) = if by_client { (got, 0) } else { (0, got) };
        rig.expect_counted(received, sent);
    }
}

/// A connection that is half closed still has an end that can break it off.
#[test]
fn a_reset_after_a_half_close_is_passed_on() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    client.shutdown(Shutdown::Write).unwrap();
    expect_end(&remote);
    reset(remote);
    expect_reset(&client);
    rig.expect_idle();
    assert_eq!(rig.events.first_end(), End::Reset(Side::Remote));

    let (client, remote) = rig.connect();
    remote.shutdown(Shutdown::Write).unwrap();
    expect_end(&client);
    reset(client);
    // It has had its FIN out, so the kernel says EPIPE once or resets; what counts is the end.
    eventually("the remote can't write any more", || (&remote).write_all(b"x").is_err());
    rig.expect_idle();
}

/// Bytes that nobody reads must not keep a reset from being seen.
#[test]
fn a_reset_is_seen_while_the_other_end_does_not_read() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let piece = vec![7; 1 << 20];
    // Until everything on the way is full.
    while (&client).write_all(&piece).is_ok() {}
    reset(client);
    rig.expect_idle();
    expect_reset(&remote);
}

#[test]
fn clients_that_leave_at_once_leave_nothing_behind() {
    let rig = Rig::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                drop(rig.remote.accept_within(Duration::from_millis(10)));
            }
        });
        for number in 0..1000 {
            let client = rig.client();
            if number % 2 == 0 {
                reset(client);
            }
        }
        rig.expect_idle();
        over.store(true, Relaxed);
    });
    while rig.remote.accept_within(Duration::ZERO).is_some() {}
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
    finish(client, remote);
    rig.expect_counted(9, 9);
}
