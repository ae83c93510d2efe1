//! Process events (fork, exec, exit) from programs at the kernel's tracepoints.
//!
//! Three programs (`program/processes.bpf.c`) write events into a ring buffer, in the kernel's order. An
//! exec event has the command line of the new program, so that it is known however soon the process ends.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, include_bytes_aligned};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::slots::TICK;
use super::{OpenError, load};
use crate::netns::NetnsId;

/// The compiled programs, as in [`super`].
static OBJECT: &[u8] = include_bytes_aligned!("program/processes.bpf.o");

/// The inode of the initial PID namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
pub(crate) const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// `struct event` without its arguments.
const HEAD: usize = 56;
/// The length if the arguments could not be read.
const UNREAD: u32 = u32::MAX;

/// Maximum time until the end of a thread is reported.
const CHECKED: Duration = Duration::from_secs(1);

const FORK: u32 = 0;
const EXEC: u32 = 1;
const EXIT: u32 = 2;

/// The identity of a process in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// Its pid in the initial PID namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot, as in `/proc/PID/stat`.
    pub start: u64,
}

/// A process event. Those of threads are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEvent<'a> {
    /// The process.
    pub process: Started,
    /// The event.
    pub what: What<'a>,
    /// The inode number of its network namespace, if it has one.
    pub netns: Option<u32>,
    /// Its name (`TASK_COMM_LEN`), without padding.
    pub name: &'a [u8],
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// It started as a copy of this process.
    Fork(Started),
    /// It has started another program, with this command line as in `/proc/PID/cmdline`; `None` if it
    /// could not be read.
    Exec(Option<&'a [u8]>),
    /// All its threads have ended. The last command line is in it if it still was in memory (Linux
    /// 6.16 and later).
    Exit(Option<&'a [u8]>),
}

/// The events for which a reader is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// None.
    Nothing,
    /// Events of other network namespaces than this one.
    OthersThan(NetnsId),
    /// All.
    All,
}

/// Decodes one record; `None` if it is malformed.
fn decode(record: &[u8]) -> Option<ProcessEvent<'_>> {
    let word = |at: usize| record.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let long = |at: usize| record.get(at..)?.first_chunk().map(|long| u64::from_ne_bytes(*long));
    let name = record.get(40..HEAD)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let length = word(32)?;
    let arguments = match length {
        UNREAD => None,
        length => Some(record.get(HEAD..HEAD.checked_add(length as usize)?)?),
    };
    let process = Started { pid: word(16)?, start: long(0)? / TICK };
    let what = match word(24)? {
        FORK => What::Fork(Started { pid: word(20)?, start: long(8)? / TICK }),
        EXEC => What::Exec(arguments),
        EXIT => What::Exit(arguments),
        _ => return None,
    };
    let netns = word(28).filter(|netns| *netns != 0);
    Some(ProcessEvent { process, what, netns, name })
}

/// Receives process events.
pub(crate) struct ProcessReader {
    ring: RingBuf<MapData>,
    settings: Array<MapData, [u32; 2]>,
    lost: Array<MapData, u64>,
    checked: Array<MapData, u32>,
    /// Number of lost events at the last call.
    lost_before: u64,
    /// The programs, which stay attached as long as this exists.
    _programs: Ebpf,
}

impl ProcessReader {
    /// Loads and attaches the programs. `proc` is the path where procfs is mounted.
    ///
    /// # Errors
    /// This kernel or this user doesn't allow it, or the PID namespace is not the initial one.
    pub(crate) fn open(proc: &Path) -> Result<ProcessReader, OpenError> {
        super::undisturbed(|| ProcessReader::open_here(proc))
    }

    fn open_here(proc: &Path) -> Result<ProcessReader, OpenError> {
        let namespace = std::fs::read_link(proc.join("self/ns/pid"));
        if namespace.is_ok_and(|namespace| namespace.as_os_str() != INITIAL_PID_NAMESPACE) {
            return Err(OpenError::new("this is not the host's PID namespace"));
        }
        if is_real_time_before_6_12() {
            return Err(OpenError::new("this kernel's ring buffers may sleep where they must not"));
        }
        // Kernels before 5.11 count a map's memory as locked.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        // The loader takes the offsets of the kernel's fields from its BTF.
        if !load::has_types() {
            return Err(OpenError::new("the kernel has no BTF"));
        }
        let mut programs = load::loader()
            .load(OBJECT)
            .map_err(|error| OpenError::from_loader("the kernel refuses eBPF maps", &error))?;
        let refused =
            |error: ProgramError| OpenError::from_loader("the kernel refuses tracepoints", &error);
        for (_, program) in programs.programs_mut() {
            match program {
                Program::RawTracePoint(program) => program.load(),
                _ => Err(ProgramError::UnexpectedProgramType),
            }
            .map_err(refused)?;
        }
        let missing = || OpenError::new("an eBPF map is missing");
        let failed = |error: aya::maps::MapError| OpenError::new(error.to_string());
        let mut take = |name| programs.take_map(name).ok_or_else(missing);
        let mut reader = ProcessReader {
            ring: RingBuf::try_from(take("events")?).map_err(failed)?,
            settings: Array::try_from(take("settings")?).map_err(failed)?,
            lost: Array::try_from(take("lost")?).map_err(failed)?,
            checked: Array::try_from(take("checked")?).map_err(failed)?,
            lost_before: 0,
            _programs: programs,
        };
        reader.wake_for(Wake::All)?;
        for (program, tracepoint) in [
            ("process_fork", "sched_process_fork"),
            ("process_exec", "sched_process_exec"),
            ("process_exit", "sched_process_exit"),
        ] {
            match reader._programs.program_mut(program) {
                Some(Program::RawTracePoint(program)) => program.attach(tracepoint).map(drop),
                _ => Err(ProgramError::UnexpectedProgramType),
            }
            .map_err(refused)?;
        }
        reader.check()?;
        Ok(reader)
    }

    /// Starts a thread and checks that the programs report its end correctly. Without BTF, or with one
    /// that the loader misunderstands, they would read wrong offsets.
    fn check(&mut self) -> Result<(), OpenError> {
        let deadline = Instant::now() + CHECKED;
        while Instant::now() < deadline {
            let _ = thread::Builder::new().spawn(|| ()).map(thread::JoinHandle::join);
            match self.checked.get(&0, 0) {
                Ok(1) => return Ok(()),
                Ok(0) => thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        Err(OpenError::new("the kernel's structures are not as its BTF says"))
    }

    /// Makes the descriptor readable with these events only, and when a quarter of the ring is full. At first
    /// it is with all events.
    ///
    /// # Errors
    /// Those of updating the map.
    pub(crate) fn wake_for(&mut self, wake: Wake) -> Result<(), OpenError> {
        let settings = match wake {
            Wake::Nothing => [0, 0],
            Wake::OthersThan(NetnsId(netns)) => [1, netns],
            Wake::All => [2, 0],
        };
        self.settings.set(0, settings, 0).map_err(|error| OpenError::new(error.to_string()))
    }

    /// Hands on every event since the last time.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(ProcessEvent<'_>)) {
        while let Some(record) = self.ring.next() {
            if let Some(event) = decode(&record) {
                each(event);
            }
        }
    }

    /// Number of events that were lost since the last call, because the ring was full.
    pub(crate) fn take_lost(&mut self) -> u64 {
        let lost = self.lost.get(&0, 0).unwrap_or(self.lost_before);
        lost - std::mem::replace(&mut self.lost_before, lost)
    }
}

/// On PREEMPT_RT kernels before 6.12 a ring buffer's lock may sleep, which tracepoints must not.
fn is_real_time_before_6_12() -> bool {
    let real_time = std::fs::read("/sys/kernel/realtime").is_ok_and(|text| text.starts_with(b"1"));
    real_time && load::version().is_none_or(|version| version < (6, 12))
}

impl AsFd for ProcessReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl fmt::Debug for ProcessReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessReader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct event` of processes.bpf.c.
    fn record(kind: u32, length: u32, arguments: &[u8]) -> Vec<u8> {
        let times = [8_675_309_123_456_u64, 50_000_000];
        let words = [1234, 1, kind, 4_026_531_833, length, 0];
        let times = times.iter().flat_map(|time| time.to_ne_bytes());
        let words = words.iter().flat_map(|word: &u32| word.to_ne_bytes());
        times
            .chain(words)
            .chain(*b"ssh\0of the parent")
            .take(HEAD)
            .chain(arguments.to_vec())
            .collect()
    }

    #[test]
    fn every_kind_of_event_is_read() {
        let process = Started { pid: 1234, start: 867_530 };
        let event = |what| ProcessEvent { process, what, netns: Some(4_026_531_833), name: b"ssh" };
        let fork = record(FORK, UNREAD, b"");
        assert_eq!(decode(&fork), Some(event(What::Fork(Started { pid: 1, start: 5 }))));
        let exec = record(EXEC, 9, b"ssh\0host\0and what was there before");
        assert_eq!(decode(&exec), Some(event(What::Exec(Some(b"ssh\0host\0")))));
        assert_eq!(decode(&record(EXEC, 0, b"")), Some(event(What::Exec(Some(b"")))));
        assert_eq!(decode(&record(EXIT, UNREAD, b"x")), Some(event(What::Exit(None))));
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_left_out() {
        assert_eq!(decode(&record(EXEC, 9, b"ssh")), None);
        assert_eq!(decode(&record(3, UNREAD, b"")), None);
        assert_eq!(decode(&record(FORK, UNREAD, b"")[..HEAD - 1]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&bytes);
        }
    }
}
