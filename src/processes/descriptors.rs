//! Reads `/proc`: directories by getdents, links by readlinkat, small files by one read. It keeps
//! no results.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, RawDir, fstat, openat, readlinkat, readlinkat_raw, statat,
};
use rustix::io::Errno;

use super::describe::{self, COMMAND_LINE_MAX};
use super::label;
use crate::netns::{self, NetnsId};

/// Room for about a thousand directory entries a system call.
const DIRECTORY_BUFFER: usize = 32 * 1024;
/// A link to a socket is shorter; a longer target is cut and is no socket.
const LINK_BUFFER: usize = 40;
/// Room for most of these files.
const READ_BUFFER: usize = 1024;
/// `/proc/PID/stat` has about 350 bytes.
const STAT_BUFFER: usize = 4096;
/// `/proc/PID/status` has about 1500 bytes, more with many groups; the user is near its start.
const STATUS_BUFFER: usize = 4096;
/// `/proc/PID/schedstat` has three numbers.
const SCHEDSTAT_BUFFER: usize = 128;
/// A dozen paths, each at most `PATH_MAX`; nearly always one line.
const CGROUP_BUFFER: usize = 64 * 1024;

/// Why a process could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It has ended, which is no error.
    Vanished,
    /// The user may not read it.
    Denied,
    /// Another error, such as no free descriptor.
    Failed(Errno),
}

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Unreadable {
        match errno {
            Errno::NOENT | Errno::SRCH => Unreadable::Vanished,
            Errno::ACCESS | Errno::PERM => Unreadable::Denied,
            other => Unreadable::Failed(other),
        }
    }
}

/// A process in the listing of `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) pid: u32,
    /// The inode number of its directory. procfs makes a new one for a new process with an old pid,
    /// so a changed number means a possible reuse.
    pub(super) directory: u64,
}

/// One mounted procfs.
#[derive(Debug)]
pub(super) struct Proc {
    root: OwnedFd,
    directory_buffer: Vec<u8>,
    /// Processes whose main thread has ended, each with a thread that continues: the files of the process
    /// are empty, and those of the thread aren't.
    through: HashMap<u32, u32>,
}

/// The size of a process's descriptor table, which is known without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TableSize(u64);

impl TableSize {
    /// Whether the kernel reports the size (Linux 6.2 and later).
    pub(super) fn is_known(self) -> bool {
        self.0 != 0
    }
}

impl Proc {
    pub(super) fn open(path: &Path) -> Result<Proc, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        Ok(Proc {
            root,
            directory_buffer: Vec::with_capacity(DIRECTORY_BUFFER),
            through: HashMap::new(),
        })
    }

    /// The same procfs, for another thread.
    pub(super) fn again(&self) -> std::io::Result<Proc> {
        Ok(Proc {
            root: self.root.try_clone()?,
            directory_buffer: Vec::with_capacity(DIRECTORY_BUFFER),
            through: HashMap::new(),
        })
    }

    /// Lists all processes.
    pub(super) fn list(&mut self, mut each: impl FnMut(Listed)) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&self.root, c".", flags, Mode::empty())?;
        each_entry(&directory, &mut self.directory_buffer, |name, inode| {
            if let Some(pid) = describe::number(name.to_bytes()) {
                each(Listed { pid, directory: inode });
            }
        })
    }

    /// The pid of the calling process.
    pub(super) fn own(&self) -> Option<u32> {
        describe::number(readlinkat(&self.root, "self", Vec::new()).ok()?.as_bytes())
    }

    /// The start time and the name of a process.
    pub(super) fn stat(&self, pid: u32) -> Result<(u64, Vec<u8>), Unreadable> {
        start_and_name(&self.read(pid, "stat", STAT_BUFFER)?)
    }

    /// The raw command line of a process; empty for one that is ending, or has ended.
    pub(super) fn cmdline(&self, pid: u32) -> Result<Vec<u8>, Unreadable> {
        let cmdline = self.read(pid, "cmdline", COMMAND_LINE_MAX)?;
        if cmdline.is_empty()
            && let Some(thread) = self.living_thread(pid)
        {
            return read(&self.root, format!("{pid}/task/{thread}/cmdline"), COMMAND_LINE_MAX);
        }
        Ok(cmdline)
    }

    /// A thread that continues although the main thread of its process has ended.
    fn living_thread(&self, pid: u32) -> Option<u32> {
        let stat = self.read(pid, "stat", STAT_BUFFER).ok()?;
        if !matches!(describe::stat(&stat)?.state, b'Z' | b'X') {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let task = openat(&self.root, format!("{pid}/task"), flags, Mode::empty()).ok()?;
        let mut threads = Vec::new();
        each_entry(&task, &mut Vec::with_capacity(DIRECTORY_BUFFER), |name, _| {
            threads.extend(describe::number(name.to_bytes()).filter(|thread| *thread != pid));
        })
        .ok()?;
        threads.into_iter().find(|thread| {
            let stat = read(&self.root, format!("{pid}/task/{thread}/stat"), STAT_BUFFER);
            let state = stat.ok().and_then(|stat| Some(describe::stat(&stat)?.state));
            state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
        })
    }

    /// The path of a file of a process, which is that of a living thread if the main thread has
    /// ended.
    fn path(&self, pid: u32, name: &str) -> String {
        match self.through.get(&pid) {
            Some(thread) => format!("{pid}/task/{thread}/{name}"),
            None => format!("{pid}/{name}"),
        }
    }

    /// Forgets a process that has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        self.through.remove(&pid);
    }

    /// The effective user of a process.
    pub(super) fn user(&self, pid: u32) -> Option<u32> {
        label::user(&self.read(pid, "status", STATUS_BUFFER).ok()?)
    }

    /// The cgroups of a process.
    pub(super) fn cgroup(&self, pid: u32) -> Result<Vec<u8>, Unreadable> {
        self.read(pid, "cgroup", CGROUP_BUFFER)
    }

    /// The path of a process's executable file.
    pub(super) fn exe(&self, pid: u32) -> Option<Vec<u8>> {
        let target = readlinkat(&self.root, format!("{pid}/exe"), Vec::new()).ok()?;
        Some(label::exe(target.as_bytes()))
    }

    fn read(&self, pid: u32, name: &str, limit: usize) -> Result<Vec<u8>, Unreadable> {
        read(&self.root, format!("{pid}/{name}"), limit)
    }

    /// The network namespace of a process, if the user may read it.
    pub(super) fn netns(&self, pid: u32) -> Option<NetnsId> {
        netns_link(&self.root, self.path(pid, "ns/net"))
    }

    /// The run time of a process in nanoseconds; `None` if it has several threads, because the file
    /// covers only one, or if the kernel doesn't report it.
    pub(super) fn run_time(&self, pid: u32) -> Option<u64> {
        let threads = statat(&self.root, format!("{pid}/task"), AtFlags::empty()).ok()?;
        // A directory for each thread, and the two that every directory has.
        if threads.st_nlink != 3 {
            return None;
        }
        let schedstat = self.read(pid, "schedstat", SCHEDSTAT_BUFFER).ok()?;
        let first = schedstat.split(|byte| *byte == b' ').next()?;
        std::str::from_utf8(first).ok()?.parse().ok()
    }

    /// Whether a process may have run since its run time was `run_time`.
    pub(super) fn may_have_run(&self, pid: u32, run_time: u64) -> bool {
        self.run_time(pid) != Some(run_time)
    }

    /// The owner of a process's directory: nearly always its effective user.
    pub(super) fn directory_user(&self, pid: u32) -> Option<u32> {
        Some(statat(&self.root, format!("{pid}"), AtFlags::empty()).ok()?.st_uid)
    }

    /// The descriptors of a process, kept open: they stay this process's even if its pid is reused.
    pub(super) fn descriptors(&self, pid: u32) -> Result<Descriptors, Unreadable> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = openat(&self.root, format!("{pid}/fd"), flags, Mode::empty())?;
        let mut process = "..";
        // Kernels before 6.2 report size 0, which no process with descriptors has.
        if fstat(&directory)?.st_size == 0
            && let Some(thread) = self.living_thread(pid)
        {
            let path = format!("{pid}/task/{thread}/fd");
            directory = openat(&self.root, path, flags, Mode::empty())?;
            process = "../../..";
        }
        Ok(Descriptors { directory, process })
    }

    /// The number of a process's descriptors, if the kernel reports it.
    pub(super) fn table_size(&self, pid: u32) -> Result<TableSize, Unreadable> {
        let stat = statat(&self.root, self.path(pid, "fd"), AtFlags::empty())?;
        Ok(TableSize(stat.st_size.unsigned_abs()))
    }

    /// Reads the descriptors of a process. `known` gives the socket that a descriptor can be
    /// assumed to be without reading it; `each` receives every descriptor that is a socket.
    pub(super) fn sockets(
        &mut self,
        pid: u32,
        mut known: impl FnMut(u32) -> Option<u32>,
        mut each: impl FnMut(u32, u32),
    ) -> Result<TableSize, Unreadable> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path| openat(&self.root, path, flags, Mode::empty());
        let mut directory = open(self.path(pid, "fd"));
        if self.through.contains_key(&pid) && directory.is_err() {
            self.through.remove(&pid);
            directory = open(self.path(pid, "fd"));
        }
        let mut directory = directory?;
        // Before the entries: a table that changes meanwhile has another size at the next look.
        let mut size = TableSize(fstat(&directory)?.st_size.unsigned_abs());
        if !size.is_known()
            && !self.through.contains_key(&pid)
            && let Some(thread) = self.living_thread(pid)
        {
            self.through.insert(pid, thread);
            directory = open(self.path(pid, "fd"))?;
            size = TableSize(fstat(&directory)?.st_size.unsigned_abs());
        }
        each_entry(&directory, &mut self.directory_buffer, |name, _| {
            let Some(descriptor) = describe::number(name.to_bytes()) else { return };
            let inode = known(descriptor).or_else(|| link_inode(&directory, name));
            if let Some(inode) = inode {
                each(descriptor, inode);
            }
        })?;
        Ok(size)
    }

    /// The socket behind one descriptor of one process.
    pub(super) fn socket(&self, pid: u32, descriptor: u32) -> Option<u32> {
        link_inode(&self.root, self.path(pid, &format!("fd/{descriptor}")))
    }
}

/// The descriptors of one process, as long as it lives.
#[derive(Debug)]
pub(super) struct Descriptors {
    directory: OwnedFd,
    /// The path of the process from the opened directory.
    process: &'static str,
}

impl Descriptors {
    /// The socket behind one descriptor.
    pub(super) fn socket(&self, descriptor: u32) -> Option<u32> {
        let mut name = [0u8; 11];
        link_inode(&self.directory, decimal(descriptor, &mut name))
    }

    /// Start time and name of the process. They stay readable after it has ended, until its parent
    /// reaps it.
    pub(super) fn stat(&self) -> Result<(u64, Vec<u8>), Unreadable> {
        start_and_name(&read(&self.directory, format!("{}/stat", self.process), STAT_BUFFER)?)
    }

    /// The raw command line of their process.
    pub(super) fn cmdline(&self) -> Result<Vec<u8>, Unreadable> {
        read(&self.directory, "../cmdline", COMMAND_LINE_MAX)
    }

    /// The network namespace of the process, if the user may read it.
    pub(super) fn netns(&self) -> Option<NetnsId> {
        netns_link(&self.directory, "../ns/net")
    }

    /// All descriptors, the highest first: a socket that was just opened is among the last.
    pub(super) fn numbers(&self, buffer: &mut Vec<u8>) -> Vec<u32> {
        let mut numbers = Vec::new();
        // The directory's position is where the last listing has left it.
        if rustix::fs::seek(&self.directory, rustix::fs::SeekFrom::Start(0)).is_ok() {
            let _ = each_entry(&self.directory, buffer, |name, _| {
                numbers.extend(describe::number(name.to_bytes()));
            });
        }
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }
}

fn start_and_name(stat: &[u8]) -> Result<(u64, Vec<u8>), Unreadable> {
    // Only an ended process's file is empty.
    let stat = describe::stat(stat).ok_or(Unreadable::Vanished)?;
    Ok((stat.start_time, stat.comm.to_vec()))
}

fn read(
    directory: &OwnedFd,
    path: impl rustix::path::Arg,
    limit: usize,
) -> Result<Vec<u8>, Unreadable> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(openat(directory, path, flags, Mode::empty())?);
    // Usually one read gets everything: without reserved memory it would start with a few bytes.
    let mut bytes = Vec::with_capacity(READ_BUFFER);
    match file.take(limit as u64).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
    }
}

fn netns_link(directory: &OwnedFd, path: impl rustix::path::Arg) -> Option<NetnsId> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); LINK_BUFFER];
    let (target, _) = readlinkat_raw(directory, path, &mut buffer[..]).ok()?;
    netns::parse(target)
}

/// A number as a path, without an allocation: this is called thousands of times a second.
fn decimal(mut number: u32, name: &mut [u8; 11]) -> &std::ffi::CStr {
    let mut at = name.len() - 1;
    name[at] = 0;
    loop {
        at -= 1;
        name[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::ffi::CStr::from_bytes_with_nul(&name[at..]).unwrap_or_default();
        }
    }
}

fn link_inode(directory: impl AsFd, name: impl rustix::path::Arg) -> Option<u32> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); LINK_BUFFER];
    // A descriptor that was closed meanwhile, or may not be read, is no socket here: opening the
    // directory has reported a refusal already.
    let (target, _) = readlinkat_raw(directory, name, &mut buffer[..]).ok()?;
    describe::socket_inode(target)
}

fn each_entry(
    directory: &OwnedFd,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&std::ffi::CStr, u64),
) -> Result<(), Errno> {
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        each(entry.file_name(), entry.ino());
    }
    Ok(())
}
