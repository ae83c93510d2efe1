//! Raw and ping sockets, which are read again whenever a flow starts that can only belong to them.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

use super::proc_net::{self, Kind};
use super::{Match, SocketTable};
use crate::model::flow::{Protocol, Tuple};

/// The raw and ping sockets of one network namespace.
///
/// sock_diag has no ping sockets, and on many kernels no raw ones. The files of `/proc/net` have
/// them, and keep showing the namespace of the thread that has opened them.
#[derive(Debug)]
pub(crate) struct RawSockets {
    /// For IPv4 and IPv6 each: the files of ping sockets and of raw sockets.
    files: [[Option<File>; 2]; 2],
    table: SocketTable,
}

impl RawSockets {
    /// Opens the tables in `net`, the directory `net` of a process or thread in procfs. A table that the
    /// kernel lacks is treated as empty.
    pub(crate) fn open(net: &Path) -> RawSockets {
        let open = |name: &str| File::open(net.join(name)).ok();
        RawSockets {
            files: [["icmp", "raw"].map(open), ["icmp6", "raw6"].map(open)],
            table: SocketTable::default(),
        }
    }

    /// Reads the sockets of both families, or of one.
    ///
    /// # Errors
    /// Those of reading a table.
    pub(crate) fn read(&mut self, v4: bool, v6: bool) -> io::Result<()> {
        self.table.clear();
        let ping = [Protocol::ICMP, Protocol::ICMPV6];
        let families = self.files.iter_mut().zip(ping).zip([v4, v6]);
        for ((files, protocol), _) in families.filter(|(_, wanted)| *wanted) {
            for (file, kind) in files.iter_mut().zip([Kind::Ports, Kind::Raw]) {
                let Some(file) = file else { continue };
                file.seek(SeekFrom::Start(0))?;
                proc_net::read(BufReader::new(file), protocol, kind, |s| self.table.insert(s))?;
            }
        }
        Ok(())
    }

    /// The sockets to which a flow that sends along `tuple` may belong, as last read.
    pub(crate) fn find(&self, tuple: &Tuple) -> Option<Match<'_>> {
        self.table.find(tuple)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, RawProtocol, SocketType, ipproto, socket};

    use super::*;
    use crate::model::flow::Endpoint;

    fn inodes(sockets: &RawSockets, protocol: Protocol) -> Vec<u64> {
        let end = Endpoint::new(Ipv4Addr::LOCALHOST.into(), 0);
        let found = sockets.find(&Tuple { protocol, source: end, destination: end });
        let found = found.into_iter().flat_map(Match::sockets).filter_map(|s| s.inode);
        found.map(|inode| inode.0.into()).collect()
    }

    fn inode(of: impl AsFd) -> u64 {
        rustix::fs::fstat(of).unwrap().st_ino
    }

    /// 253 and 254 are for experiments (RFC 3692).
    #[test]
    fn a_socket_that_was_made_since_is_read_the_next_time() {
        let raw = |protocol: u32| {
            let protocol = RawProtocol::new(protocol).map(rustix::net::Protocol::from_raw);
            socket(AddressFamily::INET, SocketType::RAW, protocol)
        };
        let mut sockets = RawSockets::open(Path::new("/proc/thread-self/net"));
        sockets.read(true, true).unwrap();
        let Ok(first) = raw(253) else { return }; // without CAP_NET_RAW
        assert_eq!(inodes(&sockets, Protocol(253)), [0_u64; 0]);
        sockets.read(true, false).unwrap();
        assert_eq!(inodes(&sockets, Protocol(253)), [inode(&first)]);
        let second = raw(254).unwrap();
        sockets.read(true, true).unwrap();
        assert_eq!(inodes(&sockets, Protocol(253)), [inode(&first)]);
        assert_eq!(inodes(&sockets, Protocol(254)), [inode(&second)]);
        sockets.read(false, true).unwrap();
        assert_eq!(inodes(&sockets, Protocol(253)), [0_u64; 0]);
        let any = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
        sockets.read(true, true).unwrap();
        assert!(inodes(&sockets, Protocol::ICMP).contains(&inode(&any)));
    }

    #[test]
    fn where_there_is_no_procfs_there_are_none() {
        let mut sockets = RawSockets::open(Path::new("/nonexistent"));
        sockets.read(true, true).unwrap();
        assert_eq!(inodes(&sockets, Protocol::ICMP), [0_u64; 0]);
    }
}
