//! The first reading of all descriptors, in a thread of its own.
//!
//! It reads a link for each descriptor of the host, which takes seconds if there are many or the
//! processors are busy. A look takes what was read so far, and finds the holders of the other
//! sockets later.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::super::ProcessId;
use super::super::descriptors::{Proc, TableSize, Unreadable};
use super::Map;
use crate::sockets::Inode;

/// The result for one process.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) outcome: Result<TableSize, Unreadable>,
    /// Its descriptors that are sockets of any kind, in ascending order.
    pub(super) sockets: Vec<(u32, Inode)>,
}

/// A reading that is running, or whose result is still needed.
#[derive(Debug)]
pub(super) struct FirstReading {
    arriving: Receiver<(ProcessId, Read)>,
    /// Processes that are not read yet. Some may have ended meanwhile.
    unread: std::collections::HashSet<ProcessId, RandomState>,
    all: usize,
    pub(super) read: Map<ProcessId, Read>,
}

impl FirstReading {
    /// Starts to read these processes, in this order; `None` if no thread can be started.
    pub(super) fn start(proc: &Proc, processes: Vec<ProcessId>) -> Option<FirstReading> {
        let mut proc = proc.again().ok()?;
        let (sender, arriving) = mpsc::channel();
        let unread = processes.iter().copied().collect();
        let all = processes.len();
        let read = move || {
            for process in processes {
                let mut sockets = Vec::new();
                let outcome = proc.sockets(
                    process.pid,
                    |_| None,
                    |descriptor, inode| sockets.push((descriptor, Inode(inode))),
                );
                sockets.sort_unstable();
                if sender.send((process, Read { outcome, sockets })).is_err() {
                    return; // nobody wants to know any more
                }
            }
        };
        thread::Builder::new().name("descriptors".to_owned()).spawn(read).ok()?;
        Some(FirstReading { arriving, unread, all, read: Map::default() })
    }

    /// Takes what has been read, and waits for the rest until then. Returns the newly read
    /// processes.
    pub(super) fn receive(&mut self, until: Instant) -> Vec<ProcessId> {
        let mut new = Vec::new();
        while !self.unread.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            match self.arriving.recv_timeout(left) {
                Ok((process, read)) => {
                    self.unread.remove(&process);
                    self.read.insert(process, read);
                    new.push(process);
                }
                Err(RecvTimeoutError::Timeout) => break,
                // All were handed on, or the thread has failed: the look reads what is missing.
                Err(RecvTimeoutError::Disconnected) => self.unread.clear(),
            }
        }
        new
    }

    /// Whether this process will still be read.
    pub(super) fn is_to_read(&self, process: ProcessId) -> bool {
        self.unread.contains(&process)
    }

    pub(super) fn is_done(&self) -> bool {
        self.unread.is_empty()
    }

    /// Number of processes that are not read yet, and of all.
    pub(super) fn left(&self) -> (usize, usize) {
        (self.unread.len(), self.all)
    }
}
