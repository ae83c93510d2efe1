//! Loads and attaches the programs, with every feature that this kernel and this user allow.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::Map;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use rustix::io::Errno;

use super::mapping::{Mapping, Shared};
use super::remotes;
use super::slots::WAYS;

/// The compiled programs, committed beside their source, so that building the library needs no
/// clang.
static OBJECT: &[u8] = include_bytes_aligned!("program/sockets.bpf.o");

/// The fix for missing privileges.
const MEND_PERMISSION: &str = "run it as root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN)";

/// The programs at the root cgroup, in the order of attaching: those that see sockets being made come first,
/// because the release of a socket without a maker is useless.
const AT_CGROUP: [&str; 5] = ["create", "establish", "release", "ingress", "egress"];

/// Programs at tracepoints, with the names of these.
const AT_TRACEPOINTS: [(&str, &str); 2] = [("queue", "net_dev_queue"), ("drop", "kfree_skb")];

/// A program for kernels before this version, for answers that the cgroup's hook misses.
const AT_TRACEPOINT_BEFORE: ((&str, &str), (u32, u32)) = (("answer", "net_dev_queue"), (6, 6));

/// Why sockets can't be counted here.
#[derive(Debug)]
pub struct OpenError {
    why: String,
    mend: Option<&'static str>,
    errno: Option<Errno>,
}

impl Error for OpenError {}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        self.mend.map_or(Ok(()), |mend| write!(f, "; to mend it: {mend}"))
    }
}

impl OpenError {
    pub(super) fn new(why: impl Into<String>) -> OpenError {
        OpenError { why: why.into(), mend: None, errno: None }
    }

    /// The error of the loader: the innermost error is the kernel's.
    pub(super) fn from_loader(what: &str, error: &(dyn Error + 'static)) -> OpenError {
        match errno(error) {
            Some(errno) => OpenError {
                why: format!("{what}: {}", io::Error::from(errno)),
                // The verifier reports EACCES, also if CAP_PERFMON is missing.
                mend: matches!(errno, Errno::PERM | Errno::ACCESS).then_some(MEND_PERMISSION),
                errno: Some(errno),
            },
            None => OpenError::new(format!("{what}: {error}")),
        }
    }

    /// The reason, without the fix.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The fix, if more privileges would help.
    pub fn mend(&self) -> Option<&'static str> {
        self.mend
    }

    /// The kernel's error, if the kernel refused.
    pub(super) fn errno(&self) -> Option<Errno> {
        self.errno
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

/// The layout of the kernel's structures (BTF). The loader reads it by itself.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Whether the kernel has BTF.
pub(super) fn has_types() -> bool {
    Path::new(TYPES).exists()
}

/// The first two numbers of the running kernel's version; `None` if it has another form.
pub(super) fn version() -> Option<(u32, u32)> {
    first_two_numbers(rustix::system::uname().release().to_bytes())
}

fn first_two_numbers(release: &[u8]) -> Option<(u32, u32)> {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit());
    let mut number = || std::str::from_utf8(numbers.next()?).ok()?.parse().ok();
    number().zip(number())
}

/// A loader that knows the kernel's structures. Their descriptions take tens of megabytes for a moment: the
/// memory of a thread returns to the system when it ends.
pub(super) fn loader<'a>() -> EbpfLoader<'a> {
    std::thread::spawn(EbpfLoader::new).join().unwrap_or_default()
}

/// The layout of the kernel's structures, if it has BTF: the loader has it, but doesn't expose it. Only for a
/// moment, because of its memory.
fn types() -> Option<Btf> {
    std::thread::spawn(Btf::from_sys_fs).join().ok()?.ok()
}

/// The programs, which stay attached until this is dropped.
#[derive(Debug)]
pub(super) struct Programs {
    programs: Ebpf,
    /// Whether they read the kernel's structures, and so identify processes and namespaces
    /// reliably.
    pub(super) reads_kernel: bool,
}

impl Programs {
    /// Loads the programs with `capacity` slots, and attaches them to the root cgroup; `reads_kernel`
    /// lets them read the kernel's structures, `remotes` count by remote end.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub(super) fn load(
        root: &File,
        capacity: u32,
        reads_kernel: bool,
        remotes: bool,
    ) -> Result<Programs, OpenError> {
        let buckets = capacity / WAYS as u32;
        let seed = std::hash::RandomState::new().hash_one(capacity);
        let reading = u32::from(reads_kernel);
        let (has_remotes, room, asked) =
            if remotes { (1_u32, remotes::ROOM, remotes::ASKED) } else { (0, 1, 1) };
        let mut loader = loader();
        if !reads_kernel {
            loader.btf(None);
        }
        let mut programs = loader
            .override_global("bucket_count", &buckets, true)
            .override_global("seed", &seed, true)
            .override_global("reads_kernel", &reading, true)
            .override_global("has_remotes", &has_remotes, true)
            .map_max_entries("remotes", room)
            .map_max_entries("asked_over", asked)
            .map_max_entries("slots", capacity)
            .map_max_entries("buckets", buckets)
            .load(OBJECT)
            .map_err(|error| OpenError::from_loader("the kernel refuses eBPF maps", &error))?;
        for name in AT_CGROUP {
            let loaded = match programs.program_mut(name) {
                Some(Program::CgroupSkb(program)) => program.load(),
                Some(Program::CgroupSock(program)) => program.load(),
                Some(Program::SockOps(program)) => program.load(),
                _ => Err(ProgramError::UnexpectedProgramType),
            };
            loaded.map_err(|error| {
                OpenError::from_loader("the kernel refuses eBPF programs", &error)
            })?;
        }
        for name in AT_CGROUP {
            // By links, of which any number of programs may be attached beside each other.
            let mode = CgroupAttachMode::Single;
            let direction = match name {
                "ingress" => CgroupSkbAttachType::Ingress,
                _ => CgroupSkbAttachType::Egress,
            };
            let attached = match programs.program_mut(name) {
                Some(Program::CgroupSkb(program)) => {
                    program.attach(root, direction, mode).map(drop)
                }
                Some(Program::CgroupSock(program)) => program.attach(root, mode).map(drop),
                Some(Program::SockOps(program)) => program.attach(root, mode).map(drop),
                _ => Err(ProgramError::UnexpectedProgramType),
            };
            attached.map_err(|error| {
                OpenError::from_loader("eBPF programs can't be attached to cgroups", &error)
            })?;
        }
        let mut programs = Programs { programs, reads_kernel };
        if reads_kernel && let Some(types) = types() {
            let (older, before) = AT_TRACEPOINT_BEFORE;
            let older = version().is_some_and(|version| version < before).then_some(older);
            for (name, tracepoint) in AT_TRACEPOINTS.into_iter().chain(older) {
                programs.trace(name, tracepoint, &types);
            }
        }
        Ok(programs)
    }

    /// Attaches a program to a tracepoint. If the kernel refuses, or has no such tracepoint, less
    /// is counted.
    fn trace(&mut self, name: &str, tracepoint: &str, types: &Btf) {
        let _ = match self.programs.program_mut(name) {
            Some(Program::RawTracePoint(program)) => {
                program.load().and_then(|()| program.attach(tracepoint).map(drop))
            }
            Some(Program::BtfTracePoint(program)) => {
                program.load(tracepoint, types).and_then(|()| program.attach().map(drop))
            }
            _ => Err(ProgramError::UnexpectedProgramType),
        };
    }

    /// Maps the memory of a map, which the kernel shares.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn mapping<T: Shared>(
        &self,
        name: &str,
        length: usize,
    ) -> Result<Mapping<T>, OpenError> {
        let mapped = match self.programs.map(name) {
            Some(Map::Array(map)) => Mapping::of(map.fd().as_fd(), length),
            _ => Err(Errno::NOENT),
        };
        mapped.map_err(|errno| OpenError {
            why: format!("the counters can't be mapped: {errno}"),
            mend: None,
            errno: Some(errno),
        })
    }

    /// Takes a hash map.
    ///
    /// # Errors
    /// None has this name.
    pub(super) fn take_map(&mut self, name: &str) -> Result<Map, OpenError> {
        let missing = || OpenError::new(format!("the map {name} is missing"));
        self.programs.take_map(name).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(first_two_numbers(b"6.1.0-50-cloud-amd64"), Some((6, 1)));
        assert_eq!(first_two_numbers(b"6.12.117+deb13-rt-amd64"), Some((6, 12)));
        assert_eq!(first_two_numbers(b"7.3-rc1"), Some((7, 3)));
        assert_eq!(first_two_numbers(b"6"), None);
        assert_eq!(first_two_numbers(b"custom"), None);
    }
}
