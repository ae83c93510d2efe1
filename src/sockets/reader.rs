//! Lists sockets through sock_diag, or `/proc/net` for protocols that it lacks.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::diag::{self, Family};
use super::mptcp::Mptcp;
use super::proc_net::{self, Kind};
use super::{LISTED, Socket, SocketTable};
use crate::model::flow::Protocol;
use crate::netlink::{Dump, Netlink, NetlinkError, Subsystem, until_complete};

/// Why the sockets can't be listed.
#[derive(Debug, Error)]
#[error("the sockets can't be listed: sock_diag says {diag}, and {path}: {proc_net}")]
pub struct ReadError {
    diag: String,
    path: String,
    proc_net: io::Error,
}

/// The oddities of one listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Number of messages and lines that were no valid socket.
    pub malformed: u64,
    /// Number of protocols whose table changed during each attempt to read it.
    pub interrupted: u64,
    /// Whether TCP sockets were read from `/proc/net`, and so have no counters.
    pub tcp_from_proc: bool,
}

/// Lists the sockets of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Reader {
    netlink: Option<Netlink>,
    mptcp: Mptcp,
    proc_net: PathBuf,
}

impl Reader {
    /// Opens a sock_diag socket; if that is refused, only `/proc/net` is read.
    ///
    /// `proc` is the path where procfs is mounted.
    pub(crate) fn open(proc: &Path) -> Reader {
        Reader {
            netlink: Netlink::open(Subsystem::SockDiag).ok(),
            mptcp: Mptcp::default(),
            proc_net: proc.join("net"),
        }
    }

    /// Reads what netlink lacks from the directory of `process` in procfs from now on.
    pub(crate) fn through(&mut self, process: &Path) {
        self.proc_net = process.join("net");
    }

    /// Fills `table` with all current sockets; with `counters` also with TCP's byte counters.
    ///
    /// # Errors
    /// TCP sockets can be listed in neither way. Other protocols may be missing: a kernel without
    /// SCTP has no SCTP sockets.
    pub(crate) fn read(
        &mut self,
        counters: bool,
        table: &mut SocketTable,
    ) -> Result<Listing, ReadError> {
        table.clear();
        let mut listing = Listing::default();
        for protocol in LISTED {
            let by_diag = match (&mut self.netlink, protocol.is_icmp()) {
                (Some(netlink), false) => dump(netlink, protocol, counters, table, &mut listing),
                // sock_diag has no ping sockets.
                _ => Err(NetlinkError::Kernel(io::ErrorKind::Unsupported.into())),
            };
            let Err(refused) = by_diag else { continue };
            let by_proc = self.read_proc_net(protocol, table, &mut listing);
            if protocol == Protocol::TCP {
                listing.tcp_from_proc = true;
                by_proc.map_err(|(path, proc_net)| ReadError {
                    diag: refused.to_string(),
                    path: path.display().to_string(),
                    proc_net,
                })?;
            }
        }
        if let Some(netlink) = &mut self.netlink {
            self.mptcp.read(netlink, table, &mut listing);
        }
        for name in ["raw", "raw6"] {
            let _ = self.read_proc_file(name, Protocol(0), Kind::Raw, table, &mut listing);
        }
        Ok(listing)
    }

    fn read_proc_net(
        &self,
        protocol: Protocol,
        table: &mut SocketTable,
        listing: &mut Listing,
    ) -> Result<(), (PathBuf, io::Error)> {
        let names: &[&str] = match protocol {
            Protocol::TCP => &["tcp", "tcp6"],
            Protocol::UDP => &["udp", "udp6"],
            Protocol::UDPLITE => &["udplite", "udplite6"],
            Protocol::ICMP => &["icmp"],
            Protocol::ICMPV6 => &["icmp6"],
            _ => &[],
        };
        for (index, name) in names.iter().enumerate() {
            match self.read_proc_file(name, protocol, Kind::Ports, table, listing) {
                Ok(()) => {}
                Err(_) if index > 0 => {} // a kernel without IPv6
                Err(error) => return Err((self.proc_net.join(name), error)),
            }
        }
        Ok(())
    }

    fn read_proc_file(
        &self,
        name: &str,
        protocol: Protocol,
        kind: Kind,
        table: &mut SocketTable,
        listing: &mut Listing,
    ) -> io::Result<()> {
        let file = BufReader::new(File::open(self.proc_net.join(name))?);
        let oddities = proc_net::read(file, protocol, kind, |socket| table.insert(socket))?;
        listing.malformed += oddities.malformed;
        Ok(())
    }
}

fn dump(
    netlink: &mut Netlink,
    protocol: Protocol,
    counters: bool,
    table: &mut SocketTable,
    listing: &mut Listing,
) -> Result<(), NetlinkError> {
    let counters = counters && protocol == Protocol::TCP;
    let mut list = |kind: u16, request: &[u8]| -> Result<(), NetlinkError> {
        let mut found: Vec<Socket> = Vec::new();
        let mut malformed = 0;
        let outcome = until_complete(|| {
            found.clear();
            malformed = 0;
            netlink.dump(kind, request, |message| match diag::decode(protocol, message.body) {
                Ok(socket) => found.push(socket),
                Err(_) => malformed += 1,
            })
        })?;
        listing.malformed += malformed;
        listing.interrupted += u64::from(outcome == Dump::Interrupted);
        found.drain(..).for_each(|socket| table.insert(socket));
        Ok(())
    };
    if protocol == Protocol::TCP
        && list(diag::TCPDIAG_GETSOCK, &diag::tcp_request(counters)).is_ok()
    {
        return Ok(());
    }
    for family in [Family::V4, Family::V6] {
        list(diag::SOCK_DIAG_BY_FAMILY, &diag::request(family, protocol, counters))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::sockets::TcpState;

    /// Our own listening socket is there whichever way the sockets are listed.
    fn assert_lists_ours(reader: &mut Reader) -> Listing {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut table = SocketTable::default();
        let listing = reader.read(true, &mut table).unwrap();
        let ours =
            table.iter().find(|s| s.tuple.source.port == port && s.state == TcpState::LISTEN);
        assert!(ours.is_some_and(|s| s.inode.is_some()), "port {port} is not among {table:?}");
        listing
    }

    /// By the request for both families.
    #[test]
    fn sock_diag_lists_the_tcp_sockets_of_either_family_once() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|at| TcpListener::bind(at).unwrap());
        let mut table = SocketTable::default();
        Reader::open(Path::new("/proc")).read(false, &mut table).unwrap();
        for listener in listeners {
            let port = listener.local_addr().unwrap().port();
            let of_port = table.iter().filter(|s| s.tuple.protocol == Protocol::TCP);
            assert_eq!(of_port.filter(|s| s.tuple.source.port == port).count(), 1, "{listener:?}");
        }
    }

    #[test]
    fn sock_diag_lists_our_own_socket() {
        let listing = assert_lists_ours(&mut Reader::open(Path::new("/proc")));
        assert_eq!((listing.malformed, listing.tcp_from_proc), (0, false));
    }

    /// The MPTCP socket of a listener has a cookie of its own and the inode of its descriptor.
    #[test]
    fn an_mptcp_socket_is_listed_beside_its_subflow() {
        use rustix::net::{
            AddressFamily, RawProtocol, SocketType, bind, getsockname, listen, socket,
        };
        let mptcp = RawProtocol::new(262).map(rustix::net::Protocol::from_raw);
        let Ok(listener) = socket(AddressFamily::INET, SocketType::STREAM, mptcp) else {
            return; // a kernel without MPTCP
        };
        bind(&listener, &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        listen(&listener, 1).unwrap();
        let address = getsockname(&listener).unwrap();
        let address = std::net::SocketAddr::try_from(address).unwrap();
        let mut table = SocketTable::default();
        Reader::open(Path::new("/proc")).read(false, &mut table).unwrap();
        let ours = table.iter().filter(|s| s.tuple.source.port == address.port());
        let ours: Vec<_> = ours.filter(|s| s.tuple.protocol == Protocol::TCP).collect();
        let is_subflow: Vec<_> = ours.iter().map(|s| s.is_subflow).collect();
        if is_subflow == [false] {
            return; // without CAP_NET_ADMIN the kernel does not tell
        }
        assert_eq!(is_subflow, [true, false], "{ours:?}");
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        assert!(ours.iter().all(|s| s.inode.is_some_and(|i| u64::from(i.0) == inode)), "{ours:?}");
        assert_ne!(ours[0].cookie, ours[1].cookie);
    }

    #[test]
    fn proc_net_lists_our_own_socket_where_sock_diag_is_refused() {
        let mut reader = Reader { netlink: None, ..Reader::open(Path::new("/proc")) };
        let listing = assert_lists_ours(&mut reader);
        assert_eq!((listing.malformed, listing.tcp_from_proc), (0, true));
    }

    #[test]
    fn neither_is_an_error_that_names_both() {
        let mut reader = Reader { netlink: None, ..Reader::open(Path::new("/nonexistent")) };
        let error = reader.read(true, &mut SocketTable::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sock_diag") && text.contains("/nonexistent/net/tcp"), "{text}");
    }
}
