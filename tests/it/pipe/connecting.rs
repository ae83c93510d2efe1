//! The way to the remote, where there is none or several.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use testbed::streams::{LOCAL, MOMENT, Remote, connect, exchange, expect_reset, patient};
use testbed::wait::eventually;

use super::rig::{Answer, Failure, Rig, entrance, pipe_to};

/// Connects and is reset; that may come before connect(2) is over.
fn expect_rejected(address: SocketAddr) {
    match TcpStream::connect(address) {
        Ok(stream) => expect_reset(&patient(stream)),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
}

#[test]
fn a_refused_client_is_reset_and_the_next_one_served_when_the_remote_is_there() {
    let address = Remote::new().address();
    let (pipe, events) = pipe_to(address, |_| {});
    expect_rejected(entrance(&pipe));
    let refused = Failure::Refused(address, io::ErrorKind::ConnectionRefused);
    assert_eq!(events.failure_after(0), refused);
    assert!(events.failures()[0].0.ip().is_loopback());
    let remote = Remote::at(address);
    let client = connect(entrance(&pipe));
    exchange(&client, &remote.accept());
}

#[test]
fn clients_are_reset_where_the_name_does_not_resolve() {
    let rig = Rig::with(|config| {
        config.host = "nowhere.test".into();
        config.resolver = Arc::new(Answer(|| Err(io::Error::other("no such name"))));
    });
    expect_rejected(rig.entrance());
    assert_eq!(rig.events.failure_after(0), Failure::Unresolved);
    rig.expect_idle();
}

#[test]
fn a_slow_resolver_hinders_nobody_and_is_not_waited_for_without_end() {
    let (answer, answers) = mpsc::channel::<()>();
    let answers = Mutex::new(answers);
    let remote = Remote::new();
    let address = remote.address();
    let rig = Rig::before(remote, |config| {
        config.host = "slow.test".into();
        config.connect_timeout = Duration::from_millis(300);
        config.resolver = Arc::new(Answer(move || {
            let _ = answers.lock().unwrap().recv();
            Ok(vec![address])
        }));
    });
    expect_rejected(rig.entrance());
    let failure = rig.events.failure_after(0);
    let timed_out = matches!(failure, Failure::Refused(_, io::ErrorKind::TimedOut));
    assert!(timed_out || failure == Failure::Unresolved, "{failure:?}");
    // Its answer is late, but not lost; later questions are answered at once.
    drop(answer);
    eventually("the name is resolved", || {
        let _client = TcpStream::connect(rig.entrance());
        rig.remote.accept_within(MOMENT).is_some()
    });
}

#[test]
fn addresses_are_tried_until_one_answers() {
    let remote = Remote::new();
    let port = remote.address().port();
    let closed = (2..5).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let addresses: Vec<SocketAddr> =
        closed.chain([LOCAL]).map(|address| (address, port).into()).collect();
    let rig = Rig::before(remote, |config| {
        config.host = "several.test".into();
        config.resolver = Arc::new(Answer(move || Ok(addresses.clone())));
    });
    let (client, remote) = rig.connect();
    exchange(&client, &remote);
    assert!(rig.events.failures().is_empty());
}

#[test]
fn many_clients_ask_the_resolver_once_and_anew_after_a_failure() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let address = Remote::new().address();
    let (pipe, _events) = pipe_to(address, |config| {
        config.host = "counted.test".into();
        config.resolver = Arc::new(Answer(move || {
            count.fetch_add(1, Relaxed);
            Ok(vec![address])
        }));
    });
    let begin = std::time::Instant::now();
    (0..20).for_each(|_| expect_rejected(entrance(&pipe)));
    // A failure is believed for a second; a machine that was slower than that proves nothing.
    assert!(asked.load(Relaxed) == 1 || begin.elapsed() > Duration::from_millis(900));
    eventually("the resolver is asked anew", || {
        expect_rejected(entrance(&pipe));
        asked.load(Relaxed) > 1
    });
}
