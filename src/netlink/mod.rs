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
/// Room in the kernel for some ten thousand announcements that have not been read yet, in bytes.
const ANNOUNCEMENTS: usize = 8 << 20;

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

/// The sequence number of what was not asked for. Requests have others.
const ANNOUNCED: u32 = 0;

/// How often a dump that the kernel calls inconsistent is begun anew before what was read is
/// taken as it is.
const ATTEMPTS: u32 = 3;

/// Takes a dump again while its table changes under it, three times at the most.
///
/// # Errors
/// The first error of `dump`.
pub fn until_complete<E>(mut dump: impl FnMut() -> Result<Dump, E>) -> Result<Dump, E> {
    for _ in 1..ATTEMPTS {
        if dump()? == Dump::Complete {
            return Ok(Dump::Complete);
        }
    }
    dump()
}

/// The answer to one dump request, as far as it has come.
#[derive(Debug)]
struct Answer {
    sequence: u32,
    outcome: Dump,
}

impl Answer {
    /// Takes the messages of one read. Returns how the dump ended, once it has.
    fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<Option<Dump>, NetlinkError> {
        for message in Messages::new(bytes) {
            let message = message?;
            if message.sequence == ANNOUNCED {
                each(message);
                continue;
            }
            if message.sequence != self.sequence {
                continue; // the rest of an earlier dump that was given up
            }
            if message.flags & wire::NLM_F_DUMP_INTR != 0 {
                self.outcome = Dump::Interrupted;
            }
            match message.kind {
                wire::NLMSG_DONE | wire::NLMSG_ERROR => {
                    return match message.errno() {
                        0 => Ok(Some(self.outcome)),
                        errno => Err(io::Error::from_raw_os_error(errno).into()),
                    };
                }
                wire::NLMSG_NOOP => {}
                _ => each(message),
            }
        }
        Ok(None)
    }
}

/// A netlink socket of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    lost: u64,
}

impl Netlink {
    /// Opens a socket for requests.
    ///
    /// # Errors
    /// What the kernel says: no such subsystem, no descriptor free.
    pub fn open(subsystem: Subsystem) -> io::Result<Netlink> {
        Netlink::with_groups(subsystem, 0)
    }

    /// Opens a socket that is sent the messages of the multicast `groups` (a bit mask) too. Its
    /// receive buffer has 8 MiB, or as much as the user may have.
    ///
    /// # Errors
    /// What the kernel says: no such subsystem or group, no permission for the group.
    pub fn listen(subsystem: Subsystem, groups: u32) -> io::Result<Netlink> {
        let netlink = Netlink::with_groups(subsystem, groups)?;
        // Only CAP_NET_ADMIN may go beyond net.core.rmem_max; anyone may go up to it.
        if sockopt::set_socket_recv_buffer_size_force(&netlink.fd, ANNOUNCEMENTS).is_err() {
            sockopt::set_socket_recv_buffer_size(&netlink.fd, ANNOUNCEMENTS)?;
        }
        Ok(netlink)
    }

    fn with_groups(subsystem: Subsystem, groups: u32) -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, subsystem.protocol())?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Netlink { fd, sequence: ANNOUNCED, buffer: vec![0; BUFFER], lost: 0 })
    }

    /// Sends one dump request and hands every message of the answer to `each`, with the request's
    /// message type and body as given. Announcements of the socket's groups are among them, each
    /// before those parts of the answer that the kernel made later.
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
        self.sequence = self.sequence.checked_add(1).unwrap_or(ANNOUNCED + 1);
        let request =
            Header { kind, flags: wire::NLM_F_REQUEST | wire::NLM_F_DUMP, sequence: self.sequence }
                .with_body(body);
        sendto(&self.fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = Answer { sequence: self.sequence, outcome: Dump::Complete };
        loop {
            let length = match receive(&self.fd, &mut self.buffer, RecvFlags::empty()) {
                // Announcements have not found room; the answer has.
                Err(Errno::NOBUFS) => {
                    self.lost += 1;
                    continue;
                }
                outcome => outcome?,
            };
            let read = self.buffer.get(..length).unwrap_or_default();
            if let Some(outcome) = answer.take(read, &mut each)? {
                return Ok(outcome);
            }
        }
    }

    /// Hands every message that waits on a socket made by [`Netlink::listen`] to `each`.
    ///
    /// # Errors
    /// What the kernel says, or messages that are no netlink.
    pub fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<(), NetlinkError> {
        loop {
            let length = match receive(&self.fd, &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::NOBUFS) => {
                    self.lost += 1;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()) {
                each(message?);
            }
        }
    }

    /// How often the kernel had to throw announcements away since this was asked last, because
    /// they were not read in time.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| recv(fd, &mut *buffer, flags)).map(|(length, _)| length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        Header { kind, flags, sequence }.with_body(body)
    }

    fn answer() -> Answer {
        Answer { sequence: 7, outcome: Dump::Complete }
    }

    const DONE: &[u8] = &0i32.to_ne_bytes();

    #[test]
    fn a_dump_goes_on_over_several_reads_until_it_is_done() {
        let (mut answer, mut kinds) = (answer(), Vec::new());
        let first = [message(20, 2, 7, &[1; 4]), message(21, 2, 7, &[2; 4])].concat();
        assert_eq!(answer.take(&first, |m| kinds.push(m.kind)).unwrap(), None);
        let last = [message(22, 2, 7, &[3; 4]), message(wire::NLMSG_DONE, 2, 7, DONE)].concat();
        assert_eq!(answer.take(&last, |m| kinds.push(m.kind)).unwrap(), Some(Dump::Complete));
        assert_eq!(kinds, [20, 21, 22]);
    }

    #[test]
    fn a_table_that_changed_while_it_was_read_is_told() {
        let mut answer = answer();
        let flags = 2 | wire::NLM_F_DUMP_INTR;
        assert_eq!(answer.take(&message(20, flags, 7, &[1; 4]), |_| ()).unwrap(), None);
        let done = message(wire::NLMSG_DONE, 2, 7, DONE);
        assert_eq!(answer.take(&done, |_| ()).unwrap(), Some(Dump::Interrupted));
    }

    #[test]
    fn the_rest_of_an_earlier_dump_is_skipped() {
        let stale = [message(20, 2, 6, &[1; 4]), message(wire::NLMSG_DONE, 2, 6, DONE)].concat();
        assert_eq!(answer().take(&stale, |m| panic!("{m:?}")).unwrap(), None);
    }

    #[test]
    fn what_is_announced_meanwhile_is_handed_on_in_its_place() {
        let (mut answer, mut kinds) = (answer(), Vec::new());
        let parts =
            [message(20, 2, 7, &[1; 4]), message(30, 0, 0, &[2; 4]), message(21, 2, 7, &[])];
        assert_eq!(answer.take(&parts.concat(), |m| kinds.push(m.kind)).unwrap(), None);
        assert_eq!(kinds, [20, 30, 21]);
    }

    #[test]
    fn a_refusal_is_the_kernels_error() {
        let refused = message(wire::NLMSG_ERROR, 0, 7, &(-1i32).to_ne_bytes());
        let error = answer().take(&refused, |_| ()).unwrap_err();
        assert!(error.is_permission(), "{error:?}");
    }

    #[test]
    fn a_dump_that_is_interrupted_is_taken_again_but_not_for_ever() {
        let taken = |outcomes: &[Dump]| {
            let mut left = outcomes.iter().copied();
            let outcome = until_complete(|| left.next().ok_or("one too many"));
            (outcome, left.count())
        };
        use Dump::{Complete, Interrupted};
        assert_eq!(taken(&[Complete]), (Ok(Complete), 0));
        assert_eq!(taken(&[Interrupted, Complete]), (Ok(Complete), 0));
        assert_eq!(taken(&[Interrupted; 3]), (Ok(Interrupted), 0));
        assert_eq!(taken(&[Interrupted; 5]), (Ok(Interrupted), 2));
    }
}
