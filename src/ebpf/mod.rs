//! The bytes of every socket of the host, counted in the kernel, and the maker of each socket.
//!
//! Small programs (`program/sockets.bpf.c`) are attached to the root of the cgroup hierarchy, so that they run
//! for the sockets of every process. One counts received packets, one sent packets; others run when a socket is
//! made, when a connection is established from outside, and when a socket is released. Two more, at tracepoints,
//! count what no such socket has: frames of packet sockets, and packets without a socket. Before Linux 6.6 a
//! third counts the answers of servers to clients that connect over IPv6. They read only the headers of a
//! packet, and pass every packet. Nothing is pinned: when this process ends, however it does, the kernel
//! detaches them.
//!
//! A socket's bytes are those of its IP packets, headers included, as in connection tracking: a packet that the
//! device or the kernel segments later counts once, with one header. A packet socket's bytes are those of its
//! frames.

mod cgroup;
mod frames;
mod gone;
mod handshakes;
mod load;
mod mapping;
mod outside;
mod processes;
mod remotes;
mod slots;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::sockets::Inode;

use frames::PacketSockets;
use gone::Gone;
use handshakes::{SETS, Set, Waiting};
pub use load::OpenError;
use load::Programs;
use mapping::Mapping;
use outside::Namespaces;
pub use outside::Outside;
pub(crate) use processes::INITIAL_PID_NAMESPACE;
pub(crate) use processes::{ProcessEvent, ProcessReader, Started, Wake, What};
pub use remotes::RemoteBytes;
use remotes::Remotes;
pub(crate) use slots::TICK;
use slots::{Bucket, FREE, LEAVING, Slot, Totals, WAYS};
pub use slots::{Bytes, Origin, Task};

/// Number of slots for sockets: twice as many as the host has open files at the start, within these
/// bounds. Each takes 136 bytes of the kernel's memory.
pub const SLOTS: std::ops::RangeInclusive<u32> = 1 << 17..=1 << 20;

/// Minimum number of slots if memory is short.
const FEWEST_SLOTS: u32 = 1 << 12;

/// A reading is due when this part of the slots was given to sockets since the last one: slots that were
/// taken back are free only after the next reading.
const FILLING: u64 = 4;

/// Time until maps that were given up are freed.
const FREED: Duration = Duration::from_millis(50);

/// Number of users that are distinguished (`USERS`).
const USERS: usize = 4096;

/// The bytes of a socket, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its slot, by which queries about the socket find it.
    pub slot: u32,
    /// Its cookie, which is unique over all namespaces and never reused.
    pub cookie: u64,
    /// Its inode, to which descriptors refer; `None` if it isn't known (yet).
    pub inode: Option<Inode>,
    /// Its bytes since it was given this slot.
    pub bytes: Bytes,
}

impl Counted {
    /// Whether it has sent or received any.
    pub fn has_bytes(&self) -> bool {
        !self.bytes.is_zero()
    }
}

/// Counts the bytes of all sockets from its opening on.
#[derive(Debug)]
pub struct Reader {
    /// The slots, in the order of their ways, and in each way of the buckets.
    slots: Mapping<Slot>,
    buckets: Mapping<Bucket>,
    totals: Mapping<Totals>,
    /// Number of slots of each user.
    users: Mapping<AtomicU64>,
    handshakes: Mapping<Set>,
    waiting: Waiting,
    outside: Namespaces,
    /// The network namespaces of the listening sockets at the last reading, and at the one before.
    listening: [HashMap<u64, u64, RandomState>; 2],
    /// Released Multipath TCP sockets of the last reading: the token and the closer of each.
    closed_multipath: Vec<(u32, Task)>,
    packets: PacketSockets,
    /// `None` if remote ends are not told apart.
    remotes: Option<Remotes>,
    /// Number of packet sockets of each user.
    packet_users: Mapping<AtomicU64>,
    /// The readings of slots that were taken from their sockets since the last reading. A packet that was
    /// being counted at that moment is counted by now.
    leaving: Vec<Counted>,
    /// Slots that were read for the last time.
    left: Vec<u32>,
    gone: Gone,
    /// Number of slots given to sockets until the last reading.
    claimed: u64,
    netns: u64,
    /// The programs, which stay attached as long as this exists.
    programs: Programs,
}

/// Runs `work` without signals in this thread and in those that it starts: a signal makes the kernel abort the
/// verification of a program, as if it refused it. Other threads receive the signals, or this one afterwards.
fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    // If that is refused, signals may interrupt the work.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let done = work();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    done
}

impl Reader {
    /// Loads and attaches the programs. `proc` is the path where procfs is mounted. With `remotes`, bytes are also
    /// counted by remote end.
    ///
    /// # Errors
    /// This kernel, this user or this container doesn't allow it, or sees only a part of the host.
    pub fn open(proc: &Path, remotes: bool) -> Result<Reader, OpenError> {
        Reader::with_room(proc, capacity(proc), remotes)
    }

    /// As [`Reader::open`], with this many slots, rounded up to a power of two, at least 8; with fewer
    /// if memory is short.
    ///
    /// # Errors
    /// As [`Reader::open`].
    /// As above.
    pub fn with_room(proc: &Path, capacity: u32, remotes: bool) -> Result<Reader, OpenError> {
        let mut capacity = capacity.clamp(WAYS as u32, *SLOTS.end()).next_power_of_two();
        let root = cgroup::root(proc).map_err(OpenError::new)?;
        // Kernels before 5.11 count a map's memory as locked; later ones charge it to the memory
        // cgroup.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        let mut reads_kernel = load::has_types();
        loop {
            let load = || Programs::load(&root, capacity, reads_kernel, remotes);
            let refused = match undisturbed(load) {
                Ok(programs) => return Reader::of(programs, capacity, remotes),
                Err(refused) => refused,
            };
            match refused.errno() {
                Some(Errno::NOMEM | Errno::TOOBIG) if capacity > FEWEST_SLOTS => {
                    capacity /= 2;
                    // The kernel frees incomplete maps a moment later.
                    std::thread::sleep(FREED);
                }
                // The kernel may forbid reading its structures (lockdown).
                _ if reads_kernel => reads_kernel = false,
                _ => return Err(refused),
            }
        }
    }

    fn of(mut programs: Programs, capacity: u32, remotes: bool) -> Result<Reader, OpenError> {
        let map = |error: aya::maps::MapError| OpenError::new(format!("a map: {error}"));
        let remotes = match remotes {
            true => Some(Remotes::new(programs.take_map("remotes")?).map_err(map)?),
            false => None,
        };
        let mut reader = Reader {
            remotes,
            slots: programs.mapping("slots", capacity as usize)?,
            buckets: programs.mapping("buckets", capacity as usize / WAYS)?,
            totals: programs.mapping("shared", 1)?,
            users: programs.mapping("users", USERS)?,
            handshakes: programs.mapping("handshakes", SETS)?,
            waiting: Waiting::default(),
            outside: Namespaces::new(programs.take_map("outside")?).map_err(map)?,
            listening: Default::default(),
            closed_multipath: Vec::new(),
            packets: PacketSockets::new(programs.take_map("packet_sockets")?).map_err(map)?,
            packet_users: programs.mapping("packet_users", USERS)?,
            leaving: Vec::new(),
            left: Vec::new(),
            gone: Gone::default(),
            claimed: 0,
            netns: 0,
            programs,
        };
        reader.netns = reader.made_here()?;
        Ok(reader)
    }

    /// Makes a socket and checks that the programs have seen it, with the pid of this PID
    /// namespace. Returns the cookie of its network namespace.
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

    /// Whether the kernel lets its structures be read, so that the network namespace and the maker of every
    /// socket are known.
    pub fn reads_kernel(&self) -> bool {
        self.programs.reads_kernel
    }

    /// Number of slots.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Every slot in use, and the cookie of its socket.
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

    /// The entry with the cookie of a slot's socket.
    fn owner(&self, slot: u32) -> Option<&AtomicU64> {
        let (slot, buckets) = (slot as usize, self.buckets.len());
        self.buckets.get(slot % buckets)?.cookies.get(slot / buckets)
    }

    /// Hands on the bytes of every socket. The last bytes in a slot come with the bytes read there before; if
    /// there are new ones, the [origin](Reader::origin) is known until [`Reader::give_back`].
    pub fn read(&mut self, mut each: impl FnMut(Counted, Option<Bytes>)) {
        self.give_back();
        self.settle_handshakes();
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
        let mut closed_multipath = std::mem::take(&mut self.closed_multipath);
        closed_multipath.clear();
        let mut listening = HashMap::default();
        for (slot, cookie) in self.cookies() {
            // A slot that is being filled at this moment comes with the next reading.
            let Some(filled) = self.slot(slot).filter(|counted| counted.is_filled()) else {
                continue;
            };
            let (bytes, inode) = (filled.bytes(), filled.inode());
            // So does a socket that gets the slot of a silent one at this moment.
            let still = self.owner(slot).is_some_and(|owner| owner.load(Acquire) == cookie);
            if still {
                closed_multipath.extend(filled.closed_multipath());
                listening.extend(filled.listens_in().map(|netns| (cookie, netns)));
                each(Counted { slot, cookie, inode, bytes }, None);
            }
        }
        self.closed_multipath = closed_multipath;
        let [now, before] = &mut self.listening;
        *before = std::mem::replace(now, listening);
        let (capacity, frames) = (self.capacity(), self.count(|totals| &totals.frames));
        let users = &self.packet_users;
        let forgotten = |user: u32| {
            if let Some(has) = users.get(user as usize) {
                has.fetch_sub(1, Relaxed);
            }
        };
        self.packets.read(frames, forgotten, |place, cookie, bytes, last| {
            let (slot, inode) = ((capacity + place) as u32, Some(frames::inode(cookie)));
            let counted = Counted { slot, cookie, inode, bytes };
            each(counted, last.then_some(bytes));
        });
    }

    /// Hands on the new bytes of each remote end. Call it after [`Reader::read`]: then a socket never has bytes that
    /// its remote ends don't have, unless there was no room for one.
    pub fn read_remotes(&mut self, each: impl FnMut(RemoteBytes)) {
        if let Some(remotes) = &mut self.remotes {
            remotes.read(each);
        }
    }

    /// Gives the bytes of handshakes without a connection to the listening sockets.
    fn settle_handshakes(&mut self) {
        let packets = self.count(|totals| &totals.handshakes);
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut settled = Vec::new();
        waiting.settle(&self.handshakes, packets, Instant::now(), |listener, bytes| {
            settled.push((listener, bytes));
        });
        self.waiting = waiting;
        for (listener, bytes) in settled {
            match self.find(listener) {
                Some(slot) => slot.add(bytes),
                None => {
                    let netns = self.listening.iter().find_map(|seen| seen.get(&listener));
                    self.outside.add(netns.copied().unwrap_or(0), bytes);
                }
            }
        }
    }

    /// The slot of a socket, if it has one: in one of two buckets, as in `program/slots.h`.
    fn find(&self, cookie: u64) -> Option<&Slot> {
        let buckets = self.buckets.len();
        let second = (cookie.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40) as u32;
        [cookie as u32, second].into_iter().find_map(|hash| {
            let at = hash as usize & (buckets - 1);
            let cookies = &self.buckets.get(at)?.cookies;
            let way = cookies.iter().position(|taken| taken.load(Acquire) == cookie)?;
            self.slots.get(way * buckets + at)
        })
    }

    /// All sockets with slots, and their bytes now. This is no reading: [`Reader::read`] hands on the
    /// same bytes afterwards.
    pub fn peek(&self) -> impl Iterator<Item = Counted> {
        self.cookies().filter_map(|(slot, cookie)| {
            let filled = self.slot(slot).filter(|counted| counted.is_filled())?;
            Some(Counted { slot, cookie, inode: filled.inode(), bytes: filled.bytes() })
        })
    }

    /// The bytes in the slot of this socket now.
    pub fn bytes(&self, of: &Counted) -> Bytes {
        self.slot(of.slot).map(Slot::bytes).unwrap_or_default()
    }

    /// Whether the slot in which a socket was read still belongs to it.
    pub fn has(&self, of: &Counted) -> bool {
        self.owner(of.slot).is_some_and(|owner| owner.load(Acquire) == of.cookie)
    }

    fn count(&self, of: impl Fn(&Totals) -> &AtomicU64) -> u64 {
        self.totals.first().map_or(0, |totals| of(totals).load(Relaxed))
    }

    fn claimed_now(&self) -> u64 {
        self.count(|totals| &totals.claimed)
    }

    /// Whether so many slots were given to sockets since the last reading that the next one is due.
    pub fn is_filling(&self) -> bool {
        self.claimed_now() - self.claimed > self.capacity() as u64 / FILLING
    }

    /// The origin of a socket that was read; `None` if its slot belongs to another one by now.
    pub fn origin(&self, of: &Counted) -> Option<Origin> {
        if let Some(place) = (of.slot as usize).checked_sub(self.capacity()) {
            return self.packets.origin(place);
        }
        let now = self.slot(of.slot)?.origin();
        if ![of.cookie, LEAVING].contains(&self.owner(of.slot)?.load(Acquire)) {
            return None;
        }
        // The slot of a socket that was made in it has the origin.
        if now.maker.is_some() && !now.accepted {
            return Some(now);
        }
        Some(self.gone.get(of.cookie).map_or(now, |before| now.after(before)))
    }

    /// The Multipath TCP sockets that were released at the last reading: the token of each, which its subflows
    /// have too, and its closer.
    pub fn closed_multipath(&self) -> &[(u32, Task)] {
        &self.closed_multipath
    }

    /// Takes a slot from the socket that was read in it. The socket gets another slot if it needs one,
    /// and keeps its `origin`. Bytes counted until now come with the next reading.
    pub fn take_back(&mut self, from: &Counted, origin: &Origin) {
        let Some(owner) = self.owner(from.slot) else { return };
        if owner.compare_exchange(from.cookie, LEAVING, Relaxed, Relaxed).is_ok() {
            self.leaving.push(*from);
            if !origin.ended {
                self.gone.insert(from.cookie, origin);
            }
        }
    }

    /// Frees a slot for another socket.
    fn free(&self, slot: u32) {
        if let (Some(left), Some(owner)) = (self.slot(slot), self.owner(slot)) {
            let user = left.clear();
            if let Some(has) = self.users.get(user as usize) {
                has.fetch_sub(1, Relaxed);
            }
            if let Some(totals) = self.totals.first() {
                totals.freed.fetch_add(1, Relaxed);
            }
            // Only now may it be written to.
            owner.store(FREE, Release);
        }
    }

    /// Frees the slots that were read for the last time, as the next reading does.
    pub fn give_back(&mut self) {
        for slot in std::mem::take(&mut self.left) {
            self.free(slot);
        }
    }

    /// Bytes counted outside the slots, for each network namespace by its cookie, or 0 if that isn't known. A
    /// namespace that is left out starts anew if it returns.
    pub fn outside(&mut self) -> impl Iterator<Item = (u64, Outside)> {
        let changes = self.count(|totals| &totals.outside);
        self.outside.read(changes)
    }
}

/// The number of slots to make. Each socket of a process is an open file, in any namespace.
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
