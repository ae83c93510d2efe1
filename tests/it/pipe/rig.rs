//! A pipe with a remote behind it, and what its two ends can do and see.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bwmon::pipe::{Config, ConnectError, End, Event, Pipe, Resolve};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::set_socket_linger;

use crate::ports::free_port;

/// How long anything may take that should take no time. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How long the test looks at something that must not happen.
pub(crate) const MOMENT: Duration = Duration::from_millis(150);

/// How many connections may wait to be accepted; the kernel takes less where it allows less.
const BACKLOG: i32 = 8192;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether it becomes ready so before the time is over.
pub(crate) fn ready(socket: impl AsFd, flags: PollFlags, within: Duration) -> bool {
    let mut fds = [PollFd::new(&socket, flags)];
    let time = Timespec::try_from(within).unwrap();
    retry_on_intr(|| poll(&mut fds, Some(&time))).is_ok_and(|count| count > 0)
}

/// Reads once. A machine that is stopped for a moment interrupts whoever waits with a timeout.
pub(crate) fn read_some(mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A socket of the test never waits for ever.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects within [`PATIENCE`].
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE);
    patient(stream.unwrap_or_else(|error| panic!("{address}: {error}")))
}

/// Breaks the connection off: what the peer gets is a reset.
pub(crate) fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Fails unless the stream comes to its end by a reset, after any bytes.
pub(crate) fn expect_reset(stream: &TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match read_some(stream, &mut buffer) {
            Ok(0) => panic!("an ordinary end, no reset"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("no reset: {error}"),
        }
    }
}

/// Fails unless the ordinary end comes next.
pub(crate) fn expect_end(stream: &TcpStream) {
    let got = read_some(stream, &mut [0; 16]);
    let got = got.unwrap_or_else(|error| panic!("no ordinary end: {error}"));
    assert_eq!(got, 0, "bytes instead of the end");
}

/// Writes at one end and reads at the other, both ways.
pub(crate) fn exchange(client: &TcpStream, remote: &TcpStream) {
    for (mut from, mut to) in [(client, remote), (remote, client)] {
        from.write_all(b"a message").unwrap();
        let mut got = [0; 9];
        to.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"a message");
    }
}

/// What both ends do when they are done; waits for the other's.
pub(crate) fn finish(client: TcpStream, remote: TcpStream) {
    client.shutdown(Shutdown::Write).unwrap();
    expect_end(&remote);
    remote.shutdown(Shutdown::Write).unwrap();
    expect_end(&client);
}

/// Whom a pipe connects to.
pub(crate) struct Remote {
    listener: TcpListener,
}

impl Remote {
    /// On a port that no other test has, also not when this remote is gone.
    pub(crate) fn new() -> Remote {
        Remote::at((LOCAL, free_port()).into())
    }

    pub(crate) fn at(address: SocketAddr) -> Remote {
        let listener = TcpListener::bind(address).unwrap();
        // A connection that finds no room waits for a repetition of the kernel's, which may take longer than
        // anybody here waits.
        rustix::net::listen(&listener, BACKLOG).unwrap();
        listener.set_nonblocking(true).unwrap();
        Remote { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection of the pipe.
    pub(crate) fn accept(&self) -> TcpStream {
        self.accept_within(PATIENCE).expect("no connection from the pipe")
    }

    /// The next connection of the pipe, if one comes in this time.
    pub(crate) fn accept_within(&self, time: Duration) -> Option<TcpStream> {
        let deadline = Instant::now() + time;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Some(patient(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("accept: {error}"),
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            ready(&self.listener, PollFlags::IN, left);
        }
    }
}

/// All that a pipe has told.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn collect<T>(&self, take: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.0.lock().unwrap().iter().filter_map(take).collect()
    }

    /// How connections ended, in that order.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.collect(|event| match event {
            Event::Ended(ended) => Some(ended.end),
            _ => None,
        })
    }

    /// The connections that ended.
    pub(crate) fn ended(&self) -> Vec<bwmon::pipe::Ended> {
        self.collect(|event| match event {
            Event::Ended(ended) => Some(ended.clone()),
            _ => None,
        })
    }

    /// Why clients were not served, and who.
    pub(crate) fn failures(&self) -> Vec<(SocketAddr, Failure)> {
        self.collect(|event| match event {
            Event::Failed(failed) => Some((failed.client, Failure::of(&failed.error))),
            _ => None,
        })
    }

    /// Waits for one more failure than `before`; why.
    pub(crate) fn failure_after(&self, before: usize) -> Failure {
        eventually("a failure is reported", || self.failures().len() > before);
        self.failures()[before].1.clone()
    }

    /// Waits for the first end.
    pub(crate) fn first_end(&self) -> End {
        eventually("an end is reported", || !self.ends().is_empty());
        self.ends()[0]
    }
}

/// A [`ConnectError`] that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Unresolved,
    Refused(SocketAddr, ErrorKind),
    Abandoned,
    Itself,
    Starved,
}

impl Failure {
    fn of(error: &ConnectError) -> Failure {
        match error {
            ConnectError::Unresolved { .. } => Failure::Unresolved,
            ConnectError::Refused { address, error } => Failure::Refused(*address, error.kind()),
            ConnectError::Abandoned => Failure::Abandoned,
            ConnectError::Itself { .. } => Failure::Itself,
            ConnectError::Starved => Failure::Starved,
        }
    }
}

/// A resolver made of a function.
pub(crate) struct Answer<F>(pub(super) F);

impl<F: Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync> Resolve for Answer<F> {
    fn resolve(&self, _host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        (self.0)()
    }
}

/// A pipe to a remote, on ports that no other test has.
pub(crate) struct Rig {
    pub(crate) pipe: Pipe,
    pub(crate) remote: Remote,
    pub(crate) events: Events,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(|_| {})
    }

    /// With another configuration than the one that all others have.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Rig {
        Rig::before(Remote::new(), change)
    }

    /// Before this remote.
    pub(crate) fn before(remote: Remote, change: impl FnOnce(&mut Config)) -> Rig {
        let (pipe, events) = pipe_to(remote.address(), change);
        Rig { pipe, remote, events }
    }

    /// Where clients on IPv4 connect to.
    pub(crate) fn entrance(&self) -> SocketAddr {
        entrance(&self.pipe)
    }

    pub(crate) fn client(&self) -> TcpStream {
        connect(self.entrance())
    }

    /// Both ends of a new connection.
    pub(crate) fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        (client, self.remote.accept())
    }

    /// Waits until no connection is open.
    pub(crate) fn expect_idle(&self) {
        eventually("no connection is open", || self.pipe.open() == 0);
    }

    /// Waits until no connection is open, and compares what was counted.
    pub(crate) fn expect_counted(&self, received: u64, sent: u64) {
        self.expect_idle();
        let traffic = self.pipe.traffic();
        assert_eq!((traffic.received, traffic.sent), (received, sent), "(received, sent)");
    }
}

/// A pipe alone, and what it tells.
pub(crate) fn pipe_to(address: SocketAddr, change: impl FnOnce(&mut Config)) -> (Pipe, Events) {
    let events = Events::default();
    let mut config = Config::new(free_port(), address.ip().to_string(), address.port());
    config.workers = NonZeroUsize::new(2).unwrap();
    config.report_ends = true;
    let told = events.clone();
    config.report = Some(Arc::new(move |event| told.push(event)));
    change(&mut config);
    (Pipe::start(config).unwrap(), events)
}

/// Where clients on IPv4 connect to.
pub(crate) fn entrance(pipe: &Pipe) -> SocketAddr {
    (LOCAL, pipe.address().port()).into()
}
