//! Five thousand processes that each have a connection, and somebody at its other end.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{Piped, inside, output, run, until_closed};
use crate::rules::command_line;
use crate::tracked::Namespace;

const HERE: &str = "192.0.2.1/24";
const THERE: &str = "192.0.2.2/24";
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 443);
/// What every connection gets at once.
const MESSAGE: [u8; 100] = [b'!'; 100];
/// For acknowledgements that are put off.
const SETTLE: Duration = Duration::from_millis(100);
/// In seconds: should everything else fail that ends them.
const LIFETIME: &str = "300";

/// What roles say when they have done what they were asked for, and `measure` to ask for more.
const READY: &str = "ready";
pub(crate) const MORE: &str = "more";

/// A role that answers.
struct Talking {
    piped: Piped,
    said: BufReader<ChildStdout>,
}

impl Talking {
    fn spawn(arguments: &[&str], namespace: &Namespace) -> anyhow::Result<Talking> {
        let mut piped = Piped::spawn(arguments, Some(&namespace.path))?;
        let said = BufReader::new(piped.child.stdout.take().context("no pipe")?);
        Ok(Talking { piped, said })
    }

    fn line(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        ensure!(self.line()?.as_deref() == Some(READY), "somebody ended early");
        Ok(())
    }

    fn tell(&mut self) -> anyhow::Result<()> {
        self.piped.child.stdin.as_mut().context("no pipe")?.write_all(b"\n")?;
        Ok(())
    }
}

/// The traffic, for as long as this lives.
pub(crate) struct Scene {
    /// What there really is.
    pub(crate) census: String,
    /// In the order in which they are dropped.
    _crowd: Talking,
    server: Talking,
    here: Namespace,
    _there: Namespace,
}

impl Scene {
    pub(crate) fn new(processes: usize) -> anyhow::Result<Scene> {
        // This limit is inherited.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;

        let there_name = format!("bwmon-bench-{}-there", std::process::id());
        let there = Namespace::begin(&there_name, "")?;
        let here = Namespace::tracking(processes)?;
        let link = ["link", "add", "bench", "type", "veth", "peer", "bench", "netns", &there_name];
        run(inside(&here.path, "ip").args(link))?;
        for (namespace, address) in [(&here, HERE), (&there, THERE)] {
            run(inside(&namespace.path, "ip").args(["addr", "add", address, "dev", "bench"]))?;
            run(inside(&namespace.path, "ip").args(["link", "set", "bench", "up"]))?;
        }
        let number = processes.to_string();
        let mut server = Talking::spawn(&["server", &number], &there)?;
        server.wait_until_ready()?;
        let mut crowd = Talking::spawn(&["crowd", &number], &here)?;
        crowd.wait_until_ready()?;
        server.wait_until_ready()?;

        let sockets = output(inside(&here.path, "ss").args(["-Htn", "state", "established"]))?;
        let sockets = sockets.lines().count();
        ensure!(sockets == processes, "{sockets} sockets are connected, not {processes}");
        let census = format!("{processes} processes with a command line and a connection each");
        Ok(Scene { census, _crowd: crowd, server, here, _there: there })
    }

    /// Runs `measure` with these arguments, shows what it prints, and sends when it asks for it.
    pub(crate) fn measure(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut measure = Talking::spawn(&[&["measure"], arguments].concat(), &self.here)?;
        while let Some(line) = measure.line()? {
            if line == MORE {
                self.server.tell()?;
                self.server.wait_until_ready()?;
                sleep(SETTLE);
                measure.tell()?;
            } else {
                println!("{line}");
            }
        }
        let status = measure.piped.child.wait()?;
        ensure!(status.success(), "measure: {status}");
        Ok(())
    }
}

pub(crate) fn say(word: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}")?;
    stdout.flush()
}

/// Accepts so many connections, and sends to all of them for each line that it reads.
pub(crate) fn serve(connections: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind(SERVER)?;
    say(READY)?;
    let mut held: Vec<TcpStream> = Vec::with_capacity(connections);
    for _ in 0..connections {
        held.push(listener.accept()?.0);
    }
    say(READY)?;
    for line in io::stdin().lines() {
        line?;
        for connection in &mut held {
            connection.write_all(&MESSAGE)?;
        }
        say(READY)?;
    }
    Ok(())
}

/// Starts so many processes, each with a connection and a command line of its own, and ends them.
pub(crate) fn gather(processes: usize) -> anyhow::Result<()> {
    let mut crowd = Vec::with_capacity(processes);
    for number in 0..processes {
        let connection = TcpStream::connect(SERVER)?;
        let child = Command::new("sleep")
            .arg0(command_line(number))
            .arg(LIFETIME)
            .stdin(OwnedFd::from(connection))
            .stdout(Stdio::null())
            .spawn()?;
        crowd.push(child);
    }
    say(READY)?;
    until_closed()?;
    for child in &mut crowd {
        // Those that have ended already are waited for all the same.
        let _ = child.kill();
    }
    for child in &mut crowd {
        child.wait()?;
    }
    Ok(())
}
