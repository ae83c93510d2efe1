//! What a short connection costs, and what much traffic through one costs, to a fraction of a microsecond.
//!
//! One thread has both ends, and nobody sleeps and is woken: its CPU time is what it costs at both ends. Who
//! counts comes and goes several times a second, so that what else the machine does falls on all alike.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bwmon::ebpf::Reader;
use testbed::bench::figures::{print, spread};
use testbed::bench::roles::{say, this_program};
use testbed::bench::usage::cpu_of_thread;
use testbed::command::try_output;

use crate::hooks::Hooks;
use crate::options::Options;

/// Of a short connection, bytes.
const REQUEST: usize = 100;
const ANSWER: usize = 800;
/// Of one that lasts, as many bytes at once as there certainly is room for.
const PIECE: usize = 32 << 10;
/// For how long each of them counts at a time, and how long it was so before that is measured.
const TURN: Duration = Duration::from_millis(120);
const WARM: Duration = Duration::from_millis(20);
/// Rounds for every second that is asked for and every round of the other parts.
const ROUNDS: usize = 2;
/// Ports aren't used again for a while: so many connections have theirs.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const PORTS: &str = "1024 65535";

/// Who counts.
#[derive(Clone, Copy)]
enum Contestant {
    Nobody,
    /// The hooks are called, and nothing is done there.
    Hooks,
    Counting,
    /// By remote end as well.
    CountingRemotes,
}

const CONTESTANTS: [(&str, Contestant); 4] = [
    ("unwatched", Contestant::Nobody),
    ("the hooks alone", Contestant::Hooks),
    ("counting", Contestant::Counting),
    ("counting by remote end too", Contestant::CountingRemotes),
];

/// What is done again and again.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// As it is called on the command line.
    pub(crate) name: &'static str,
    title: &'static str,
    unit: &'static str,
    once: fn(&mut Ends) -> io::Result<()>,
}

pub(crate) static CONNECTIONS: Work = Work {
    name: "connections",
    title: "Short connections over loopback",
    unit: "connection",
    once: Ends::connection,
};
pub(crate) static PIECES: Work = Work {
    name: "pieces",
    title: "Pieces of 32 KiB through one connection over loopback",
    unit: "piece",
    once: Ends::piece,
};

pub(crate) fn compare(work: &Work, options: &Options) -> anyhow::Result<()> {
    let rounds = options.rounds * options.seconds as usize * ROUNDS;
    let title = format!(
        "{}, {} ms in each of {rounds} interleaved rounds, middle half",
        work.title,
        TURN.as_millis()
    );
    eprintln!("{title}");
    let mut role = Command::new("unshare");
    role.args(["--net", &this_program(), "paired", work.name, &rounds.to_string()]);
    let mut costs = CONTESTANTS.map(|_| Vec::new());
    for line in try_output(&mut role)?.lines() {
        for (costs, word) in costs.iter_mut().zip(line.split(' ')) {
            costs.push(word.parse::<f64>()?);
        }
    }
    let [unwatched, ..] = &costs;
    ensure!(unwatched.len() == rounds, "the rounds ended early");
    let rows = CONTESTANTS.iter().zip(&costs).map(|((name, _), costs)| {
        let pairs = || costs.iter().zip(unwatched);
        vec![
            (*name).to_owned(),
            spread(middle_half(costs.iter().copied()), 2),
            spread(middle_half(pairs().map(|(cost, unwatched)| cost - unwatched)), 2),
            spread(middle_half(pairs().map(|(cost, unwatched)| cost / unwatched)), 3),
        ]
    });
    let cost = format!("CPU of both ends, µs / {}", work.unit);
    let headings = [&cost, "more than unwatched", "/ unwatched, same round"];
    print(&title, &headings.map(str::to_owned), &rows.collect::<Vec<_>>());
    Ok(())
}

/// Turns are short, and some are disturbed.
fn middle_half(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let quarter = values.len() / 4;
    values.drain(quarter..values.len() - quarter).collect()
}

/// Says what it costs with each of them, a line for every round. The network namespace is its own.
pub(crate) fn measure(name: &str, rounds: usize) -> anyhow::Result<()> {
    let work = [&CONNECTIONS, &PIECES].into_iter().find(|work| work.name == name);
    let once = work.with_context(|| name.to_owned())?.once;
    let mut ends = Ends::new()?;
    let hooks = Hooks::compile()?;
    for round in 0..rounds {
        let mut costs = CONTESTANTS.map(|_| 0.0);
        for turn in 0..CONTESTANTS.len() {
            // Every round begins with another one.
            let number = (turn + round) % CONTESTANTS.len();
            costs[number] = match CONTESTANTS[number].1 {
                Contestant::Nobody => ends.cost(once)?,
                Contestant::Hooks => {
                    let _attached = hooks.attach()?;
                    ends.cost(once)?
                }
                counting => {
                    let remotes = matches!(counting, Contestant::CountingRemotes);
                    let mut reader = Reader::open(Path::new("/proc"), remotes)?;
                    let cost = ends.cost(once)?;
                    let room = reader.outside().all(|(_, of)| of.without_slot.is_zero());
                    ensure!(room, "there was no room");
                    cost
                }
            };
        }
        say(&costs.map(|cost| format!("{cost:.3}")).join(" "))?;
    }
    Ok(())
}

struct Ends {
    listener: TcpListener,
    /// A connection that lasts.
    client: TcpStream,
    server: TcpStream,
    buffer: Vec<u8>,
}

impl Ends {
    fn new() -> anyhow::Result<Ends> {
        try_output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        std::fs::write(PORT_RANGE, PORTS).context(PORT_RANGE)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        Ok(Ends { listener, client, server, buffer: vec![0; PIECE] })
    }

    /// Microseconds of CPU time that it takes once.
    fn cost(&mut self, once: fn(&mut Ends) -> io::Result<()>) -> anyhow::Result<f64> {
        self.count(once, WARM)?;
        let before = cpu_of_thread()?;
        let count = self.count(once, TURN)?;
        Ok((cpu_of_thread()? - before) * 1e6 / f64::from(count))
    }

    fn count(&mut self, once: fn(&mut Ends) -> io::Result<()>, time: Duration) -> io::Result<u32> {
        let (begin, mut count) = (Instant::now(), 0);
        while begin.elapsed() < time {
            once(self)?;
            count += 1;
        }
        Ok(count)
    }

    /// Connects, sends a request and an answer, and closes.
    fn connection(&mut self) -> io::Result<()> {
        let mut client = TcpStream::connect(self.listener.local_addr()?)?;
        let (mut server, _) = self.listener.accept()?;
        client.write_all(&[b'?'; REQUEST])?;
        server.read_exact(&mut self.buffer[..REQUEST])?;
        server.write_all(&[b'!'; ANSWER])?;
        drop(server);
        while client.read(&mut self.buffer)? > 0 {}
        Ok(())
    }

    /// Sends a piece.
    fn piece(&mut self) -> io::Result<()> {
        self.client.write_all(&self.buffer)?;
        self.server.read_exact(&mut self.buffer)
    }
}
