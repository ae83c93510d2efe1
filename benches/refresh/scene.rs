//! A network namespace full of real traffic, and its end.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{bail, ensure};
use testbed::bench::roles::{READY, Talking, say, this_program, until_closed};
use testbed::bench::tracked::Kept;
use testbed::command::try_output;

use crate::measure::Cost;

/// A UDP socket sends to that many others, and so makes as many entries.
const RECEIVERS: usize = 100;
/// Nothing here takes longer than this unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Conntrack entries, those of the TCP connections among them.
    pub(crate) entries: usize,
    /// TCP sockets: both ends of half as many connections.
    pub(crate) sockets: usize,
    /// Processes that hold them.
    pub(crate) processes: usize,
}

/// The traffic, for as long as this lives.
pub(crate) struct Scene {
    /// What there really is.
    pub(crate) census: String,
    /// What was asked for.
    pub(crate) size: Size,
    /// Before the namespace, in the order in which they are dropped: it lives on while a process is
    /// in it.
    _holders: Vec<Talking>,
    pub(crate) namespace: Kept,
}

impl Scene {
    pub(crate) fn new(size: Size) -> anyhow::Result<Scene> {
        let Size { entries, sockets, processes } = size;
        let connections = sockets / 2;
        ensure!(connections % processes == 0, "the connections can't be shared out evenly");
        let namespace = Kept::tracking(entries)?;

        let share = (connections / processes).to_string();
        let mut holders = Vec::new();
        for number in 0..processes {
            holders.push(Talking::spawn(&["holder", &number.to_string(), &share], &namespace)?);
        }
        holders.iter_mut().try_for_each(Talking::wait_until_ready)?;
        let this = this_program();
        let flood = (entries - connections).to_string();
        try_output(namespace.command(&this).args(["flood", &flood]))?;

        let counted = try_output(namespace.command(&this).arg("census"))?;
        let numbers: Vec<usize> =
            counted.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [entries_there, sockets_there] = numbers[..] else { bail!("no census: {counted:?}") };
        ensure!(
            entries_there.abs_diff(entries) <= entries / 100 && sockets_there == sockets,
            "{entries_there} entries and {sockets_there} sockets, not {entries} and {sockets}"
        );
        let census = format!(
            "{entries_there} conntrack entries, {sockets_there} TCP sockets, {processes} processes"
        );
        Ok(Scene { census, size, _holders: holders, namespace })
    }

    /// What `program` prints in the namespace.
    pub(crate) fn output(&self, program: &str, arguments: &str) -> anyhow::Result<String> {
        try_output(self.namespace.command(program).args(arguments.split_whitespace()))
    }

    /// What a run of `program` in the namespace costs.
    pub(crate) fn measure(&self, program: &str, arguments: &[String]) -> anyhow::Result<Cost> {
        let mut measure = self.namespace.command(this_program());
        try_output(measure.args(["measure", program]).args(arguments))?.parse()
    }
}

/// Holds so many connections, both ends, over which something was sent both ways.
pub(crate) fn hold(number: u16, connections: usize) -> anyhow::Result<()> {
    let [high, low] = number.to_be_bytes();
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1 + high, low, 1), 443))?;
    let address = listener.local_addr()?;
    let mut held = Vec::with_capacity(connections);
    for connection in 0..connections {
        let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
        let (mut server, _) = listener.accept()?;
        for stream in [&mut client, &mut server] {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        let request = vec![b'?'; 100 + connection];
        let answer = vec![b'!'; 1000 + usize::from(number)];
        client.write_all(&request)?;
        server.read_exact(&mut vec![0; request.len()])?;
        server.write_all(&answer)?;
        client.read_exact(&mut vec![0; answer.len()])?;
        held.push((client, server));
    }
    drop(listener);
    say(READY)?;
    until_closed()?;
    Ok(())
}

/// Makes so many UDP flows, each a datagram and its answer, and closes its sockets.
pub(crate) fn flood(flows: usize) -> anyhow::Result<()> {
    let receivers: Vec<UdpSocket> = (0..RECEIVERS)
        .map(|number| UdpSocket::bind((Ipv4Addr::new(127, 3, 0, 1 + number as u8), 53)))
        .collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> =
        receivers.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
    for receiver in &receivers {
        receiver.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = [0; 64];
    let mut left = flows;
    for [high, low] in (0..u16::MAX).map(u16::to_be_bytes) {
        let sender = UdpSocket::bind((Ipv4Addr::new(127, 4, high, low), 0))?;
        sender.set_read_timeout(Some(PATIENCE))?;
        for (receiver, address) in receivers.iter().zip(&addresses).take(left) {
            sender.send_to(b"who is it?", address)?;
            let (length, from) = receiver.recv_from(&mut buffer)?;
            receiver.send_to(&buffer[..length / 2], from)?;
            sender.recv_from(&mut buffer)?;
            left -= 1;
        }
        if left == 0 {
            return Ok(());
        }
    }
    bail!("{left} flows are left")
}

/// Prints how many entries and TCP sockets there are in the namespace in which it runs.
pub(crate) fn census() -> anyhow::Result<()> {
    let accounting = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_acct")?;
    ensure!(accounting.trim() == "1", "accounting is off");
    let entries = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
    let mut sockets = 0;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // The first line has the names of the columns.
        sockets += fs::read_to_string(table)?.lines().skip(1).count();
    }
    println!("{} {sockets}", entries.trim());
    Ok(())
}
