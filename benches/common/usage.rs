//! What a process took: CPU time and memory.

use std::fs;

use anyhow::Context;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::members::{members, seconds};

/// Seconds of CPU time of a process, all of its threads, and of the children it waited for.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    // Finer than the ticks in `/proc`: watching bulk takes but a few of them.
    let own = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name may hold anything, but what follows it doesn't.
    let (_, fields) = stat.rsplit_once(')').with_context(|| path.clone())?;
    let ticks = fields.split_whitespace().skip(13).take(2).flat_map(str::parse::<u64>);
    Ok(own.tv_sec() as f64 + own.tv_nsec() as f64 / 1e9 + seconds(ticks.sum()))
}

/// The same of all processes of a group, which are all there still.
pub(crate) fn cpu_of_group(group: u32) -> anyhow::Result<f64> {
    let members = members(group.cast_signed())?;
    Ok(seconds(members.iter().map(|(_, ticks)| ticks).sum()))
}

/// The same of the threads in which the kernel handles packets when there are too many to do it at once.
pub(crate) fn cpu_of_softirqs() -> anyhow::Result<f64> {
    const KERNEL: i32 = 0;
    let is_one = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("ksoftirqd/"))
    };
    let threads = members(KERNEL)?;
    Ok(seconds(threads.iter().filter(|(pid, _)| is_one(pid)).map(|(_, ticks)| ticks).sum()))
}

/// Memory of a process in megabytes (10⁶ bytes): resident now, of which anonymous, and at the most.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) anonymous: f64,
    pub(crate) peak: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Memory> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("ended")?;
            let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
            anyhow::Ok(kibibytes * 1024.0 / 1e6)
        };
        Ok(Memory {
            resident: megabytes("VmRSS:")?,
            anonymous: megabytes("RssAnon:")?,
            peak: megabytes("VmHWM:")?,
        })
    }
}
