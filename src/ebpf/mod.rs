//! The bytes of every socket of the host, counted in the kernel, and who made it.
//!
//! Four small programs (`program/sockets.bpf.c`) are attached to the root of the cgroup hierarchy, so
//! that they see the sockets of every process: one counts each packet that a socket receives and one each
//! that it sends, one sees sockets being made, and one being let go of. They look at no more of a packet than its
//! headers, and let every packet pass. Nothing is pinned: when this process ends, however it does, the
//! kernel detaches them.
//!
//! A socket's bytes are those of its IP packets, headers included, as connection tracking counts them: a
//! packet that the device or the kernel cuts into segments later counts once, with one header.

mod cgroup;
mod gone;
mod mapping;
mod slots;

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use aya::maps::Map;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, setrlimit};

use gone::Gone;
use mapping::Mapping;
use slots::{Bucket, FREE, LEAVING, Slot, Totals, WAYS};
pub use slots::{Bytes, Origin, Passing};

/// The compiled program, beside its source, so that building the library takes no compiler for it.
static OBJECT: &[u8] = include_bytes_aligned!("program/sockets.bpf.o");

/// How many sockets there is room for: twice as many as the host has open files when it is
/// opened, within these bounds. Each takes 136 bytes of the kernel's memory.
pub const SLOTS: std::ops::RangeInclusive<u32> = 1 << 17..=1 << 20;

/// With how little it is content where memory is short.
const FEWEST_SLOTS: u32 = 1 << 12;

/// Which part of the slots is given to sockets between two readings at the most, if it is for the reader:
/// those that were taken back are free only after the next one.
const FILLING: u64 = 4;

/// How long it takes until maps that were given up are freed.
const FREED: Duration = Duration::from_millis(50);

/// What would allow it.
const MEND_PERMISSION: &str = "run it as root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN)";

/// Why sockets can't be counted here.
#[derive(Debug)]
pub struct OpenError {
    why: String,
    mend: Option<&'static str>,
}

impl Error for OpenError {}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.mend.map_or(Ok(()), |mend| write!(f, "; to mend it: {mend}"))
    }
}

impl OpenError {
    fn new(why: impl Into<String>) -> OpenError {
        OpenError { why: why.into(), mend: None }
    }

    /// From what the loader says: the innermost error is the kernel's.
    fn from_loader(what: &str, error: &(dyn Error + 'static)) -> OpenError {
        match errno(error) {
            Some(errno) => OpenError {
                why: format!("{what}: {}", io::Error::from(errno)),
                // The verifier says EACCES, also of what takes CAP_PERFMON.
                mend: matches!(errno, Errno::PERM | Errno::ACCESS).then_some(MEND_PERMISSION),
            },
            None => OpenError::new(format!("{what}: {error}")),
        }
    }

    /// Why, without what would mend it.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What would mend it, where more privileges would.
    pub fn mend(&self) -> Option<&'static str> {
        self.mend
    }
}

fn errno(mut error: &(dyn Error + 'static)) -> Option<Errno> {
    loop {
        if let Some(errno) = error.downcast_ref().and_then(Errno::from_io_error) {
            return Some(errno);
        }
        error = error.source()?;
    }
}

/// The bytes of a socket, as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its slot: what is asked of the socket is asked of this.
    pub slot: u32,
    /// Which socket it is, of all namespaces and for all time.
    pub cookie: u64,
    /// Its bytes since it was given this slot.
    pub bytes: Bytes,
}

impl Counted {
    /// Whether it has sent or received any.
    pub fn has_bytes(&self) -> bool {
        self.bytes != Bytes::default()
    }
}

/// Counts the bytes of all sockets, from the moment that it is opened.
#[derive(Debug)]
pub struct Reader {
    /// In the order of their ways, and in each way of the buckets.
    slots: Mapping<Slot>,
    buckets: Mapping<Bucket>,
    totals: Mapping<Totals>,
    /// What was read in slots that were taken from their sockets since the last reading. A packet that was
    /// being counted at that moment is counted by now.
    leaving: Vec<Counted>,
    /// Slots that were read for the last time.
    left: Vec<u32>,
    gone: Gone,
    /// How many slots had been given to sockets at the last reading.
    claimed: u64,
    netns: u64,
    /// Its programs are attached for as long as it is there.
    _programs: Ebpf,
}

impl Reader {
    /// Loads and attaches the programs. `proc` is where procfs is mounted.
    ///
    /// # Errors
    /// If this kernel, this user or this container doesn't allow it, or sees only a part of the host.
    pub fn open(proc: &Path) -> Result<Reader, OpenError> {
        Reader::with_room(proc, capacity(proc))
    }

    /// The same with room for so many sockets, rounded up to a power of two, 8 at the least; for fewer
    /// where memory is short.
    ///
    /// # Errors
    /// As above.
    pub fn with_room(proc: &Path, capacity: u32) -> Result<Reader, OpenError> {
        let mut capacity = capacity.clamp(WAYS as u32, *SLOTS.end()).next_power_of_two();
        let root = cgroup::root(proc).map_err(OpenError::new)?;
        // Kernels before 5.11 count a map's memory as locked; later ones ask the memory cgroup.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        loop {
            match Reader::load(&root, capacity) {
                Err((_, Some(Errno::NOMEM | Errno::TOOBIG))) if capacity > FEWEST_SLOTS => {
                    capacity /= 2;
                    // The kernel frees what it could not fill a moment later.
                    std::thread::sleep(FREED);
                }
                loaded => return loaded.map_err(|(error, _)| error),
            }
        }
    }

    fn load(root: &File, capacity: u32) -> Result<Reader, (OpenError, Option<Errno>)> {
        let failed = |what: &str, error: &(dyn Error + 'static)| {
            (OpenError::from_loader(what, error), errno(error))
        };
        let buckets = capacity / WAYS as u32;
        let seed = std::hash::RandomState::new().hash_one(capacity);
        let mut programs = EbpfLoader::new()
            .override_global("bucket_count", &buckets, true)
            .override_global("seed", &seed, true)
            .map_max_entries("slots", capacity)
            .map_max_entries("buckets", buckets)
            .load(OBJECT)
            .map_err(|error| failed("the kernel refuses eBPF maps", &error))?;
        let refused = |error: ProgramError| failed("the kernel refuses eBPF programs", &error);
        for (_, program) in programs.programs_mut() {
            match program {
                Program::CgroupSkb(program) => program.load(),
                Program::CgroupSock(program) => program.load(),
                _ => Err(ProgramError::UnexpectedProgramType),
            }
            .map_err(refused)?;
        }
        // Who releases a socket before its making could be seen is of no use: the makers first.
        for name in ["create", "release", "ingress", "egress"] {
            // By links, which any number of programs may have beside each other.
            let mode = CgroupAttachMode::Single;
            let direction = match name {
                "ingress" => CgroupSkbAttachType::Ingress,
                _ => CgroupSkbAttachType::Egress,
            };
            match programs.program_mut(name) {
                Some(Program::CgroupSkb(program)) => {
                    program.attach(root, direction, mode).map(drop)
                }
                Some(Program::CgroupSock(program)) => program.attach(root, mode).map(drop),
                _ => Err(ProgramError::UnexpectedProgramType),
            }
            .map_err(|error| failed("eBPF programs can't be attached to cgroups", &error))?;
        }
        let mapped = |errno: Errno| {
            (OpenError::new(format!("the counters can't be mapped: {errno}")), Some(errno))
        };
        let mut reader = Reader {
            slots: mapping(&programs, "slots", capacity as usize).map_err(mapped)?,
            buckets: mapping(&programs, "buckets", buckets as usize).map_err(mapped)?,
            totals: mapping(&programs, "shared", 1).map_err(mapped)?,
            leaving: Vec::new(),
            left: Vec::new(),
            gone: Gone::default(),
            claimed: 0,
            netns: 0,
            _programs: programs,
        };
        reader.netns = reader.made_here().map_err(|error| (error, None))?;
        Ok(reader)
    }

    /// Makes a socket and sees whether the programs have seen it: in the PID namespace of which the
    /// numbers are, too. Returns the cookie of its network namespace.
    fn made_here(&self) -> Result<u64, OpenError> {
        // Not bound to an address: the loopback device may be down.
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
        let socket =
            socket.map_err(|errno| OpenError::new(format!("no socket can be made: {errno}")))?;
        let cookie = rustix::net::sockopt::socket_cookie(&socket);
        let cookie =
            cookie.map_err(|errno| OpenError::new(format!("a socket has no cookie: {errno}")))?;
        let mut cookies = self.cookies();
        let origin = cookies.find_map(|(slot, of)| (of == cookie).then(|| self.slot(slot)));
        let origin = origin.flatten().map(Slot::origin);
        let origin = origin
            .ok_or_else(|| OpenError::new("sockets are made without the programs seeing it"))?;
        if origin.maker.map(|maker| maker.pid) != Some(std::process::id()) {
            return Err(OpenError::new(
                "this is not the host's PID namespace, whose numbers eBPF tells (for a container: \
                 --pid=host)",
            ));
        }
        Ok(origin.netns)
    }

    /// The cookie of the network namespace in which it was opened.
    pub fn netns(&self) -> u64 {
        self.netns
    }

    /// How many sockets there is room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Every slot that a socket has, and its cookie.
    fn cookies(&self) -> impl Iterator<Item = (u32, u64)> {
        let buckets = self.buckets.len();
        self.buckets.iter().enumerate().flat_map(move |(at, bucket)| {
            let cookies = bucket.cookies.iter().map(|cookie| cookie.load(Acquire)).enumerate();
            let taken = cookies.filter(|(_, cookie)| ![FREE, LEAVING].contains(cookie));
            taken.map(move |(way, cookie)| ((way * buckets + at) as u32, cookie))
        })
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize)
    }

    /// Where it stands whose a slot is.
    fn owner(&self, slot: u32) -> Option<&AtomicU64> {
        let (slot, buckets) = (slot as usize, self.buckets.len());
        self.buckets.get(slot % buckets)?.cookies.get(slot / buckets)
    }

    /// Hands on the bytes of every socket. Those that are its last in this slot come with what was read there
    /// before: where that is more, the [origin](Reader::origin) is known until [`Reader::give_back`].
    pub fn read(&mut self, mut each: impl FnMut(Counted, Option<Bytes>)) {
        self.give_back();
        self.claimed = self.claimed_now();
        for before in std::mem::take(&mut self.leaving) {
            let Some(slot) = self.slot(before.slot) else { continue };
            let last = Counted { bytes: slot.bytes(), ..before };
            if last == before {
                self.free(last.slot);
            } else {
                self.left.push(last.slot);
            }
            each(last, Some(before.bytes));
        }
        for (slot, cookie) in self.cookies() {
            // One that is being filled at this moment comes with the next reading.
            if let Some(counted) = self.slot(slot).filter(|counted| counted.is_filled()) {
                each(Counted { slot, cookie, bytes: counted.bytes() }, None);
            }
        }
    }

    fn claimed_now(&self) -> u64 {
        self.totals.first().map_or(0, Totals::claimed)
    }

    /// Whether so many sockets have got slots since the last reading that it is time for the next one.
    pub fn is_filling(&self) -> bool {
        self.claimed_now() - self.claimed > self.capacity() as u64 / FILLING
    }

    /// What is known of a socket that was read, beside its bytes.
    pub fn origin(&self, of: &Counted) -> Option<Origin> {
        let now = self.slot(of.slot)?.origin();
        // Of one that was made in this slot it stands there.
        if now.maker.is_some() && !now.accepted {
            return Some(now);
        }
        Some(self.gone.get(of.cookie).map_or(now, |before| now.after(before)))
    }

    /// Takes a slot from the socket that was read in it, which gets another one if it needs it: then its
    /// `origin` is still known. What was counted until then comes with the next reading.
    pub fn take_back(&mut self, from: &Counted, origin: &Origin) {
        let Some(owner) = self.owner(from.slot) else { return };
        if owner.compare_exchange(from.cookie, LEAVING, Relaxed, Relaxed).is_ok() {
            self.leaving.push(*from);
            if !origin.ended {
                self.gone.insert(from.cookie, origin);
            }
        }
    }

    /// Lets the kernel give a slot to another socket.
    fn free(&self, slot: u32) {
        if let (Some(left), Some(owner)) = (self.slot(slot), self.owner(slot)) {
            left.clear();
            // Only now may it be written to.
            owner.store(FREE, Release);
        }
    }

    /// Lets other sockets have the slots that were read for the last time. The next reading does so, too.
    pub fn give_back(&mut self) {
        for slot in std::mem::take(&mut self.left) {
            self.free(slot);
        }
    }

    /// The bytes of sockets for which there was no room.
    pub fn without_slot(&self) -> Bytes {
        self.totals.first().map(Totals::without_slot).unwrap_or_default()
    }
}

fn mapping<T: mapping::Shared>(
    programs: &Ebpf,
    name: &str,
    length: usize,
) -> Result<Mapping<T>, Errno> {
    match programs.map(name) {
        Some(Map::Array(map)) => Mapping::of(std::os::fd::AsFd::as_fd(map.fd()), length),
        _ => Err(Errno::NOENT),
    }
}

/// How many slots are made. Each socket of a process is an open file, in whatever namespace it is.
fn capacity(proc: &Path) -> u32 {
    slots_for(open_files(&std::fs::read_to_string(proc.join("sys/fs/file-nr")).unwrap_or_default()))
}

/// The first figure of `/proc/sys/fs/file-nr` (proc_sys_fs(5)).
fn open_files(file_nr: &str) -> u32 {
    let first = file_nr.split_whitespace().next();
    first.and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn slots_for(files: u32) -> u32 {
    let (fewest, most) = (*SLOTS.start(), *SLOTS.end());
    files.saturating_mul(2).clamp(fewest, most).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_twice_the_open_files_within_bounds() {
        assert_eq!(open_files("2112\t0\t9223372036854775807\n"), 2112);
        assert_eq!(open_files("nonsense"), 0);
        assert_eq!(slots_for(0), 131_072);
        assert_eq!(slots_for(80_000), 262_144);
        assert_eq!(slots_for(u32::MAX), 1_048_576);
        for files in [1, 32_769, 100_000, 300_000] {
            assert!(slots_for(files).is_power_of_two());
        }
    }
}
