//! Where short connections are made and answered, and what there is of them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::common::{inside, output, run};
use crate::ends::{ADDRESS_COUNT, NETWORK, ip};
use crate::joined::{HERE, Joined, LINK, THERE};
use crate::setting::set;
use crate::talking::Talking;
use crate::tracked::Namespace;
use crate::usage;

/// More than conntrack ever remembers here: 2,000 a second for two minutes, and those at work.
const ENTRIES: usize = 260_000;
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const TIME_WAIT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait";
/// Room for connections that linger at the server's end.
const LINGERING: (&str, &str) = ("/proc/sys/net/ipv4/tcp_max_tw_buckets", "262144");

/// Whose namespace is watched, and who answers in the server's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
    /// The server's, and it is several processes that are called the same.
    Workers,
    /// The same, and each has a name of its own.
    Numbered,
}

/// Two namespaces, the watched one and the other, with a server.
pub(crate) struct Scene {
    /// Before the namespaces, as they are dropped in this order.
    server: Talking,
    joined: Joined,
    side: Side,
}

impl Scene {
    pub(crate) fn new(side: Side) -> anyhow::Result<Scene> {
        let joined = Joined::new(ENTRIES)?;
        let (client, server, gateway) = match side {
            Side::Client => (&joined.here, &joined.there, THERE),
            Side::Server | Side::Workers | Side::Numbered => (&joined.there, &joined.here, HERE),
        };
        set(server, LINGERING.0, LINGERING.1)?;
        for number in 0..ADDRESS_COUNT {
            let address = ip(number).to_string();
            run(inside(&server.path, "ip").args(["addr", "add", &address, "dev", LINK]))?;
        }
        let route = ["route", "add", NETWORK, "via", &gateway.to_string()];
        run(inside(&client.path, "ip").args(route))?;
        let role = match side {
            Side::Client | Side::Server => "server",
            Side::Workers => "workers",
            Side::Numbered => "numbered",
        };
        let mut server = Talking::spawn(&[role], &server.path)?;
        server.wait_until_ready()?;
        Ok(Scene { server, joined, side })
    }

    pub(crate) fn watched(&self) -> &Namespace {
        &self.joined.here
    }

    /// For how many seconds conntrack remembers a connection that has ended.
    pub(crate) fn remember(&self, seconds: u32) -> anyhow::Result<()> {
        set(self.watched(), TIME_WAIT, &seconds.to_string())
    }

    /// Seconds of CPU time of both ends, for which the kernel's work on their packets counts too.
    pub(crate) fn cpu(&self, generator: &Generator) -> anyhow::Result<f64> {
        let ends = [&self.server, &generator.talking].map(|end| end.piped.child.id());
        ends.into_iter().map(usage::cpu_of_group).sum()
    }

    pub(crate) fn entries(&self) -> anyhow::Result<f64> {
        let count = output(inside(&self.watched().path, "cat").arg(COUNT))?;
        count.trim().parse().context(COUNT)
    }

    /// Begins to make connections, by this role.
    pub(crate) fn generate(&self, role: &[&str]) -> anyhow::Result<Generator> {
        let client = match self.side {
            Side::Client => &self.joined.here,
            Side::Server | Side::Workers | Side::Numbered => &self.joined.there,
        };
        let mut talking = Talking::spawn(role, &client.path)?;
        talking.wait_until_ready()?;
        Ok(Generator { talking, begin: Instant::now() })
    }
}

/// Who makes the connections.
pub(crate) struct Generator {
    talking: Talking,
    begin: Instant,
}

/// What it has come to.
pub(crate) struct Progress {
    pub(crate) elapsed: Duration,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

impl Generator {
    pub(crate) fn ask(&mut self) -> anyhow::Result<Progress> {
        self.talking.tell()?;
        let line = self.talking.line()?.context("no more connections are made")?;
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [done, failed] = numbers[..] else { bail!("{line:?}") };
        Ok(Progress { elapsed: self.begin.elapsed(), done, failed })
    }

    pub(crate) fn until(&self, elapsed: Duration) {
        std::thread::sleep((self.begin + elapsed).saturating_duration_since(Instant::now()));
    }
}

/// Compiles `brief.c`, and returns the program's path.
pub(crate) fn brief() -> anyhow::Result<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/watching/brief.c");
    let program = concat!(env!("CARGO_TARGET_TMPDIR"), "/brief");
    run(Command::new("cc").args(["-O2", "-static", "-o", program, source]))?;
    Ok(program.to_owned())
}
