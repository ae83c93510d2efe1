//! The end of a pipe.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use bwmon::pipe::End;
use testbed::apart::alone;
use testbed::ports::free_port;
use testbed::streams::{MOMENT, exchange, expect_reset, finish, reset};
use testbed::wait::eventually;

use super::rig::Rig;

/// Not at once: a child that another test starts has the listening socket, too, until it calls exec.
fn refused(address: SocketAddr) -> bool {
    // A client that came in after all must not stay: its end at the remote is never accepted.
    TcpStream::connect(address).map(reset).is_err()
}

#[test]
fn a_closed_pipe_lets_open_connections_come_to_their_end() {
    let rig = Rig::new();
    let entrance = rig.entrance();
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
    rig.pipe.close();
    eventually("new clients are refused", || refused(entrance));
    for _ in 0..20 {
        exchange(&client, &remote);
    }
    assert!(!rig.pipe.wait(Some(Instant::now() + MOMENT)), "a connection is still open");
    finish(client, remote);
    assert!(rig.pipe.wait(None));
    assert_eq!(rig.pipe.open(), 0);
    let traffic = rig.pipe.traffic();
    assert_eq!((traffic.received, traffic.sent), (9 * 21, 9 * 21));
}

#[test]
fn a_closed_pipe_without_connections_has_nothing_to_wait_for() {
    let rig = Rig::new();
    rig.pipe.close();
    assert!(rig.pipe.wait(None));
    rig.pipe.close();
    assert!(rig.pipe.wait(Some(Instant::now())));
}

#[test]
fn a_stopped_pipe_cuts_its_connections() {
    let Rig { pipe, remote, events } = Rig::new();
    let client = testbed::streams::connect(super::rig::entrance(&pipe));
    let remote = remote.accept();
    exchange(&client, &remote);
    let entrance = super::rig::entrance(&pipe);
    pipe.stop();
    expect_reset(&client);
    expect_reset(&remote);
    assert_eq!(events.first_end(), End::Cut);
    eventually("nobody listens", || refused(entrance));
}

#[test]
fn a_dropped_pipe_cuts_its_connections() {
    let Rig { pipe, remote, events } = Rig::new();
    let entrance = super::rig::entrance(&pipe);
    let client = testbed::streams::connect(entrance);
    let remote = remote.accept();
    exchange(&client, &remote);
    drop(pipe);
    expect_reset(&client);
    expect_reset(&remote);
    assert_eq!(events.first_end(), End::Cut);
    eventually("nobody listens", || refused(entrance));
}

/// Other tests' threads and descriptors come and go: this one needs a process of its own.
#[test]
fn no_thread_and_no_descriptor_is_left() {
    if !alone() {
        return;
    }
    let count =
        || ["task", "fd"].map(|of| fs::read_dir(format!("/proc/self/{of}")).unwrap().count());
    // The ports are reserved as long as the process lives.
    free_port();
    let before = count();
    for round in 0..6 {
        let rig = Rig::new();
        let (client, remote) = rig.connect();
        exchange(&client, &remote);
        match round % 3 {
            0 => rig.pipe.stop(),
            1 => drop(rig),
            _ => {
                rig.pipe.close();
                finish(client, remote);
                assert!(rig.pipe.wait(None));
            }
        }
    }
    eventually("threads and descriptors are as before", || count() == before);
}
