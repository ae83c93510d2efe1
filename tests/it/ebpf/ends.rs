//! When a connection is known to be over, and that slots are free in time where many are.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use bwmon::ebpf::{Origin, Reader, SLOTS};
use rustix::net::sockopt;
use testbed::apart::in_own_cgroup;
use testbed::bytes::Bytes;
use testbed::netns::Net;
use testbed::running::Running;

use crate::RUNMONITOR;

const MOMENT: Duration = Duration::from_millis(20);

/// A connection on the loopback device, and the cookies of its sockets.
fn connection(address: &str) -> ([TcpStream; 2], [u64; 2]) {
    let listener = TcpListener::bind(address).unwrap();
    let mut to = listener.local_addr().unwrap();
    if to.ip().is_unspecified() {
        to.set_ip("127.0.0.1".parse().unwrap());
    }
    let client = TcpStream::connect(to).unwrap();
    let server = listener.accept().unwrap().0;
    let cookies = [&client, &server].map(|end| sockopt::socket_cookie(end).unwrap());
    ([client, server], cookies)
}

fn origin(reader: &mut Reader, cookie: u64) -> Origin {
    let mut found = None;
    reader.read(|counted, _| found = Some(counted).filter(|c| c.cookie == cookie).or(found));
    reader.origin(&found.unwrap()).unwrap()
}

/// Waits until the socket is released, and has ended if it is to.
fn has_ended(reader: &mut Reader, cookie: u64, expected: bool) -> bool {
    (0..250).any(|_| {
        sleep(MOMENT);
        let origin = origin(reader, cookie);
        origin.released && origin.ended == expected
    })
}

#[test]
fn a_connection_is_over_when_both_ends_have_closed_it() {
    let Some(_net) = Net::new() else { return };
    let mut reader = Reader::open(Path::new("/proc"), false).unwrap();
    // The last one is IPv4 at a socket of IPv6.
    for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
        for first in [0, 1] {
            let (ends, cookies) = connection(address);
            let [one, other] = match (first, ends) {
                (0, [client, server]) => [client, server],
                (_, [client, server]) => [server, client],
            };
            (&one).write_all(&[1; 100]).unwrap();
            drop(one);
            (&other).read_to_end(&mut Vec::new()).unwrap();
            drop(other);
            for cookie in cookies {
                assert!(has_ended(&mut reader, cookie, true), "{address}, closed first: {first}");
            }
        }
    }
}

#[test]
fn a_connection_goes_on_as_long_as_there_is_something_to_send() {
    let Some(_net) = Net::new() else { return };
    let mut reader = Reader::open(Path::new("/proc"), false).unwrap();
    let ([client, server], [_, cookie]) = connection("127.0.0.1:0");
    // The other side has said that it will send no more, so that nothing but the rest is open here.
    client.shutdown(Shutdown::Write).unwrap();
    (&server).read_to_end(&mut Vec::new()).unwrap();
    server.set_nonblocking(true).unwrap();
    while (&server).write(&[1; 1 << 16]).is_ok() {}
    drop(server);
    // The window is closed; every packet in which the client says so is answered.
    sleep(MOMENT * 25);
    assert!(has_ended(&mut reader, cookie, false));
    (&client).read_to_end(&mut Vec::new()).unwrap();
    assert!(has_ended(&mut reader, cookie, true));
}

#[test]
fn it_is_time_to_read_when_many_sockets_have_come() {
    let Some(proc) = in_own_cgroup() else { return };
    let mut reader = Reader::with_room(&proc, 1 << 15, false).unwrap();
    reader.read(|_, _| ());
    assert!(!reader.is_filling());
    for _ in 0..1 << 14 {
        UdpSocket::bind("127.0.0.1:0").unwrap();
    }
    assert!(reader.is_filling());
    reader.read(|_, _| ());
    assert!(!reader.is_filling());
}

/// A refresh is far away when room is needed.
#[test]
fn more_sockets_than_there_is_room_for_may_come_and_go_between_two_refreshes() {
    let Some(net) = Net::new() else { return };
    let args = ["--source", "ebpf", "--unattributed", "--interval", "12", "--count", "2"];
    let mut running = Running::start(RUNMONITOR.inside(&net.watched, &args));
    running.begun();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    for _ in 0..SLOTS.start() / 800 {
        for _ in 0..1000 {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1; 10], to).unwrap();
        }
        sleep(MOMENT * 2);
    }
    let finished = running.finish();
    let refresh = finished.refreshes().pop().unwrap();
    finished.expect("bytes without room", refresh.reason("(overflow)"), Bytes::default());
    finished.expect("messages", finished.messages("more than").len(), 0);
}
