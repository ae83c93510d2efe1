//! What a connection costs that does nothing: the forwarder's memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use testbed::bench::server::{PATIENCE, Server};

use crate::figures::{Effort, Figure, Group, Section};
use crate::peers::Forwarder;
use crate::stage::{ECHO, Stage};

const COUNTS: [usize; 2] = [10, 1000];
/// Until a forwarder has given back what it needed only for the moment.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) static GROUP: Group = Group {
    name: "idle",
    needs: &[],
    remote: ECHO,
    sections: &[Section {
        title: "KB of memory per idle connection",
        headings: &["of 10", "of 1000"],
        more_is_better: false,
        decimals: 1,
    }],
    serve,
    measure,
};

/// The server is this process too.
fn serve(_: &Stage) -> anyhow::Result<Option<Server>> {
    Ok(None)
}

fn measure(forwarder: &Forwarder, effort: Effort) -> anyhow::Result<Vec<Figure>> {
    if forwarder.group().is_none() {
        return Ok(COUNTS.map(|_| f64::NAN.into()).into());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ECHO))?;
    // What the first connection brings with it isn't any other's.
    drop(connection(forwarder, &listener)?);
    sleep(QUIET);
    let before = forwarder.memory()?;
    let (mut held, mut figures) = (Vec::new(), Vec::new());
    for &count in effort.of(&COUNTS) {
        while held.len() < count {
            let next = connection(forwarder, &listener);
            held.push(next.with_context(|| format!("after {} connections", held.len()))?);
        }
        sleep(QUIET);
        figures.push(((forwarder.memory()? - before) / count as f64).into());
    }
    Ok(figures)
}

/// Both ends of a connection over which a byte went both ways.
fn connection(
    forwarder: &Forwarder,
    listener: &TcpListener,
) -> anyhow::Result<(TcpStream, TcpStream)> {
    let address = (Ipv4Addr::LOCALHOST, forwarder.port).into();
    let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
    client.write_all(b"?")?;
    let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&limit))?;
    ensure!(ready == 1, "nothing came through");
    let (mut server, _) = listener.accept()?;
    let mut byte = [0];
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    server.read_exact(&mut byte)?;
    server.write_all(&byte)?;
    client.read_exact(&mut byte)?;
    Ok((client, server))
}
