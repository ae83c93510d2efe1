//! Netlink: the socket for the kernel's dumps, and the pure decoder [`wire`].
//!
//! Everything is read into one buffer and handed on by reference: a dump of 200,000 flows
//! allocates nothing per flow.

pub(crate) mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
    sockopt,
};
use thiserror::Error;

use wire::{Header, Message, Messages, WireError};

/// The kernel fills at most 32 KiB in a read of a dump (`netlink_recvmsg`); the rest is for later
/// kernels.
const BUFFER: usize = 64 * 1024;
/// Receive buffer for announcements, in bytes; the kernel doubles it, and uses only what is needed. An announced
/// flow takes 1,280 bytes, so the buffer holds about fifty thousand. Once the buffer is full, the kernel drops
/// announcements until the socket is read to its end, so a busy host loses ten thousand and more at once.
const ANNOUNCEMENTS: usize = 32 << 20;

/// Why a netlink request has failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The kernel refused the request, or a system call failed.
    #[error(transparent)]
    Kernel(#[from] io::Error),
    /// The answer is not valid netlink.
    #[error("the kernel's answer can't be read: {0}")]
    Wire(#[from] WireError),
}

impl NetlinkError {
    /// Whether a privilege is missing.
    pub fn is_permission(&self) -> bool {
        matches!(self, NetlinkError::Kernel(e) if e.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> NetlinkError {
        NetlinkError::Kernel(errno.into())
    }
}

/// The subsystem of a netlink socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subsystem {
    /// `NETLINK_ROUTE`: addresses.
    Route,
    /// `NETLINK_SOCK_DIAG`: sockets.
    SockDiag,
    /// `NETLINK_NETFILTER`: conntrack.
    Netfilter,
    /// `NETLINK_CONNECTOR`: process events.
    Connector,
}

impl Subsystem {
    /// Its number as rustix has it: 0, which is `NETLINK_ROUTE`, is `None` there.
    fn protocol(self) -> Option<rustix::net::Protocol> {
        match self {
            Subsystem::Route => None,
            Subsystem::SockDiag => Some(rustix::net::netlink::SOCK_DIAG),
            Subsystem::Netfilter => Some(rustix::net::netlink::NETFILTER),
            Subsystem::Connector => Some(rustix::net::netlink::CONNECTOR),
        }
    }
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dump {
    /// It has every entry once.
    Complete,
    /// The table changed during the dump (`NLM_F_DUMP_INTR`): entries may be missing or doubled.
    Interrupted,
}

/// The sequence number of announcements. Requests have others.
const ANNOUNCED: u32 = 0;

/// Number of queries that are sent before their answers are read. Until then each answer takes
/// kernel memory.
const BATCH: usize = 64;

/// Timeout of an answer: the kernel makes it before the query's system call returns.
const PATIENCE: Duration = Duration::from_secs(2);

/// Maximum number of dumps while the kernel reports them as inconsistent; the last one is used as
/// it is.
const ATTEMPTS: u32 = 3;

/// Repeats a dump, up to three times, while the table changes during it.
///
/// # Errors
/// The first error of `dump`.
pub(crate) fn until_complete<E>(mut dump: impl FnMut() -> Result<Dump, E>) -> Result<Dump, E> {
    for _ in 1..ATTEMPTS {
        if dump()? == Dump::Complete {
            return Ok(Dump::Complete);
        }
    }
    dump()
}

/// The answer to one dump request so far.
#[derive(Debug)]
struct Answer {
    sequence: u32,
    outcome: Dump,
}

impl Answer {
    /// Takes the messages of one read. Returns how the dump ended, if it has.
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
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    lost: u64,
}

impl Netlink {
    /// Opens a socket for requests.
    ///
    /// # Errors
    /// Those of socket(2): no such subsystem, no free descriptor.
    pub(crate) fn open(subsystem: Subsystem) -> io::Result<Netlink> {
        Netlink::with_groups(subsystem, 0)
    }

    /// Opens a socket that also receives the messages of the multicast `groups` (a bit mask). Its
    /// receive buffer has 32 MiB, or as much as the user may have.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2): no such subsystem or group, no permission for the group.
    pub(crate) fn listen(subsystem: Subsystem, groups: u32) -> io::Result<Netlink> {
        let netlink = Netlink::with_groups(subsystem, groups)?;
        // Only CAP_NET_ADMIN may exceed net.core.rmem_max.
        if sockopt::set_socket_recv_buffer_size_force(&netlink.fd, ANNOUNCEMENTS).is_err() {
            sockopt::set_socket_recv_buffer_size(&netlink.fd, ANNOUNCEMENTS)?;
        }
        Ok(netlink)
    }

    fn with_groups(subsystem: Subsystem, groups: u32) -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, subsystem.protocol())?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        // An answer that found the buffer full is never repeated: an error is better than waiting
        // for ever.
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink { fd, sequence: ANNOUNCED, buffer: vec![0; BUFFER], lost: 0 })
    }

    /// Sends one dump request with this message type and body, and hands every message of the
    /// answer to `each`. Announcements of the socket's groups are among them, each before those
    /// parts of the answer that the kernel made later.
    ///
    /// # Errors
    /// The kernel refuses (`EPERM`, or `ENOENT` if the protocol's module is missing), or the answer
    /// is not valid netlink.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<Dump, NetlinkError> {
        let sequence = self.following(1);
        let flags = wire::NLM_F_REQUEST | wire::NLM_F_DUMP;
        let request = Header { kind, flags, sequence }.with_body(body);
        sendto(&self.fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = Answer { sequence, outcome: Dump::Complete };
        loop {
            // Announcements found the buffer full, but the answer did not.
            let Some(length) = self.next_read(RecvFlags::empty())? else { continue };
            let read = self.buffer.get(..length).unwrap_or_default();
            if let Some(outcome) = answer.take(read, &mut each)? {
                return Ok(outcome);
            }
        }
    }

    /// Sends one message that has no answer.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub(crate) fn tell(&self, kind: u16, body: &[u8]) -> io::Result<()> {
        let message = Header { kind, flags: wire::NLM_F_REQUEST, sequence: ANNOUNCED };
        let to = SocketAddrNetlink::new(0, 0);
        sendto(&self.fd, &message.with_body(body), SendFlags::empty(), &to)?;
        Ok(())
    }

    /// Queries one entry for each of `questions`, and hands the answers to `each` in their order:
    /// the message, or the kernel's error number (`ENOENT` if there is no such entry).
    /// Announcements of the socket's groups come among them as `None`.
    ///
    /// # Errors
    /// The exchange as a whole fails, an answer is not valid netlink, or none comes.
    pub(crate) fn ask<Q: AsRef<[u8]>>(
        &mut self,
        kind: u16,
        questions: impl IntoIterator<Item = Q>,
        mut each: impl FnMut(Option<usize>, Result<Message<'_>, i32>),
    ) -> Result<(), NetlinkError> {
        let mut questions = questions.into_iter();
        let mut asked = 0;
        let mut batch = Vec::new();
        loop {
            batch.clear();
            let first = self.following(BATCH as u32);
            let mut count = 0u32;
            for question in questions.by_ref().take(BATCH) {
                let flags = wire::NLM_F_REQUEST;
                let header = Header { kind, flags, sequence: first + count };
                header.append(question.as_ref(), &mut batch);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            sendto(&self.fd, &batch, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
            let mut left = count;
            while left > 0 {
                let Some(length) = self.next_read(RecvFlags::empty())? else { continue };
                for message in Messages::new(self.buffer.get(..length).unwrap_or_default()) {
                    let message = message?;
                    let place = message.sequence.wrapping_sub(first);
                    if message.sequence == ANNOUNCED {
                        each(None, Ok(message));
                    } else if place < count {
                        left -= 1;
                        let refused = message.kind == wire::NLMSG_ERROR;
                        let answer = if refused { Err(message.errno()) } else { Ok(message) };
                        each(Some(asked + place as usize), answer);
                    }
                }
            }
            asked += count as usize;
        }
    }

    /// Reserves `count` sequence numbers, and returns the first.
    fn following(&mut self, count: u32) -> u32 {
        let first = match self.sequence.checked_add(count) {
            Some(_) => self.sequence + 1,
            None => ANNOUNCED + 1,
        };
        self.sequence = first + (count - 1);
        first
    }

    /// The length of the next read; `None` if announcements found the buffer full.
    fn next_read(&mut self, flags: RecvFlags) -> Result<Option<usize>, Errno> {
        match receive(&self.fd, &mut self.buffer, flags) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::NOBUFS) => {
                self.lost += 1;
                Ok(None)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Hands every message that waits on a socket of [`Netlink::listen`] to `each`.
    ///
    /// # Errors
    /// Those of recvfrom(2), or a message is not valid netlink.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<(), NetlinkError> {
        loop {
            let length = match self.next_read(RecvFlags::DONTWAIT) {
                Ok(Some(length)) => length,
                Ok(None) => continue,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()) {
                each(message?);
            }
        }
    }

    /// Number of times that the kernel dropped announcements since the last call, because they were
    /// not read in time.
    pub(crate) fn take_lost(&mut self) -> u64 {
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
    fn a_table_that_changed_while_it_was_read_is_reported() {
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

    /// 0 is the sequence number of announcements.
    #[test]
    fn no_question_has_the_number_of_another_or_of_what_was_not_asked_for() {
        let mut netlink = Netlink::open(Subsystem::Route).unwrap();
        assert_eq!((netlink.following(1), netlink.following(64), netlink.following(1)), (1, 2, 66));
        netlink.sequence = u32::MAX - 64;
        assert_eq!((netlink.following(64), netlink.following(1)), (u32::MAX - 63, 1));
        netlink.sequence = u32::MAX - 63;
        assert_eq!((netlink.following(64), netlink.following(64)), (1, 65));
    }

    /// `RTM_GETLINK` of the loopback interface and, among several batches, of some that there are
    /// not.
    #[test]
    fn a_question_without_an_answer_does_not_stop_the_others() {
        const RTM_GETLINK: u16 = 18;
        const RTM_NEWLINK: u16 = 16;
        let question = |index: i32| {
            // `struct ifinfomsg`, of which only ifi_index is set
            let mut body = [0; 16];
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            body
        };
        let there = |place: usize| !place.is_multiple_of(3);
        let count = 2 * BATCH + 3;
        let questions = (0..count).map(|place| question(if there(place) { 1 } else { i32::MAX }));
        let mut netlink = Netlink::open(Subsystem::Route).unwrap();
        let mut next = 0;
        netlink
            .ask(RTM_GETLINK, questions, |place, answer| {
                assert_eq!(place, Some(next));
                match answer {
                    Ok(link) => assert!(there(next) && link.kind == RTM_NEWLINK),
                    Err(errno) => {
                        assert!(!there(next) && errno == Errno::NODEV.raw_os_error(), "{errno}");
                    }
                }
                next += 1;
            })
            .unwrap();
        assert_eq!(next, count);
        // Nothing of them is taken for the answer to what comes next.
        let mut links = 0;
        netlink.dump(RTM_GETLINK, &question(0), |_| links += 1).unwrap();
        assert!(links > 0);
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
