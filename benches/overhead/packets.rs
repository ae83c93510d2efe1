//! What a small packet costs.
//!
//! One thread has both ends: it sends some packets and takes them out again. Nobody sleeps and is woken,
//! nothing is dropped, and the thread's CPU time is what the packets cost at both ends, calls included.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::time::ClockId;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::joined::THERE;
use crate::rounds::{Done, Load};
use crate::scene::Scene;
use crate::server::Server;
use crate::talking::{Talking, say};

/// Bytes in a packet.
const LENGTH: usize = 64;
/// How many are on their way at a time: they have room in the receiver's buffer.
const BATCH: u64 = 64;
/// A packet that takes so long is lost.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) static LOAD: Load = Load {
    title: "UDP packets of 64 bytes",
    needs: &[],
    rate: "packets/s",
    cost: "ns / packet",
    serve: |_| Ok(None),
    run,
};

fn run(scene: &Scene, _: Option<&Server>, seconds: u64) -> anyhow::Result<Done> {
    let (watched, server) = (&scene.watched().path, &scene.server().path);
    let seconds = seconds.to_string();
    let mut role = vec!["packets", &seconds];
    if watched != server {
        role.push(server);
    }
    let mut talking = Talking::spawn(&role, watched)?;
    let line = talking.line()?.context("no packets were sent")?;
    let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [packets, elapsed, cpu] = numbers[..] else { bail!("{line:?}") };
    Ok(Done { rate: packets / elapsed, cost: cpu * 1e9 / packets })
}

/// Sends packets for so long, to a socket in the namespace `there`, or else in this one. Says how many
/// there were, how many seconds it took, and how many of CPU time.
pub(crate) fn send(seconds: f64, there: Option<&str>) -> anyhow::Result<()> {
    let receiver = match there {
        Some(path) => bound_inside(path)?,
        None => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
    };
    receiver.set_read_timeout(Some(PATIENCE))?;
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    sender.connect(receiver.local_addr()?)?;
    // Until addresses are resolved and caches are warm.
    batches(&sender, &receiver, seconds / 10.0)?;
    let before = cpu()?;
    let (packets, elapsed) = batches(&sender, &receiver, seconds)?;
    say(&format!("{packets} {elapsed} {}", cpu()? - before))?;
    Ok(())
}

fn bound_inside(path: &str) -> anyhow::Result<UdpSocket> {
    let namespace = File::open(path).with_context(|| path.to_owned())?;
    let bound = thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        UdpSocket::bind((THERE, 0))
    });
    Ok(bound.join().unwrap_or_else(|_| Err(io::Error::other("a thread has failed")))?)
}

fn batches(sender: &UdpSocket, receiver: &UdpSocket, seconds: f64) -> io::Result<(u64, f64)> {
    let (begin, mut packets) = (Instant::now(), 0);
    while begin.elapsed().as_secs_f64() < seconds {
        for _ in 0..BATCH {
            sender.send(&[0; LENGTH])?;
        }
        for _ in 0..BATCH {
            receiver.recv(&mut [0; LENGTH])?;
        }
        packets += BATCH;
    }
    Ok((packets, begin.elapsed().as_secs_f64()))
}

/// Seconds of CPU time of this thread.
pub(crate) fn cpu() -> anyhow::Result<f64> {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now()?;
    Ok(now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9)
}
