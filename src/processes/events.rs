//! Process events (fork, exec, exit) from the kernel's proc connector.
//!
//! The format: `struct cn_msg` in `include/uapi/linux/connector.h`, `struct proc_event` in
//! `include/uapi/linux/cn_proc.h`; everything is in the host's byte order. The kernel sends events
//! only in the initial network namespace, with the pids of the initial PID namespace.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::netlink::{Netlink, NetlinkError, Subsystem};
use crate::netns;

/// `NLMSG_DONE`: the type of all messages of the connector.
const DONE: u16 = 3;
/// `CN_IDX_PROC`, which is also the multicast group as a bit mask, and `CN_VAL_PROC`.
const PROC: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`, `PROC_CN_MCAST_IGNORE`
const LISTEN: u32 = 1;
const IGNORE: u32 = 2;
/// Number of namespaces in which a subscription is tried.
const NAMESPACES_TRIED: usize = 16;
/// The length of `struct cn_msg` without its data.
const CN_MSG: usize = 20;

const PROC_EVENT_FORK: u32 = 1;
const PROC_EVENT_EXEC: u32 = 2;
const PROC_EVENT_EXIT: u32 = 0x8000_0000;

/// An event of a process. Those of threads are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It started as a copy of its parent.
    Fork {
        /// The parent's pid.
        parent: u32,
        /// Its own pid.
        pid: u32,
    },
    /// It has started another program.
    Exec {
        /// Its pid.
        pid: u32,
    },
    /// It has ended.
    Exit {
        /// Its pid.
        pid: u32,
    },
}

/// Decodes one message; `None` for other events.
pub(crate) fn decode(body: &[u8]) -> Option<Event> {
    let word = |at: usize| body.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    if (word(0)?, word(4)?) != (PROC, PROC) {
        return None;
    }
    // After the kind: the processor, and the time in eight bytes.
    let field = |index: usize| word(CN_MSG + 16 + 4 * index);
    let of_process = |pid: u32, group: u32| (pid == group).then_some(pid);
    match word(CN_MSG)? {
        PROC_EVENT_FORK => {
            let pid = of_process(field(2)?, field(3)?)?;
            Some(Event::Fork { parent: field(1)?, pid })
        }
        // The thread that calls exec becomes the process.
        PROC_EVENT_EXEC => Some(Event::Exec { pid: field(1)? }),
        PROC_EVENT_EXIT => Some(Event::Exit { pid: of_process(field(0)?, field(1)?)? }),
        _ => None,
    }
}

/// Receives process events.
#[derive(Debug)]
pub(crate) struct Events {
    netlink: Netlink,
}

impl Events {
    /// Subscribes to events. Call it in the initial network namespace.
    ///
    /// # Errors
    /// `ECONNREFUSED` in another network namespace, `EPERM` if the user may not.
    pub(crate) fn listen() -> io::Result<Events> {
        let events = Events { netlink: Netlink::listen(Subsystem::Connector, PROC)? };
        events.subscribe(LISTEN)?;
        Ok(events)
    }

    /// Subscribes in the initial network namespace. The kernel doesn't report which one that is: it is
    /// that of the first process and of kernel threads, and else any of the existing ones.
    pub(crate) fn listen_elsewhere(proc: &Path) -> Option<Events> {
        let mut tried = HashSet::new();
        let processes = std::fs::read_dir(proc).ok()?.flatten();
        let processes = processes.filter_map(|entry| entry.file_name().into_string().ok());
        let numbered = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let first = ["1", "2"].map(str::to_owned).into_iter();
        first.chain(numbered).find_map(|process| {
            let id = netns::of(proc, &process).ok()?;
            if tried.len() == NAMESPACES_TRIED || !tried.insert(id) {
                return None;
            }
            netns::inside(proc, &process, Events::listen).ok()?.ok()
        })
    }

    fn subscribe(&self, what: u32) -> io::Result<()> {
        let words = [PROC, PROC, 0, 0];
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        body.extend(4u16.to_ne_bytes()); // the length of the data
        body.extend(0u16.to_ne_bytes());
        body.extend(what.to_ne_bytes());
        self.netlink.tell(DONE, &body)
    }

    /// Hands on every event since the last time.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Event)) -> Result<(), NetlinkError> {
        self.netlink.drain(|message| {
            if let Some(event) = decode(message.body) {
                each(event);
            }
        })
    }

    /// Number of times that the kernel dropped events since the last call, because they were not
    /// read in time.
    pub(crate) fn take_lost(&mut self) -> u64 {
        self.netlink.take_lost()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Kernels before 6.6 would continue to send events to nobody.
        let _ = self.subscribe(IGNORE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct cn_msg` and `struct proc_event` with these words for the event's data.
    fn message(kind: u32, data: &[u32]) -> Vec<u8> {
        let head = [PROC, PROC, 7, 0, 0x28, kind, 1, 0, 0];
        head.iter().chain(data).flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn processes_are_told_and_threads_are_not() {
        let fork = |pid, group| decode(&message(PROC_EVENT_FORK, &[10, 10, pid, group]));
        assert_eq!(fork(11, 11), Some(Event::Fork { parent: 10, pid: 11 }));
        assert_eq!(fork(12, 11), None);
        assert_eq!(decode(&message(PROC_EVENT_EXEC, &[12, 11])), Some(Event::Exec { pid: 11 }));
        let exit = |pid, group| decode(&message(PROC_EVENT_EXIT, &[pid, group, 0, 17, 10, 10]));
        assert_eq!(exit(11, 11), Some(Event::Exit { pid: 11 }));
        assert_eq!(exit(12, 11), None);
    }

    #[test]
    fn another_event_and_another_connector_are_left_out() {
        assert_eq!(decode(&message(4, &[1, 1, 0, 0])), None); // PROC_EVENT_UID
        let mut other = message(PROC_EVENT_EXEC, &[11, 11]);
        other[0] = 9;
        assert_eq!(decode(&other), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }
    }
}
