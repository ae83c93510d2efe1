//! The bytes of every socket of the host, counted in the kernel, and who made it.
//!
//! Small programs (`program/sockets.bpf.c`) are attached to the root of the cgroup hierarchy, so that they see
//! the sockets of every process: one counts each packet that a socket receives and one each that it sends, one
//! sees sockets being made, one sees connections being established from outside, and one sees sockets being let
//! go of. Two more, at tracepoints, see what no such socket has: frames of packet sockets, and packets for which
//! there is no socket; before Linux 6.6 a third sees the answers of servers to those who connect over IPv6. They
//! look at no more of a packet than its headers, and let every packet pass. Nothing is pinned: when this process
//! ends, however it does, the kernel detaches them.
//!
//! A socket's bytes are those of its IP packets, headers included, as connection tracking counts them: a
//! packet that the device or the kernel cuts into segments later counts once, with one header. A packet socket's
//! bytes are those of its frames.

mod cgroup;
mod frames;
mod gone;
mod handshakes;
mod load;
mod mapping;
mod outside;
mod processes;
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
pub(crate) use slots::TICK;
use slots::{Bucket, FREE, LEAVING, Slot, Totals, WAYS};
pub use slots::{Bytes, Origin, Task};

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

/// How many users are told apart (`USERS`).
const USERS: usize = 4096;

/// The bytes of a socket, as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its slot: what is asked of the socket is asked of this.
    pub slot: u32,
    /// Which socket it is, of all namespaces and for all time.
    pub cookie: u64,
    /// By which descriptors name it; `None` where that isn't known (yet).
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

/// Counts the bytes of all sockets, from the moment that it is opened.
#[derive(Debug)]
pub struct Reader {
    /// In the order of their ways, and in each way of the buckets.
    slots: Mapping<Slot>,
    buckets: Mapping<Bucket>,
    totals: Mapping<Totals>,
    /// How many slots the users have.
    users: Mapping<AtomicU64>,
    handshakes: Mapping<Set>,
    waiting: Waiting,
    outside: Namespaces,
    /// The network namespaces of the listening sockets at the last reading, and at the one before.
    listening: [HashMap<u64, u64, RandomState>; 2],
    /// Multipath TCP sockets that were let go of, as they were read last: their tokens, and by whom.
    closed_multipath: Vec<(u32, Task)>,
    packets: PacketSockets,
    /// How many of them the users have.
    packet_users: Mapping<AtomicU64>,
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
    programs: Programs,
}

/// Does something while no signal reaches this thread, nor those that it starts: the kernel gives up looking at a
/// program when one comes, as if it refused it. Other threads take them, or this one afterwards.
fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    // Where that is refused, it is as it would be without.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let done = work();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    done
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
        let mut reads_kernel = load::has_types();
        loop {
            let refused = match undisturbed(|| Programs::load(&root, capacity, reads_kernel)) {
                Ok(programs) => return Reader::of(programs, capacity),
                Err(refused) => refused,
            };
            match refused.errno() {
                Some(Errno::NOMEM | Errno::TOOBIG) if capacity > FEWEST_SLOTS => {
                    capacity /= 2;
                    // The kernel frees what it could not fill a moment later.
                    std::thread::sleep(FREED);
                }
                // It may keep its own structures to itself (lockdown).
                _ if reads_kernel => reads_kernel = false,
                _ => return Err(refused),
            }
        }
    }

    fn of(mut programs: Programs, capacity: u32) -> Result<Reader, OpenError> {
        let map = |error: aya::maps::MapError| OpenError::new(format!("a map: {error}"));
        let mut reader = Reader {
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

    /// Whether the network namespace of every socket is known, and which process has made it: where the kernel
    /// lets its own structures be read.
    pub fn reads_kernel(&self) -> bool {
        self.programs.reads_kernel
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

    /// Where it stands which socket has a slot.
    fn owner(&self, slot: u32) -> Option<&AtomicU64> {
        let (slot, buckets) = (slot as usize, self.buckets.len());
        self.buckets.get(slot % buckets)?.cookies.get(slot / buckets)
    }

    /// Hands on the bytes of every socket. Those that are its last in this slot come with what was read there
    /// before: where that is more, the [origin](Reader::origin) is known until [`Reader::give_back`].
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
            // One that is being filled at this moment comes with the next reading.
            let Some(filled) = self.slot(slot).filter(|counted| counted.is_filled()) else {
                continue;
            };
            let (bytes, inode) = (filled.bytes(), filled.inode());
            // So does one that has got the slot of a silent one at this moment.
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

    /// Gives listening sockets what has come to nothing.
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

    /// The slot of a socket that has one: in one of two buckets, as in `program/slots.h`.
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

    /// Every socket that has a slot now, with its bytes. It is no reading: [`Reader::read`] hands on the
    /// same bytes afterwards.
    pub fn peek(&self) -> impl Iterator<Item = Counted> {
        self.cookies().filter_map(|(slot, cookie)| {
            let filled = self.slot(slot).filter(|counted| counted.is_filled())?;
            Some(Counted { slot, cookie, inode: filled.inode(), bytes: filled.bytes() })
        })
    }

    /// The bytes that stand in the slot of this socket now.
    pub fn bytes(&self, of: &Counted) -> Bytes {
        self.slot(of.slot).map(Slot::bytes).unwrap_or_default()
    }

    /// Whether the slot in which a socket was read is still its own.
    pub fn has(&self, of: &Counted) -> bool {
        self.owner(of.slot).is_some_and(|owner| owner.load(Acquire) == of.cookie)
    }

    fn count(&self, of: impl Fn(&Totals) -> &AtomicU64) -> u64 {
        self.totals.first().map_or(0, |totals| of(totals).load(Relaxed))
    }

    fn claimed_now(&self) -> u64 {
        self.count(|totals| &totals.claimed)
    }

    /// Whether so many sockets have got slots since the last reading that it is time for the next one.
    pub fn is_filling(&self) -> bool {
        self.claimed_now() - self.claimed > self.capacity() as u64 / FILLING
    }

    /// What is known of a socket that was read, beside its bytes; `None` if its slot is another's by now.
    pub fn origin(&self, of: &Counted) -> Option<Origin> {
        if let Some(place) = (of.slot as usize).checked_sub(self.capacity()) {
            return self.packets.origin(place);
        }
        let now = self.slot(of.slot)?.origin();
        if ![of.cookie, LEAVING].contains(&self.owner(of.slot)?.load(Acquire)) {
            return None;
        }
        // Of one that was made in this slot it stands there.
        if now.maker.is_some() && !now.accepted {
            return Some(now);
        }
        Some(self.gone.get(of.cookie).map_or(now, |before| now.after(before)))
    }

    /// The Multipath TCP sockets that were let go of at the last reading: the token of each, which its subflows
    /// have too, and who let go of it.
    pub fn closed_multipath(&self) -> &[(u32, Task)] {
        &self.closed_multipath
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

    /// Lets other sockets have the slots that were read for the last time. The next reading does so, too.
    pub fn give_back(&mut self) {
        for slot in std::mem::take(&mut self.left) {
            self.free(slot);
        }
    }

    /// What was counted outside the slots, for each network namespace by its cookie, 0 where that isn't known. One
    /// that is left out begins anew should it come again.
    pub fn outside(&mut self) -> impl Iterator<Item = (u64, Outside)> {
        let changes = self.count(|totals| &totals.outside);
        self.outside.read(changes)
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
