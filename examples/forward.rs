//! Forwards a local port to a remote host, and counts what goes through it:
//! `forward 8080 example.com 80`.

use std::env;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;
use bwmon::pipe::{Config, Pipe};

fn main() -> anyhow::Result<()> {
    let usage = "usage: forward LOCALPORT HOST REMOTEPORT";
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().context(usage);
    let (port, host, remote_port) = (next()?, next()?, next()?);
    let config =
        Config::new(port.parse().context(usage)?, host, remote_port.parse().context(usage)?);
    let pipe = Pipe::start(config)?;
    println!("listening on {}", pipe.address());
    loop {
        sleep(Duration::from_secs(1));
        let traffic = pipe.traffic();
        println!(
            "{} bytes from clients, {} bytes to them, {} connections",
            traffic.received,
            traffic.sent,
            pipe.open()
        );
    }
}
