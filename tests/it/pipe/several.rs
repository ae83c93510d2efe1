//! Pipes that follow one another, or share what there is.

use std::sync::Arc;

use bwmon::pipe::{Config, ConnectionSlots, Pipe};
use testbed::streams::{MOMENT, PATIENCE, Remote, connect, exchange, finish};
use testbed::wait::eventually;

use super::rig::{Rig, entrance, pipe_to};

/// A pipe to this remote in the slot of that one.
fn successor(pipe: &Pipe, remote: &Remote) -> Pipe {
    let address = remote.address();
    pipe.succeed(Config::new(0, address.ip().to_string(), address.port())).unwrap()
}

#[test]
fn a_successor_takes_over_without_refusing_anybody() {
    let rig = Rig::new();
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
    // All the time somebody connects, though not more than wait for the remote in its backlog.
    // Whoever is let in is served, by the one or by the other.
    let other = Remote::new();
    let address = rig.entrance();
    let clients =
        std::thread::spawn(move || (0..100).map(|_| connect(address)).collect::<Vec<_>>());
    let mut next = successor(&rig.pipe, &other);
    assert_eq!(next.address(), rig.pipe.address());
    rig.pipe.close();
    for _ in 0..3 {
        let newer = successor(&next, &other);
        next.close();
        // Dropping it would cut what it still forwards.
        std::mem::forget(std::mem::replace(&mut next, newer));
    }
    let clients = clients.join().unwrap();
    let mut served = Vec::new();
    eventually("everybody is served", || {
        served.extend(other.accept_within(MOMENT / 100));
        served.extend(rig.remote.accept_within(MOMENT / 100));
        served.len() == clients.len()
    });
    // What was open before goes on where it was, and whoever comes now goes to the new remote.
    exchange(&client, &remote);
    finish(client, remote);
    let client = connect(address);
    exchange(&client, &other.accept());
}

/// A client wakes one worker; where that one is about to accept no more, another one has to be told.
#[test]
fn a_single_client_who_comes_in_between_is_served() {
    let remote = Remote::new();
    let (mut pipe, _) = pipe_to(remote.address(), |_| {});
    let address = entrance(&pipe);
    for _ in 0..300 {
        let next = successor(&pipe, &remote);
        let client = std::thread::spawn(move || connect(address));
        pipe.close();
        let client = client.join().unwrap();
        let served = remote.accept();
        exchange(&client, &served);
        finish(client, served);
        assert!(pipe.wait(None));
        pipe = next;
    }
}

#[test]
fn the_successor_of_a_closed_pipe_listens_anew() {
    let rig = Rig::new();
    rig.pipe.close();
    assert!(rig.pipe.wait(None));
    let other = Remote::new();
    let next = successor(&rig.pipe, &other);
    let client = connect(entrance(&next));
    exchange(&client, &other.accept());
}

#[test]
fn pipes_share_their_places() {
    let slots = Arc::new(ConnectionSlots::new(2));
    let remote = Remote::new();
    let start = || {
        let (pipe, _) = pipe_to(remote.address(), |config| {
            config.slots = Some(slots.clone());
            // On a busy machine the third one would be turned away.
            config.connect_timeout = PATIENCE;
        });
        pipe
    };
    let (one, other) = (start(), start());
    let first = (connect(entrance(&one)), remote.accept());
    let second = (connect(entrance(&other)), remote.accept());
    let third = connect(entrance(&one));
    assert!(remote.accept_within(MOMENT).is_none(), "there are two slots");
    // Nobody rings at another pipe's workers, who look again by themselves.
    finish(second.0, second.1);
    let served = remote.accept();
    exchange(&third, &served);
    exchange(&first.0, &first.1);
}
