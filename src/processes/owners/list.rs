//! The list of processes, and their names.

use rustix::io::Errno;

use super::{Known, NAMESPACE_ROUND, Owners, Set, let_go};
use crate::netns::NetnsId;
use crate::processes::ProcessId;
use crate::processes::descriptors::{Listed, TableSize};
use crate::processes::names::Missing;

impl Owners {
    /// Updates the list of processes, as a look does.
    ///
    /// # Errors
    /// If `/proc` itself can't be listed.
    pub(crate) fn list(&mut self) -> Result<(), Errno> {
        let mut listed = Vec::with_capacity(self.processes.len() + 16);
        self.proc.list(|process| listed.push(process))?;
        // Processes that have started by now are known from their events.
        self.names.drain();
        let doubt = self.names.take_doubt();
        let present: Set<u32> = listed.iter().map(|listed| listed.pid).collect();
        let Owners { ended, processes, holders, names, proc, .. } = self;
        processes.retain(|pid, known| {
            let kept = present.contains(pid);
            if !kept {
                ended.push(known.id);
                names.ended(known.id);
                proc.forget(*pid);
                let_go(holders, *pid, &known.sockets);
            }
            kept
        });
        for Listed { pid, directory } in listed {
            if self.processes.get(&pid).is_some_and(|known| known.directory == directory) {
                continue;
            }
            let Ok((start_time, comm)) = self.proc.stat(pid) else { continue };
            let id = ProcessId { start_time, pid };
            if let Some(known) = self.processes.get_mut(&pid) {
                known.directory = directory;
                if known.id == id {
                    continue;
                }
                self.ended.push(known.id);
                self.names.ended(known.id);
                self.proc.forget(pid);
                let_go(&mut self.holders, pid, &known.sockets);
            }
            self.processes.insert(
                pid,
                Known {
                    id,
                    directory,
                    size: TableSize::default(),
                    scanned: 0,
                    exact: 0,
                    sockets: Vec::new(),
                    denied: false,
                    read: 0,
                    netns: None,
                    run_times: [None; 2],
                },
            );
            let Missing { command_line, label } = self.names.missing(id);
            if command_line || label {
                self.read_name(id, &comm);
            }
        }
        if doubt {
            self.read_names_again();
        } else if !self.names.are_reported() {
            let there = self.processes.values().map(|known| known.id).collect();
            self.names.keep(&there);
        }
        Ok(())
    }

    /// Reads the name of every process again, and ends those that are gone: events were lost.
    pub(super) fn read_names_again(&mut self) {
        let there: Set<ProcessId> = self.processes.values().map(|known| known.id).collect();
        for id in &there {
            if let Ok((start_time, comm)) = self.proc.stat(id.pid)
                && start_time == id.start_time
            {
                self.read_name(*id, &comm);
            }
        }
        self.names.keep(&there);
    }

    /// Reads the name of a process.
    pub(super) fn read_name(&mut self, id: ProcessId, comm: &[u8]) {
        let program = self.names.program(id);
        let Ok(cmdline) = self.proc.cmdline(id.pid) else { return };
        let labelled = self.labels.of(&self.proc, id.pid, &cmdline, comm);
        self.names.read(id, program, &cmdline, comm);
        // Another reader of the same table may have labels to read.
        if self.labels.is_empty() {
            return;
        }
        // A process that is about to end has freed its memory, including its command line.
        if !cmdline.is_empty() || !self.names.has_command_line(id) {
            self.names.label(id, program, labelled);
        }
    }

    /// The identity of a process, read again once a look: it may have called exec, changed its
    /// title, or be another process with the same pid.
    pub(super) fn describe(&mut self, pid: u32) -> Option<ProcessId> {
        let known = self.processes.get_mut(&pid)?;
        if known.read == self.look {
            return Some(known.id);
        }
        let (start_time, comm) = self.proc.stat(pid).ok()?;
        if start_time != known.id.start_time {
            known.directory = 0; // the next look lists it as a new process
            return None;
        }
        known.read = self.look;
        let id = known.id;
        self.read_name(id, &comm);
        Some(id)
    }

    /// Reads the name of a process again, unless this look has done so.
    pub(crate) fn refresh(&mut self, id: ProcessId) {
        if self.is_there(id) {
            self.describe(id.pid);
        }
    }

    /// The network namespace of every process that may be read, in no order. It is read when the
    /// process is new and at every eighth look: hardly any process ever changes it.
    pub(crate) fn namespaces(&mut self) -> impl Iterator<Item = (NetnsId, u32)> {
        for (pid, known) in &mut self.processes {
            let due = (self.look.wrapping_add(*pid)).is_multiple_of(NAMESPACE_ROUND);
            if known.netns.is_none() || due {
                known.netns = self.proc.netns(*pid);
            }
        }
        self.processes.iter().filter_map(|(pid, known)| Some((known.netns?, *pid)))
    }

    /// Reads the network namespace of every process again, the next time that it is needed.
    pub(crate) fn doubt_namespaces(&mut self) {
        self.processes.values_mut().for_each(|known| known.netns = None);
    }
}
