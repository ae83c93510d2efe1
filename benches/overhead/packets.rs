//! What a small packet costs.
//!
//! One thread has both ends: it sends some packets and takes them out again. Nobody sleeps and is woken,
//! nothing is dropped, and the thread's CPU time is what the packets cost at both ends, calls included.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testbed::bench::joined::THERE;
use testbed::bench::roles::{Talking, say};
use testbed::bench::server::Server;
use testbed::bench::usage::cpu_of_thread;
use testbed::netns::Namespace;

use crate::rounds::{Done, Load};
use crate::scene::Scene;

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
    let (watched, server) = (scene.watched(), scene.server());
    let seconds = seconds.to_string();
    let mut role = vec!["packets", &seconds];
    if watched.name != server.name {
        role.push(&server.name);
    }
    let mut talking = Talking::spawn(&role, watched)?;
    let line = talking.line()?.context("no packets were sent")?;
    let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [packets, elapsed, cpu] = numbers[..] else { bail!("{line:?}") };
    Ok(Done { rate: packets / elapsed, cost: cpu * 1e9 / packets })
}

/// Sends packets for so long, to a socket in the namespace of the name `there`, or else in this one. Says how many
/// there were, how many seconds it took, and how many of CPU time.
pub(crate) fn send(seconds: f64, there: Option<&str>) -> anyhow::Result<()> {
    let receiver = match there {
        Some(name) => bound_inside(name)?,
        None => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
    };
    receiver.set_read_timeout(Some(PATIENCE))?;
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    sender.connect(receiver.local_addr()?)?;
    // Until addresses are resolved and caches are warm.
    batches(&sender, &receiver, seconds / 10.0)?;
    let before = cpu_of_thread()?;
    let (packets, elapsed) = batches(&sender, &receiver, seconds)?;
    say(&format!("{packets} {elapsed} {}", cpu_of_thread()? - before))?;
    Ok(())
}

fn bound_inside(name: &str) -> io::Result<UdpSocket> {
    Namespace::existing(name).inside(|| UdpSocket::bind((THERE, 0)))
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
