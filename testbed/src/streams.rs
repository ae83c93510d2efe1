//! TCP connections of a test's own: nobody waits for ever, and each end says what it got.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::set_socket_linger;

use crate::ports::free_port;

/// How long a socket may take for what should take no time. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long the test looks at something that must not happen.
pub const MOMENT: Duration = Duration::from_millis(150);

/// How many connections may wait to be accepted; the kernel takes less where it allows less.
const BACKLOG: i32 = 8192;

/// Where everything is that needs no namespace.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whether it becomes ready so before the time is over.
pub fn ready(socket: impl AsFd, flags: PollFlags, within: Duration) -> bool {
    let mut fds = [PollFd::new(&socket, flags)];
    let time = Timespec::try_from(within).unwrap();
    retry_on_intr(|| poll(&mut fds, Some(&time))).is_ok_and(|count| count > 0)
}

/// Reads once. A machine that is stopped for a moment interrupts whoever waits with a timeout.
pub fn read_some(mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A socket of the test never waits for ever.
pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects within [`PATIENCE`].
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE);
    patient(stream.unwrap_or_else(|error| panic!("{address}: {error}")))
}

/// Breaks the connection off: what the peer gets is a reset.
pub fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Fails unless the stream comes to its end by a reset, after any bytes.
pub fn expect_reset(stream: &TcpStream) {
    assert_eq!(last_error(stream), Some(ErrorKind::ConnectionReset), "no reset");
}

/// Fails unless the ordinary end comes next.
pub fn expect_end(stream: &TcpStream) {
    let got = read_some(stream, &mut [0; 16]);
    let got = got.unwrap_or_else(|error| panic!("no ordinary end: {error}"));
    assert_eq!(got, 0, "bytes instead of the end");
}

/// Writes at one end and reads at the other, both ways.
pub fn exchange(client: &TcpStream, remote: &TcpStream) {
    for (mut from, mut to) in [(client, remote), (remote, client)] {
        from.write_all(b"a message").unwrap();
        let mut got = [0; 9];
        to.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"a message");
    }
}

/// What both ends do when they are done; waits for the other's.
pub fn finish(client: TcpStream, remote: TcpStream) {
    client.shutdown(Shutdown::Write).unwrap();
    expect_end(&remote);
    remote.shutdown(Shutdown::Write).unwrap();
    expect_end(&client);
}

/// Whom a pipe connects to: a listening socket.
pub struct Remote {
    listener: TcpListener,
}

impl Remote {
    /// On a port that no other test has, also not when this remote is gone.
    pub fn new() -> Remote {
        Remote::at((LOCAL, free_port()).into())
    }

    pub fn at(address: SocketAddr) -> Remote {
        let listener = TcpListener::bind(address).unwrap();
        // A connection that finds no room waits for a repetition of the kernel's, which may take longer than
        // anybody here waits.
        rustix::net::listen(&listener, BACKLOG).unwrap();
        listener.set_nonblocking(true).unwrap();
        Remote { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection of the pipe.
    pub fn accept(&self) -> TcpStream {
        self.accept_within(PATIENCE).expect("no connection from the pipe")
    }

    /// The next connection of the pipe, if one comes in this time.
    pub fn accept_within(&self, time: Duration) -> Option<TcpStream> {
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

/// How the stream ends, after any bytes: `None` by an ordinary end.
pub fn last_error(stream: &TcpStream) -> Option<ErrorKind> {
    let mut buffer = [0; 4096];
    loop {
        match read_some(stream, &mut buffer) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

/// Whether the process, in its network namespace, has a listener on this port. All that a program listens
/// on it opens before it accepts.
pub fn listens(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let lines = fs::read_to_string(format!("/proc/{pid}/net/{table}"));
        is_listening(&lines.unwrap_or_default(), port)
    })
}

/// Whether a table like `/proc/net/tcp` has a listener on this port.
pub fn is_listening(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some(LISTEN)
    })
}
