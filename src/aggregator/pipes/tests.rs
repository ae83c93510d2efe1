//! Pipes on loopback, from one configuration to the next.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::*;
use crate::model::Snapshot;
use crate::monitor::Moment;
use crate::until::until;

/// A pipe to a remote from a free port below the range of ephemeral ports.
fn config(remote: &TcpListener) -> Config {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16 % 1_000 * 20;
    loop {
        let port = 10_000 + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("::", port)).is_ok() {
            return to(port, remote);
        }
    }
}

fn to(port: u16, remote: &TcpListener) -> Config {
    let mut config = Config::new(port, "127.0.0.1", remote.local_addr().unwrap().port());
    config.workers = NonZeroUsize::MIN;
    config
}

fn remote() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn connect(config: &Config, remote: &TcpListener) -> [TcpStream; 2] {
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, config.port)).unwrap();
    let remote = until("the pipe connects to its remote", || remote.accept().ok()).0;
    remote.set_nonblocking(false).unwrap();
    [client, remote]
}

/// Sends bytes from the client to the remote. When it returns, the remote has them, and they are
/// counted.
fn send(pipes: &Pipes, [client, remote]: &mut [TcpStream; 2], bytes: usize) {
    let counted = || pipes.all().map(|pipe| pipe.traffic().received).sum::<u64>();
    let before = counted();
    client.write_all(&vec![0; bytes]).unwrap();
    remote.read_exact(&mut vec![0; bytes]).unwrap();
    until("it is counted", || (counted() >= before + bytes as u64).then_some(()));
}

impl Pipes {
    fn change(&mut self, configs: Vec<Config>) {
        let change = self.prepare(configs).unwrap();
        self.commit(change);
    }

    /// Name, bytes received since the refresh before, and bytes received so far. A second passes.
    fn refresh(&mut self) -> Vec<(String, u64, u64)> {
        let at = self.at.unwrap_or_else(Instant::now) + Duration::from_secs(1);
        let snapshot = self.snapshot(at);
        assert_eq!(snapshot.sum(), snapshot.counted);
        let text = |name: &Name| String::from_utf8(name.to_vec()).unwrap();
        let carried = snapshot.rows.iter().filter(|row| !row.account.recent.is_zero());
        let mut carried: Vec<_> = carried
            .map(|row| {
                let Account { recent, total } = row.account;
                (text(&row.name), recent.received, total.received)
            })
            .collect();
        // By use, as lines are.
        carried.sort_by_key(|(name, recent, _)| (std::cmp::Reverse(*recent), name.clone()));
        carried
    }

    fn snapshot(&mut self, at: Instant) -> Snapshot {
        let mut draft = Draft::default();
        self.add_to(&mut draft, at);
        draft.finish(1, Moment { at: jiff::Timestamp::UNIX_EPOCH, instant: at })
    }
}

#[test]
fn what_both_configurations_have_goes_on() {
    let (remote, other) = (self::remote(), self::remote());
    let first = config(&remote);
    let mut pipes = Pipes::default();
    pipes.change(vec![first.clone()]);
    assert_eq!(pipes.refresh(), []);
    let mut open = connect(&first, &remote);
    send(&pipes, &mut open, 1000);
    assert_eq!(pipes.refresh(), [(first.name(), 1000, 1000)]);

    // The same again, with another limit, with another setting: the connection doesn't notice.
    let shaped = Config { shape: NonZeroU64::new(1 << 20), ..first.clone() };
    let patient = Config { connect_timeout: Duration::from_secs(9), ..first.clone() };
    for (changed, draining) in [(first.clone(), 0), (shaped, 0), (patient, 1)] {
        pipes.change(vec![changed]);
        assert_eq!(pipes.running[0].draining.len(), draining);
        send(&pipes, &mut open, 10);
    }
    let mut new = connect(&first, &remote);
    send(&pipes, &mut new, 5);
    assert_eq!(pipes.refresh(), [(first.name(), 35, 1035)]);

    // Another host at the same port: another line, while the one before drains.
    let second = to(first.port, &other);
    pipes.change(vec![second.clone()]);
    let mut next = connect(&second, &other);
    send(&pipes, &mut next, 7);
    send(&pipes, &mut open, 3);
    send(&pipes, &mut new, 2);
    assert_eq!(pipes.refresh(), [(second.name(), 7, 7), (first.name(), 5, 1040)]);
    send(&pipes, &mut open, 1);
    drop((open, new));
    until("nothing is open at the first", || {
        pipes.leaving.iter().flat_map(Running::all).all(|pipe| pipe.open() == 0).then_some(())
    });
    pipes.close();
    assert_eq!(pipes.refresh(), [(first.name(), 1, 1041)]);
    until("the first is forgotten", || {
        assert_eq!(pipes.refresh(), []);
        pipes.leaving.is_empty().then_some(())
    });
    // What it has forwarded is not.
    let snapshot = pipes.snapshot(Instant::now());
    let totals = |config: &Config| {
        let row = snapshot.rows.iter().find(|row| *row.name == *config.name().as_bytes()).unwrap();
        (row.kind, row.account.total.received)
    };
    assert_eq!([totals(&first), totals(&second)], [(Kind::Pipe, 1041), (Kind::Pipe, 7)]);
    assert_eq!(snapshot.counted.total.received, 1048);
}

#[test]
fn any_number_of_pipes_that_are_over_takes_bounded_memory() {
    let mut pipes = Pipes::default();
    let remote = self::remote();
    let pipe = Pipe::start(config(&remote)).unwrap();
    let mut running = Running::new(pipe);
    for index in 0..3 * GONE {
        running.line = format!("pipe-{index}").into_bytes().into();
        running.before = Traffic::new(1, 2);
        pipes.remember(&running);
        assert!(pipes.gone.len() <= GONE);
    }
    let all = 3 * GONE as u64;
    assert_eq!(pipes.snapshot(Instant::now()).counted.total, Traffic::new(all, 2 * all));
}

#[test]
fn what_cannot_be_had_leaves_everything_as_it_was() {
    let remote = self::remote();
    let first = config(&remote);
    let mut pipes = Pipes::default();
    pipes.change(vec![first.clone()]);
    let taken = TcpListener::bind("[::]:0").unwrap();
    let other = to(taken.local_addr().unwrap().port(), &remote);
    let patient = Config { connect_timeout: Duration::from_secs(9), ..first.clone() };
    let error = pipes.prepare(vec![patient, other.clone()]).unwrap_err();
    assert!(matches!(error, ChangeError::Start { index: 1, .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("{}: ", other.name())), "{error}");
    let elsewhere = Config { bind: Some(Ipv4Addr::LOCALHOST.into()), ..first.clone() };
    let error = pipes.prepare(vec![elsewhere]).unwrap_err();
    assert!(matches!(error, ChangeError::Occupied { index: 0, .. }), "{error}");
    let mut open = connect(&first, &remote);
    send(&pipes, &mut open, 1000);
    assert_eq!(pipes.running[0].read().0, Traffic::new(1000, 0));
}

#[test]
fn a_pipe_that_is_left_out_listens_no_more() {
    let remote = self::remote();
    let (first, second) = (config(&remote), config(&remote));
    let mut pipes = Pipes::default();
    pipes.change(vec![first.clone(), second.clone()]);
    let mut open = connect(&first, &remote);
    pipes.change(vec![second.clone()]);
    until("clients are refused", || TcpStream::connect((Ipv4Addr::LOCALHOST, first.port)).err());
    // Clients that were let in until then, and left, are gone.
    until("only one is open", || (pipes.open() == 1).then_some(()));
    send(&pipes, &mut open, 10);
    // And it can come back.
    pipes.change(vec![second, first.clone()]);
    send(&pipes, &mut connect(&first, &remote), 10);
    pipes.close();
    drop(open);
    assert!(pipes.wait(Instant::now() + Duration::from_secs(20)));
}
