//! How many connections, and for how long.

use std::io::Write;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use bwmon::pipe::End;
use testbed::streams::{MOMENT, exchange, expect_reset, finish};
use testbed::wait::eventually;

use super::pattern::Pattern;
use super::rig::Rig;

#[test]
fn more_clients_than_allowed_wait_and_are_served_in_turn() {
    let rig = Rig::with(|config| config.max_connections = NonZeroUsize::new(2));
    let mut clients: Vec<_> = (0..7).map(|_| rig.client()).collect();
    for (number, mut client) in clients.iter().enumerate() {
        // Even a client that waits can send already: the kernel takes it.
        client.write_all(&Pattern::new(number as u64).bytes(0, 100)).unwrap();
    }
    let mut remotes = vec![rig.remote.accept(), rig.remote.accept()];
    assert!(rig.remote.accept_within(MOMENT).is_none(), "a third one is served at once");
    assert_eq!(rig.pipe.open(), 2);
    let mut served = 0;
    while !clients.is_empty() {
        // Two at once may come in either order.
        let remote = remotes.remove(0);
        let mut first = [0; 100];
        std::io::Read::read_exact(&mut &remote, &mut first).unwrap();
        let own = |number: u64| Pattern::new(number).bytes(0, 100) == first;
        let number = (0..7).find(|&number| own(number)).expect("nobody's bytes");
        assert!(number <= served + 1, "client {number} came when {served} had been served");
        let mine = |client: &std::net::TcpStream| {
            (&remote).write_all(&[number as u8]).unwrap();
            client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut byte = [0];
            matches!(std::io::Read::read(&mut &*client, &mut byte), Ok(1))
        };
        let at = clients.iter().position(mine).expect("nobody is answered");
        let client = testbed::streams::patient(clients.remove(at));
        drop(remote);
        drop(client);
        served += 1;
        if served < 6 {
            remotes.push(rig.remote.accept());
        }
        assert!(rig.pipe.open() <= 2);
    }
    rig.expect_idle();
}

#[test]
fn an_idle_connection_is_reset_and_a_busy_one_is_not() {
    const IDLE: Duration = Duration::from_millis(1000);
    // On a machine that stops for a while even the busy one is idle; that proves nothing.
    for attempt in 0.. {
        let rig = Rig::with(|config| config.idle_timeout = Some(IDLE));
        let (idle_client, idle_remote) = rig.connect();
        let (client, remote) = rig.connect();
        exchange(&idle_client, &idle_remote);
        let begin = Instant::now();
        let mut last = begin;
        let mut longest = Duration::ZERO;
        let mut healthy = true;
        // Only one way: that counts as well.
        while begin.elapsed() < 2 * IDLE && healthy {
            healthy = (&client).write_all(b"x").is_ok()
                && std::io::Read::read_exact(&mut &remote, &mut [0]).is_ok();
            longest = longest.max(last.elapsed());
            last = Instant::now();
            thread::sleep(IDLE / 20);
        }
        if longest > IDLE / 2 && attempt < 5 {
            continue;
        }
        assert!(healthy, "a connection with traffic was ended");
        expect_reset(&idle_client);
        expect_reset(&idle_remote);
        eventually("the idle one is reported", || rig.events.ends() == [End::Idle]);
        exchange(&client, &remote);
        finish(client, remote);
        rig.expect_idle();
        break;
    }
}

/// Waiting in a pipe for a reader is silence too, and half a connection is one.
#[test]
fn a_half_closed_connection_can_be_idle_too() {
    let rig = Rig::with(|config| config.idle_timeout = Some(Duration::from_millis(300)));
    let (client, remote) = rig.connect();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    testbed::streams::expect_end(&remote);
    expect_reset(&client);
    assert_eq!(rig.events.first_end(), End::Idle);
}
