//! What a short connection costs, to a fraction of a microsecond.
//!
//! One thread has both ends: it connects to itself, sends a request and an answer, and closes. Nobody
//! sleeps and is woken, and its CPU time is what the connection costs at both ends. Who counts comes and goes
//! several times a second, so that what else the machine does falls on all alike.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bwmon::ebpf::Reader;

use crate::common::{output, run, this_program};
use crate::hooks::Hooks;
use crate::options::Options;
use crate::packets::cpu;
use crate::table::{print, spread};
use crate::talking::say;

const REQUEST: usize = 100;
const ANSWER: usize = 800;
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
}

const CONTESTANTS: [(&str, Contestant); 3] = [
    ("unwatched", Contestant::Nobody),
    ("the hooks alone", Contestant::Hooks),
    ("counting", Contestant::Counting),
];

pub(crate) fn compare(options: &Options) -> anyhow::Result<()> {
    let rounds = options.rounds * options.seconds as usize * ROUNDS;
    let title = format!(
        "Short connections over loopback, {} ms in each of {rounds} interleaved rounds, middle half",
        TURN.as_millis()
    );
    eprintln!("{title}");
    let mut role = Command::new("unshare");
    role.args(["--net", &this_program()?, "connections", &rounds.to_string()]);
    let mut costs = CONTESTANTS.map(|_| Vec::new());
    for line in output(&mut role)?.lines() {
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
    let headings =
        ["CPU of both ends, µs / connection", "more than unwatched", "/ unwatched, same round"];
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

/// Says what a connection costs with each of them, a line for every round. The network namespace is its own.
pub(crate) fn connect(rounds: usize) -> anyhow::Result<()> {
    let ends = Ends::new()?;
    let mut hooks = Hooks::load()?;
    for round in 0..rounds {
        let mut costs = CONTESTANTS.map(|_| 0.0);
        for turn in 0..CONTESTANTS.len() {
            // Every round begins with another one.
            let number = (turn + round) % CONTESTANTS.len();
            costs[number] = match CONTESTANTS[number].1 {
                Contestant::Nobody => ends.cost()?,
                Contestant::Hooks => {
                    hooks.attach()?;
                    let cost = ends.cost();
                    hooks = Hooks::load()?;
                    cost?
                }
                Contestant::Counting => {
                    let reader = Reader::open(Path::new("/proc"))?;
                    let cost = ends.cost()?;
                    ensure!(reader.without_slot() == Default::default(), "there was no room");
                    cost
                }
            };
        }
        say(&costs.map(|cost| format!("{cost:.3}")).join(" "))?;
    }
    Ok(())
}

struct Ends(TcpListener);

impl Ends {
    fn new() -> anyhow::Result<Ends> {
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        std::fs::write(PORT_RANGE, PORTS).context(PORT_RANGE)?;
        Ok(Ends(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))
    }

    /// Microseconds of CPU time for a connection.
    fn cost(&self) -> anyhow::Result<f64> {
        self.connections(WARM)?;
        let before = cpu()?;
        let count = self.connections(TURN)?;
        Ok((cpu()? - before) * 1e6 / f64::from(count))
    }

    fn connections(&self, time: Duration) -> io::Result<u32> {
        let (address, begin, mut count) = (self.0.local_addr()?, Instant::now(), 0);
        let mut buffer = [0; ANSWER];
        while begin.elapsed() < time {
            let mut client = TcpStream::connect(address)?;
            let (mut server, _) = self.0.accept()?;
            client.write_all(&[b'?'; REQUEST])?;
            server.read_exact(&mut buffer[..REQUEST])?;
            server.write_all(&[b'!'; ANSWER])?;
            drop(server);
            while client.read(&mut buffer)? > 0 {}
            count += 1;
        }
        Ok(count)
    }
}
