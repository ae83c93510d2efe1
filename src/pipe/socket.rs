//! The sockets of a pipe: listening, connecting, and their options.

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

/// Maximum length of the backlog; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket and its address; `bind` of `None` means all addresses.
///
/// Accepted sockets inherit its options.
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
        // The kernel may have IPv6 disabled.
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
        // `::` is IPv4's wildcard too, regardless of net.ipv6.bindv6only.
        let only = address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        sockopt::set_ipv6_v6only(&socket, only)?;
    }
    set(&socket, keepalive)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let address = local(&socket)?;
    Ok((socket, address))
}

/// A socket that is being connected; this may fail later.
pub(super) fn connecting(address: SocketAddr, keepalive: Keepalive) -> Result<OwnedFd, Errno> {
    let socket = tcp(address)?;
    set(&socket, keepalive)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// The next client in the backlog, and its address.
pub(super) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, SocketAddr), Errno> {
    let (socket, address) = acceptfrom_with(listener, FLAGS)?;
    Ok((socket, plain(address)?))
}

/// The address of this end; an IPv4-mapped one becomes IPv4.
pub(super) fn local(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    plain(Some(getsockname(socket)?))
}

/// The source address of a connection to this address; no packet is sent to find it.
pub(super) fn source(address: SocketAddr) -> Result<SocketAddr, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::DGRAM, FLAGS, None)?;
    connect(&socket, &address)?;
    local(&socket)
}

/// Ends this socket by a reset: bytes that wait to be sent are discarded.
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
    // Bytes are sent on at once: batching is up to the original sender.
    sockopt::set_tcp_nodelay(socket, true)?;
    // Urgent data is part of the stream: otherwise a byte would be missing in it.
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

/// Whether a connection from `local` to `remote` reaches a listener at `listening`.
pub(super) fn leads_to(local: SocketAddr, remote: SocketAddr, listening: SocketAddr) -> bool {
    // An address of this host is reached from itself, except 127.0.0.0/8, reached from 127.0.0.1.
    let [from, to, at] = [local, remote, listening].map(|address| address.ip().to_canonical());
    let here = from == to || to.is_loopback();
    let covers = at.is_unspecified() || at == to;
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
            // IPv4-mapped.
            ("127.0.0.1:5000", "[::ffff:127.0.0.2]:80", "[::]:80", true),
            ("127.0.0.1:5000", "[::ffff:127.0.0.2]:80", "127.0.0.2:80", true),
            ("192.0.2.1:5000", "[::ffff:192.0.2.1]:80", "[::ffff:192.0.2.1]:80", true),
            ("192.0.2.1:5000", "[::ffff:192.0.2.2]:80", "[::]:80", false),
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
