//! Where short connections are made and answered, and what there is of them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use testbed::bench::joined::{HERE, Joined, LINK, THERE};
use testbed::bench::roles::Talking;
use testbed::bench::usage;
use testbed::command::try_output;
use testbed::netns::Namespace;

use crate::ends::{ADDRESS_COUNT, NETWORK, ip};

/// More than conntrack ever remembers here: 2,000 a second for two minutes, and those at work.
const ENTRIES: usize = 260_000;
const COUNT: &str = "net.netfilter.nf_conntrack_count";
const TIME_WAIT: &str = "net.netfilter.nf_conntrack_tcp_timeout_time_wait";
/// Room for connections that linger at the server's end.
const LINGERING: (&str, &str) = ("net.ipv4.tcp_max_tw_buckets", "262144");

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
        server.set_sysctl(LINGERING.0, LINGERING.1);
        for number in 0..ADDRESS_COUNT {
            let address = ip(number).to_string();
            server.run(&format!("ip address add {address} dev {LINK}"));
        }
        client.run(&format!("ip route add {NETWORK} via {gateway}"));
        let role = match side {
            Side::Client | Side::Server => "server",
            Side::Workers => "workers",
            Side::Numbered => "numbered",
        };
        let mut server = Talking::spawn(&[role], server)?;
        server.wait_until_ready()?;
        Ok(Scene { server, joined, side })
    }

    pub(crate) fn watched(&self) -> &Namespace {
        &self.joined.here
    }

    /// For how many seconds conntrack remembers a connection that has ended.
    pub(crate) fn remember(&self, seconds: u32) {
        self.watched().set_sysctl(TIME_WAIT, seconds);
    }

    /// Seconds of CPU time of both ends, for which the kernel's work on their packets counts too.
    pub(crate) fn cpu(&self, generator: &Generator) -> anyhow::Result<f64> {
        let ends = [&self.server, &generator.talking].map(|end| end.piped.child.id().cast_signed());
        ends.into_iter().map(usage::cpu_of_group).sum()
    }

    pub(crate) fn entries(&self) -> anyhow::Result<f64> {
        self.watched().sysctl(COUNT).parse().context(COUNT)
    }

    /// Begins to make connections, by this role.
    pub(crate) fn generate(&self, role: &[&str]) -> anyhow::Result<Generator> {
        let client = match self.side {
            Side::Client => &self.joined.here,
            Side::Server | Side::Workers | Side::Numbered => &self.joined.there,
        };
        let mut talking = Talking::spawn(role, client)?;
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

/// For the files of servers, and for what is compiled.
pub(crate) fn directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Compiles `brief.c`, and returns the program's path.
pub(crate) fn brief() -> anyhow::Result<String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/watching/brief.c");
    let program = directory().join("brief");
    try_output(Command::new("cc").args(["-O2", "-static", source, "-o"]).arg(&program))?;
    Ok(program.display().to_string())
}
