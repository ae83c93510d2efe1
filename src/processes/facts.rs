//! Facts of processes beside their command lines.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rustix::io::Errno;

use super::ProcessId;
use super::attributes::AttributeReader;
use super::descriptors::Proc;
use crate::model::traffic::Name;
use crate::model::{Attributes, Process, ProcessFacts};

/// Number of known processes that a refresh reads again: a user or a cgroup can change without exec.
const AGAIN: usize = 16;

/// Bytes of command lines that are kept in all, and what is kept of another one where there are as many.
const MOST_BYTES: usize = 16 << 20;
const SHORT: usize = 256;

/// Reads facts of processes, each of them seldom.
#[derive(Debug)]
pub(crate) struct FactsReader {
    proc: Proc,
    attributes: AttributeReader,
    known: HashMap<ProcessId, Known, RandomState>,
    refresh: u64,
    /// Number of processes that may still be read again at this refresh.
    left: usize,
    /// Bytes of all command lines.
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    /// Its command line when this was read.
    command_line: Name,
    facts: Arc<ProcessFacts>,
    /// The refresh that read it.
    read: u64,
    /// The last refresh that asked for it.
    asked: u64,
}

impl FactsReader {
    /// Reads the procfs that is mounted at `proc`.
    ///
    /// # Errors
    /// That of opening it.
    pub(crate) fn open(proc: &Path) -> Result<FactsReader, Errno> {
        Ok(FactsReader {
            proc: Proc::open(proc)?,
            attributes: AttributeReader::default(),
            known: HashMap::default(),
            refresh: 0,
            left: 0,
            bytes: 0,
        })
    }

    /// Starts a refresh: processes that the one before did not ask for are forgotten.
    pub(crate) fn begin(&mut self) {
        let before = self.refresh;
        self.known.retain(|_, known| known.asked == before);
        self.refresh += 1;
        self.left = AGAIN;
        self.bytes = self.known.values().map(|known| known.facts.cmdline.len()).sum();
    }

    /// Adds the facts of a process. It stays as it is if it has ended and was never read.
    pub(crate) fn add_to(&mut self, process: &mut Process) {
        let (id, refresh) = (process.id(), self.refresh);
        let is_same = |known: &Known| known.command_line == process.command_line;
        // Facts are final at a process's second refresh: a young one may still drop its privileges
        // after the fork.
        let is_due = match self.known.get(&id) {
            None => true,
            Some(known) if !is_same(known) => true,
            Some(known) => {
                let (age, turns) = (refresh - known.read, (self.known.len() / AGAIN) as u64);
                self.left > 0 && age > turns
            }
        };
        let kept = self.known.get(&id).map_or(0, |known| known.facts.cmdline.len());
        let others = self.bytes.saturating_sub(kept);
        if is_due && let Some(facts) = self.read(id, MOST_BYTES.saturating_sub(others)) {
            self.left = self.left.saturating_sub(1);
            self.bytes = others + facts.cmdline.len();
            let command_line = process.command_line.clone();
            let facts = Arc::new(facts);
            self.known.insert(id, Known { command_line, facts, read: refresh, asked: refresh });
        }
        if let Some(known) = self.known.get_mut(&id) {
            known.asked = refresh;
            process.facts = Some(known.facts.clone());
        }
    }

    /// Reads the facts of a process, with `room` for so many bytes of its command line; `None` if it has ended.
    fn read(&mut self, id: ProcessId, room: usize) -> Option<ProcessFacts> {
        let (pid, proc) = (id.pid, &self.proc);
        let mut cmdline = proc.cmdline(pid).ok().unwrap_or_default();
        if cmdline.len() > room {
            cmdline.truncate(SHORT);
        }
        let uid = proc.user(pid);
        let attributes = self.attributes.read(proc, pid, uid);
        let Attributes { program: _, exe, user, unit, container, pod } = attributes;
        let facts = ProcessFacts {
            comm: Name::default(),
            cmdline: cmdline.into(),
            exe,
            uid,
            user,
            unit,
            container,
            pod,
            netns: proc.netns(pid).map(|netns| netns.0),
        };
        // Last: the pid may be another process's by now, and then the facts would be, too.
        let (start, comm) = proc.stat(pid).ok()?;
        (start == id.start_time).then(|| ProcessFacts { comm: comm.into(), ..facts })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::processes::label::Users;
    use crate::until::until;

    fn process(pid: u32) -> Process {
        let (start, _) = Proc::open(Path::new("/proc")).unwrap().stat(pid).unwrap();
        let command_line = Name::from(*b"called");
        Process { start, command_line, ..Process::of(pid) }
    }

    #[test]
    fn facts_are_those_of_the_process() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let mut reader = FactsReader::open(Path::new("/proc")).unwrap();
        let mut of = process(child.id());
        let facts = until("it has called exec", || {
            reader.known.clear();
            reader.begin();
            reader.add_to(&mut of);
            let of = of.facts.clone().filter(|facts| &*facts.comm == b"sleep");
            // It has its new name a moment before its command line.
            of.filter(|facts| !facts.cmdline.is_empty())
        });
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(&*facts.cmdline, b"sleep\x0060\0");
        assert!(facts.exe.as_ref().unwrap().starts_with(b"/"));
        assert_eq!((facts.uid, facts.pod.clone()), (Some(uid), None));
        assert_eq!(&**facts.user.as_ref().unwrap(), &*Users::default().name(uid));
        let own = crate::netns::of(Path::new("/proc"), "self").unwrap();
        assert_eq!(facts.netns, Some(own.0));
        // Another one that had the number is somebody else.
        let mut other = Process { start: of.start - 1, facts: None, ..of.clone() };
        reader.add_to(&mut other);
        assert_eq!(other.facts, None);
        child.kill().unwrap();
        child.wait().unwrap();
        // What was known of it stays for as long as it has a row.
        of.facts = None;
        of.command_line = Name::from(*b"another");
        reader.add_to(&mut of);
        assert_eq!(of.facts, Some(facts));
        reader.begin();
        reader.begin();
        assert!(reader.known.is_empty());
    }

    #[test]
    fn few_are_read_again_at_a_refresh() {
        let mut reader = FactsReader::open(Path::new("/proc")).unwrap();
        let own = process(std::process::id());
        let read = |reader: &mut FactsReader| {
            reader.begin();
            reader.add_to(&mut own.clone());
            reader.known[&own.id()].read
        };
        assert_eq!(
            [1, 2, 3].map(|_| read(&mut reader)),
            [1, 2, 3],
            "alone it has a turn each time"
        );
        // Among many others it is asked in its turn.
        let known = |reader: &FactsReader| {
            let of = &reader.known[&own.id()];
            let (command_line, facts) = (of.command_line.clone(), of.facts.clone());
            Known { command_line, facts, read: 3, asked: u64::MAX }
        };
        for pid in 0..10 * AGAIN as u32 {
            let id = ProcessId { start_time: 0, pid: 5_000_000 + pid };
            let known = known(&reader);
            reader.known.insert(id, known);
        }
        let keep = |reader: &mut FactsReader| {
            let refresh = reader.refresh;
            reader.known.values_mut().for_each(|known| known.asked = refresh);
        };
        let mut times = Vec::new();
        for _ in 0..12 {
            keep(&mut reader);
            times.push(read(&mut reader));
        }
        times.dedup();
        assert_eq!(times, [3, 14], "it was read at other refreshes");
    }

    /// A user without privileges can give each of thousands of processes a command line of 64 KiB.
    #[test]
    fn command_lines_are_bounded_together() {
        let mut reader = FactsReader::open(Path::new("/proc")).unwrap();
        let own = process(std::process::id());
        let length = |reader: &mut FactsReader| {
            reader.known.clear();
            reader.add_to(&mut own.clone());
            reader.known[&own.id()].facts.cmdline.len()
        };
        let whole = length(&mut reader);
        reader.bytes = MOST_BYTES;
        assert_eq!(length(&mut reader), whole.min(SHORT));
        // One that is read again takes the place of what was read before.
        reader.known.clear();
        reader.bytes = MOST_BYTES - whole;
        let read = |reader: &mut FactsReader| {
            reader.left = 1;
            reader.known.values_mut().for_each(|known| known.command_line = Name::default());
            reader.add_to(&mut own.clone());
            (reader.bytes, reader.known[&own.id()].facts.cmdline.len())
        };
        assert_eq!([1, 2].map(|_| read(&mut reader)), [(MOST_BYTES, whole); 2]);
        reader.known.clear();
        reader.bytes = MOST_BYTES;
        assert_eq!(length(&mut reader), whole.min(SHORT));
        // Those that were forgotten make room.
        reader.begin();
        assert_eq!((reader.bytes, length(&mut reader)), (whole.min(SHORT), whole));
    }
}
