//! The sockets of a pipe: how they listen, connect, and what they are set to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, bind, connect,
    getsockname, ipproto, listen, socket_with,
};

use super::config::Keepalive;

/// How many connections may wait to be accepted; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket, and what it listens on; `bind` of `None` means every address.
///
/// What is set on it is inherited by what it accepts.
pub(super) fn listener(
    address: Option<IpAddr>,
    port: u16,
    keepalive: Keepalive,
) -> Result<(OwnedFd, SocketAddr), (SocketAddr, Errno)> {
    let any6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let any4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let open = |address| listen_on(address, keepalive).map_err(|errno| (address, errno));
    match address {
        Some(address) => open(SocketAddr::new(address, port)),
        // A kernel may have been told to do without IPv6.
        None => match open(any6) {
            Err((_, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)) => open(any4),
            other => other,
        },
    }
}

fn listen_on(address: SocketAddr, keepalive: Keepalive) -> Result<(OwnedFd, SocketAddr), Errno> {
    let socket = tcp(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `::` is IPv4's any address too, whatever net.ipv6.bindv6only says.
        let only = address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        sockopt::set_ipv6_v6only(&socket, only)?;
    }
    set(&socket, keepalive)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let address = local(&socket)?;
    Ok((socket, address))
}

/// A socket that is being connected: not yet there, and perhaps never.
pub(super) fn connecting(address: SocketAddr, keepalive: Keepalive) -> Result<OwnedFd, Errno> {
    let socket = tcp(address)?;
    set(&socket, keepalive)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// The next connection that waits, and whom it comes from.
pub(super) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, SocketAddr), Errno> {
    let (socket, address) = acceptfrom_with(listener, FLAGS)?;
    Ok((socket, plain(address)?))
}

/// The address of this end, IPv4 in its own form.
pub(super) fn local(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    plain(Some(getsockname(socket)?))
}

/// Where a connection to this address would come from; nothing is sent to find that out.
pub(super) fn source(address: SocketAddr) -> Result<SocketAddr, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::DGRAM, FLAGS, None)?;
    connect(&socket, &address)?;
    local(&socket)
}

/// Makes the end of this socket a reset: whatever waits to be sent is thrown away.
pub(super) fn reset(socket: OwnedFd) {
    // It fails only for what is no socket.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

fn tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))
}

fn set(socket: impl AsFd, keepalive: Keepalive) -> Result<(), Errno> {
    let socket = socket.as_fd();
    // What one side sends goes on at once: it is the sender's business to collect.
    sockopt::set_tcp_nodelay(socket, true)?;
    // Urgent data is data: without this a byte would leave the stream.
    sockopt::set_socket_oobinline(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, keepalive.idle)?;
    sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
    sockopt::set_tcp_keepcnt(socket, keepalive.probes)
}

fn plain(address: Option<SocketAddrAny>) -> Result<SocketAddr, Errno> {
    let address = SocketAddr::try_from(address.ok_or(Errno::AFNOSUPPORT)?)?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Whether a connection from `local` to `remote` leads to a listener at `listening`.
pub(super) fn leads_to(local: SocketAddr, remote: SocketAddr, listening: SocketAddr) -> bool {
    // An address of this host is reached from itself, but for 127.0.0.0/8, reached from 127.0.0.1.
    let here = local.ip() == remote.ip() || remote.ip().is_loopback();
    let covers = listening.ip().is_unspecified() || listening.ip() == remote.ip();
    here && covers && remote.port() == listening.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_knows_itself() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let cases = [
            ("127.0.0.1:5000", "127.0.0.1:80", "[::]:80", true),
            ("127.0.0.1:5000", "127.0.0.2:80", "[::]:80", true),
            ("127.0.0.1:5000", "127.0.0.2:80", "127.0.0.1:80", false),
            ("127.0.0.1:5000", "127.0.0.1:81", "[::]:80", false),
            ("192.0.2.1:5000", "192.0.2.1:80", "0.0.0.0:80", true),
            ("192.0.2.1:5000", "192.0.2.2:80", "0.0.0.0:80", false),
            ("[::1]:5000", "[::1]:80", "[::]:80", true),
        ];
        for (local, remote, listening, expected) in cases {
            let got = leads_to(address(local), address(remote), address(listening));
            assert_eq!(got, expected, "{local} {remote} {listening}");
        }
    }

    #[test]
    fn the_source_of_a_connection() {
        for (address, from) in [("127.0.0.1:9", "127.0.0.1"), ("[::1]:9", "::1")] {
            let source = source(address.parse().unwrap()).unwrap();
            assert_eq!(source.ip(), from.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn every_address_is_both_families() {
        let (listener, address) = listener(None, 0, Keepalive::default()).unwrap();
        assert_ne!(address.port(), 0);
        for host in ["127.0.0.1", "::1"] {
            let host = SocketAddr::new(host.parse().unwrap(), address.port());
            let client = std::net::TcpStream::connect(host).unwrap();
            let (accepted, from) = loop {
                match accept(&listener) {
                    Err(Errno::AGAIN) => std::thread::yield_now(),
                    other => break other.unwrap(),
                }
            };
            assert_eq!(from, client.local_addr().unwrap());
            assert_eq!(local(&accepted).unwrap(), host);
            assert!(sockopt::tcp_nodelay(&accepted).unwrap(), "inherited");
            assert!(sockopt::socket_keepalive(&accepted).unwrap(), "inherited");
        }
    }

    #[test]
    fn an_address_that_is_taken() {
        let (_first, address) =
            listener(Some(Ipv4Addr::LOCALHOST.into()), 0, Keepalive::default()).unwrap();
        let again = listener(Some(address.ip()), address.port(), Keepalive::default());
        assert_eq!(again.unwrap_err(), (address, Errno::ADDRINUSE));
    }
}
