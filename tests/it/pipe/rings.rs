//! Pipes that wait for one another: a connection through the one makes another one through the
//! other, and so on, until there is no slot.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bwmon::pipe::{Config, ConnectionSlots, Pipe};
use testbed::streams::{LOCAL, MOMENT, connect, exchange, expect_reset, finish, reset};
use testbed::wait::eventually;

use super::rig::{Answer, Events, Failure, Rig, entrance, pipe_to};

/// How long a client waits for a slot.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Two pipes that lead to each other.
struct Ring {
    pipes: [(Pipe, Events); 2],
}

impl Ring {
    fn new() -> Ring {
        let limits = |config: &mut Config| {
            config.slots = Some(Arc::new(ConnectionSlots::new(20)));
            config.connect_timeout = TIMEOUT;
        };
        let second = Arc::new(OnceLock::new());
        let known = second.clone();
        let one = pipe_to((LOCAL, 1).into(), |config| {
            limits(config);
            config.host = "second.test".into();
            config.resolver = Arc::new(Answer(move || Ok(vec![*known.get().unwrap()])));
        });
        let other = pipe_to(entrance(&one.0), limits);
        second.set(entrance(&other.0)).unwrap();
        Ring { pipes: [one, other] }
    }

    /// Waits until nothing goes round any more.
    fn expect_still(&self) {
        let over = || -> usize {
            let events = self.pipes.iter().map(|(_, events)| events);
            events.map(|events| events.ends().len() + events.failures().len()).sum()
        };
        eventually("the ring is still", || {
            let before = over();
            thread::sleep(MOMENT);
            self.pipes.iter().all(|(pipe, _)| pipe.open() == 0) && over() == before
        });
    }
}

#[test]
fn a_ring_dissolves_when_its_client_leaves_or_stays() {
    let ring = Ring::new();
    drop(connect(entrance(&ring.pipes[0].0)));
    ring.expect_still();
    let client = connect(entrance(&ring.pipes[0].0));
    expect_reset(&client);
    ring.expect_still();
    let mut failures = ring.pipes.iter().flat_map(|(_, events)| events.failures());
    assert!(failures.any(|(_, failure)| failure == Failure::Starved), "nobody was turned away");
}

/// In a ring the reset would run after the connections that are made, for ever.
#[test]
fn a_client_that_left_before_it_was_accepted_gets_no_connection() {
    let rig = Rig::with(|config| config.max_connections = NonZeroUsize::new(1));
    let (client, remote) = rig.connect();
    reset(rig.client());
    finish(client, remote);
    assert_eq!(rig.events.failure_after(0), Failure::Abandoned);
    assert!(rig.remote.accept_within(MOMENT).is_none(), "a connection for nobody");
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
}

#[test]
fn a_client_without_a_place_is_reset_in_time_and_the_others_go_on() {
    let rig = Rig::with(|config| {
        config.slots = Some(Arc::new(ConnectionSlots::new(1)));
        config.connect_timeout = TIMEOUT;
    });
    let (client, remote) = rig.connect();
    for number in 0..2 {
        expect_reset(&rig.client());
        assert_eq!(rig.events.failure_after(number), Failure::Starved);
    }
    exchange(&client, &remote);
    finish(client, remote);
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
}

/// What somebody has set as a limit is meant so.
#[test]
fn max_connections_lets_clients_wait_for_longer() {
    let rig = Rig::with(|config| {
        config.max_connections = NonZeroUsize::new(1);
        config.connect_timeout = MOMENT / 3;
    });
    let (client, remote) = rig.connect();
    let second = rig.client();
    assert!(rig.remote.accept_within(2 * MOMENT).is_none(), "two are served");
    finish(client, remote);
    exchange(&second, &rig.remote.accept());
    assert_eq!(rig.events.failures(), []);
}
