//! Five thousand processes that each have a connection, and somebody at its other end.

use std::io::{self, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testbed::bench::joined::{Joined, THERE};
use testbed::bench::roles::{READY, Talking, say, until_closed};

use crate::rules::command_line;

const SERVER: SocketAddrV4 = SocketAddrV4::new(THERE, 443);
/// What every connection gets at once.
const MESSAGE: [u8; 100] = [b'!'; 100];
/// For acknowledgements that are put off.
const SETTLE: Duration = Duration::from_millis(100);
/// In seconds: should everything else fail that ends them.
const LIFETIME: &str = "300";

/// What `measure` says to ask for more.
pub(crate) const MORE: &str = "more";

/// The traffic, for as long as this lives.
pub(crate) struct Scene {
    /// What there really is.
    pub(crate) census: String,
    /// In the order in which they are dropped.
    _crowd: Talking,
    server: Talking,
    joined: Joined,
}

impl Scene {
    pub(crate) fn new(processes: usize) -> anyhow::Result<Scene> {
        // This limit is inherited.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;

        let joined = Joined::new(processes)?;
        let number = processes.to_string();
        let mut server = Talking::spawn(&["server", &number], &joined.there)?;
        server.wait_until_ready()?;
        let mut crowd = Talking::spawn(&["crowd", &number], &joined.here)?;
        crowd.wait_until_ready()?;
        server.wait_until_ready()?;

        let sockets = joined.here.run("ss -Htn state established");
        let sockets = sockets.lines().count();
        ensure!(sockets == processes, "{sockets} sockets are connected, not {processes}");
        let census = format!("{processes} processes with a command line and a connection each");
        Ok(Scene { census, _crowd: crowd, server, joined })
    }

    /// Runs `measure` with these arguments, shows what it prints, and sends when it asks for it.
    pub(crate) fn measure(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut measure = Talking::spawn(&[&["measure"], arguments].concat(), &self.joined.here)?;
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
