//! Both ends of the short connections: who makes them, and who answers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::spawn;

use rustix::net::{self, AddressFamily, SocketType};
use testbed::bench::roles::{READY, say, this_program, until_closed};

use crate::pace;

const PORT: u16 = 8080;
/// The server's addresses.
pub(crate) const NETWORK: &str = "198.18.0.0/29";
pub(crate) const ADDRESS_COUNT: u64 = 8;
/// The client's ports. With all of these to each address no two connections are alike that conntrack
/// remembers at the same time: it would forget the earlier one, and the table would stay smaller.
const PORTS: Range<u16> = 10_000..65_000;

const REQUEST: [u8; 200] = [b'?'; 200];
const ANSWER: [u8; 1000] = [b'!'; 1000];
/// So many threads or processes accept.
const ACCEPTORS: usize = 4;

/// An address of the server's.
pub(crate) fn ip(number: u64) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, (number % ADDRESS_COUNT) as u8)
}

/// Makes so many connections a second.
pub(crate) fn connect(rate: f64) -> anyhow::Result<()> {
    pace::run(rate, || exchange)
}

fn exchange(number: u64) -> io::Result<()> {
    let ports = PORTS.len() as u64;
    let port = PORTS.start + (number % ports) as u16;
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    net::connect(&socket, &SocketAddrV4::new(ip(number / ports), PORT))?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&REQUEST)?;
    let mut answer = Vec::with_capacity(ANSWER.len() + 1);
    stream.read_to_end(&mut answer)?;
    let complete = answer.len() == ANSWER.len();
    if complete { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Starts so many processes a second, each of which makes a connection; `program` is `brief.c`'s.
pub(crate) fn start_processes(rate: f64, program: &str) -> anyhow::Result<()> {
    pace::run(rate, || {
        let (program, mut living) = (program.to_owned(), VecDeque::<Child>::new());
        move |number| {
            let arguments = [ip(number).to_string(), PORT.to_string(), number.to_string()];
            living.push_back(Command::new(&program).args(arguments).stdin(Stdio::null()).spawn()?);
            // They live equally long.
            while let Some(oldest) = living.front_mut()
                && let Some(status) = oldest.try_wait()?
            {
                living.pop_front();
                if !status.success() {
                    return Err(io::Error::other(status.to_string()));
                }
            }
            Ok(())
        }
    })
}

/// Who answers: the threads of one process, or processes that share the listening socket, which are
/// called the same or not.
pub(crate) enum Serving {
    Threads,
    Workers,
    Numbered,
}

/// Answers connections.
pub(crate) fn serve(serving: Serving) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    let mut workers = Vec::new();
    for number in 0..ACCEPTORS {
        let listener = listener.try_clone()?;
        let name = match serving {
            Serving::Threads => {
                spawn(move || answer(&listener));
                continue;
            }
            Serving::Workers => String::from("-"),
            Serving::Numbered => number.to_string(),
        };
        workers.push(Worker::spawn(&["worker", &name], listener.into())?);
    }
    say(READY)?;
    until_closed()?;
    Ok(())
}

/// A worker's listening socket is its standard input.
pub(crate) fn work() -> anyhow::Result<()> {
    let listener: TcpListener = io::stdin().as_fd().try_clone_to_owned()?.into();
    answer(&listener)?;
    Ok(())
}

fn answer(listener: &TcpListener) -> io::Result<()> {
    loop {
        // A client that has gone away is no reason to end.
        let (mut stream, _) = listener.accept()?;
        let _ = stream.read_exact(&mut [0; REQUEST.len()]).and_then(|()| stream.write_all(&ANSWER));
    }
}

struct Worker(Child);

impl Worker {
    fn spawn(arguments: &[&str], listener: OwnedFd) -> anyhow::Result<Worker> {
        let this = this_program();
        Ok(Worker(Command::new(this).args(arguments).stdin(listener).spawn()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
