//! Who has very many sockets.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::ops::Range;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testbed::bench::roles::{READY, Talking, say};
use testbed::netns::Namespace;

/// A process may have only so many descriptors.
const PROCESSES: usize = 8;
const PORTS: Range<usize> = 10_000..60_000;
/// For what a process has beside its sockets.
const OTHERS: u64 = 100;

/// Sockets, in pairs that are connected to each other, and the processes that have them.
pub(crate) struct Holders {
    talking: Vec<Talking>,
    pub(crate) count: usize,
}

impl Holders {
    /// At least so many, in a namespace.
    pub(crate) fn start(count: usize, namespace: &Namespace) -> anyhow::Result<Holders> {
        let each = count.div_ceil(PROCESSES).next_multiple_of(2);
        let mut talking = Vec::new();
        for number in 0..PROCESSES {
            let (first, each) = ((number * each).to_string(), each.to_string());
            talking.push(Talking::spawn(&["holder", &first, &each], namespace)?);
        }
        talking.iter_mut().try_for_each(Talking::wait_until_ready)?;
        Ok(Holders { talking, count: each * PROCESSES })
    }

    /// Every socket sends a packet, and gets the other one's.
    pub(crate) fn stir(&mut self) -> anyhow::Result<()> {
        self.talking.iter_mut().try_for_each(Talking::tell)?;
        self.talking.iter_mut().try_for_each(Talking::wait_until_ready)
    }
}

/// Has `count` sockets, of which the first is number `first` of all there are. With every line each of
/// them sends a packet, until the standard input is closed.
pub(crate) fn hold(first: usize, count: usize) -> anyhow::Result<()> {
    let needed = count as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < needed) {
        let maximum = maximum.map(|maximum| maximum.max(needed));
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })?;
    }
    let pairs: Vec<(UdpSocket, UdpSocket)> =
        (first..first + count).step_by(2).map(pair).collect::<io::Result<_>>()?;
    say(READY)?;
    for line in io::stdin().lines() {
        line?;
        for (a, b) in &pairs {
            for (from, to) in [(a, b), (b, a)] {
                from.send(b"!")?;
                ensure!(to.recv(&mut [0; 2])? == 1, "this is somebody else's packet");
            }
        }
        say(READY)?;
    }
    io::stdout().flush().context("the bench is gone")
}

fn pair(number: usize) -> io::Result<(UdpSocket, UdpSocket)> {
    let [(a, at_a), (b, at_b)] = [bound(number)?, bound(number + 1)?];
    a.connect(at_b)?;
    b.connect(at_a)?;
    Ok((a, b))
}

fn bound(number: usize) -> io::Result<(UdpSocket, SocketAddrV4)> {
    let ports = PORTS.len();
    let address = Ipv4Addr::new(127, 1, 0, (1 + number / ports) as u8);
    let at = SocketAddrV4::new(address, (PORTS.start + number % ports) as u16);
    Ok((UdpSocket::bind(at)?, at))
}
