//! What it takes to read the counters of all sockets, and nothing else.

use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use bwmon::ebpf::Reader;
use testbed::bench::roles::{READY, Talking, say};
use testbed::bench::usage::cpu_of_thread;
use testbed::netns::Namespace;

/// A process that reads counters when it is asked to.
pub(crate) struct Reading(Talking);

impl Reading {
    pub(crate) fn start(namespace: &Namespace) -> anyhow::Result<Reading> {
        let mut talking = Talking::spawn(&["reader"], namespace)?;
        talking.wait_until_ready()?;
        Ok(Reading(talking))
    }

    /// How many sockets it has read, and in how many milliseconds of CPU time.
    pub(crate) fn ask(&mut self) -> anyhow::Result<(f64, f64)> {
        self.0.tell()?;
        let line = self.0.line()?.context("no more counters are read")?;
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [sockets, milliseconds] = numbers[..] else { bail!("{line:?}") };
        Ok((sockets, milliseconds))
    }
}

/// Reads once for every line, until the standard input is closed.
pub(crate) fn read() -> anyhow::Result<()> {
    let mut reader = Reader::open(Path::new("/proc"), false)?;
    say(READY)?;
    for line in io::stdin().lines() {
        line?;
        let (mut sockets, mut bytes) = (0u64, 0u64);
        let before = cpu_of_thread()?;
        reader.read(|socket, _| {
            sockets += 1;
            bytes = bytes.wrapping_add(socket.bytes.local.sent);
        });
        let milliseconds = (cpu_of_thread()? - before) * 1e3;
        std::hint::black_box(bytes);
        say(&format!("{sockets} {milliseconds}"))?;
    }
    Ok(())
}
