//! Netlink: the thin socket around the kernel's dumps, and (in [`wire`]) its pure decoding.
//!
//! Everything is read into one buffer and handed on by reference: a dump of 200,000 flows
//! allocates nothing per flow.

pub mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
    sockopt,
};
use thiserror::Error;

use wire::{Header, Message, Messages, WireError};

/// The kernel fills at most 32 KiB a read of a dump (`netlink_recvmsg`); the rest is room for what
/// a later kernel may do.
const BUFFER: usize = 64 * 1024;

/// Why a netlink request brought no answer.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The kernel refused the request, or a system call failed.
    #[error(transparent)]
    Kernel(#[from] io::Error),
    /// What came back is no netlink.
    #[error("the kernel's answer can't be read: {0}")]
    Wire(#[from] WireError),
}

impl NetlinkError {
    /// Whether the reason is a missing privilege.
    pub fn is_permission(&self) -> bool {
        matches!(self, NetlinkError::Kernel(e) if e.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> NetlinkError {
        NetlinkError::Kernel(errno.into())
    }
}

/// The part of the kernel that a netlink socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// `NETLINK_ROUTE`: addresses.
    Route,
    /// `NETLINK_SOCK_DIAG`: sockets.
    SockDiag,
    /// `NETLINK_NETFILTER`: conntrack.
    Netfilter,
}

impl Subsystem {
    /// Its number as rustix has it: 0, which is `NETLINK_ROUTE`, is `None` there.
    fn protocol(self) -> Option<rustix::net::Protocol> {
        match self {
            Subsystem::Route => None,
            Subsystem::SockDiag => Some(rustix::net::netlink::SOCK_DIAG),
            Subsystem::Netfilter => Some(rustix::net::netlink::NETFILTER),
        }
    }
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// Every entry was there once.
    Complete,
    /// The table changed while it was read (`NLM_F_DUMP_INTR`): entries may be missing or doubled.
    Interrupted,
}

/// A netlink socket of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket for requests.
    ///
    /// # Errors
    /// What the kernel says: no such subsystem, no descriptor free.
    pub fn open(subsystem: Subsystem) -> io::Result<Netlink> {
        Netlink::with_groups(subsystem, 0, SocketFlags::CLOEXEC)
    }

    /// Opens a socket that is sent the messages of the multicast `groups` (a bit mask). It never
    /// blocks, and its receive buffer is `receive_buffer` bytes, or as many as the user may have.
    ///
    /// # Errors
    /// What the kernel says: no such subsystem or group, no permission for the group.
    pub fn listen(subsystem: Subsystem, groups: u32, receive_buffer: usize) -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let netlink = Netlink::with_groups(subsystem, groups, flags)?;
        // Only CAP_NET_ADMIN may go beyond net.core.rmem_max; anyone may go up to it.
        if sockopt::set_socket_recv_buffer_size_force(&netlink.fd, receive_buffer).is_err() {
            sockopt::set_socket_recv_buffer_size(&netlink.fd, receive_buffer)?;
        }
        Ok(netlink)
    }

    fn with_groups(subsystem: Subsystem, groups: u32, flags: SocketFlags) -> io::Result<Netlink> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, subsystem.protocol())?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Netlink { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends one dump request and hands every message of the answer to `each`, with the request's
    /// message type and body as given.
    ///
    /// # Errors
    /// The kernel's refusal (`EPERM`, or `ENOENT` where the protocol's module is missing), or an
    /// answer that is no netlink.
    pub fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<Dump, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request =
            Header { kind, flags: wire::NLM_F_REQUEST | wire::NLM_F_DUMP, sequence: self.sequence }
                .with_body(body);
        sendto(&self.fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut outcome = Dump::Complete;
        loop {
            let length = receive(&self.fd, &mut self.buffer)?;
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue; // the rest of an earlier dump that was given up
                }
                if message.flags & wire::NLM_F_DUMP_INTR != 0 {
                    outcome = Dump::Interrupted;
                }
                match message.kind {
                    wire::NLMSG_DONE | wire::NLMSG_ERROR => {
                        return match message.errno() {
                            0 => Ok(outcome),
                            errno => Err(io::Error::from_raw_os_error(errno).into()),
                        };
                    }
                    wire::NLMSG_NOOP => {}
                    _ => each(message),
                }
            }
        }
    }

    /// Hands every message that waits on a socket made by [`Netlink::listen`] to `each`. Returns
    /// how often the kernel had to throw messages away because they were not read in time.
    ///
    /// # Errors
    /// What the kernel says, or messages that are no netlink.
    pub fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<u64, NetlinkError> {
        let mut lost = 0;
        loop {
            let length = match receive(&self.fd, &mut self.buffer) {
                Ok(length) => length,
                Err(Errno::WOULDBLOCK) => return Ok(lost),
                Err(Errno::NOBUFS) => {
                    lost += 1;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()) {
                each(message?);
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| recv(fd, &mut *buffer, RecvFlags::empty()))
        .map(|(length, _)| length)
}
