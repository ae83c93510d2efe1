//! What a process took: CPU time and memory.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// Seconds of CPU time of a process, all of its threads, and of the children it waited for.
pub fn cpu(pid: u32) -> anyhow::Result<f64> {
    // Finer than the ticks in `/proc`: watching bulk takes but a few of them.
    let own = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name may hold anything, but what follows it doesn't.
    let (_, fields) = stat.rsplit_once(')').with_context(|| path.clone())?;
    let ticks = fields.split_whitespace().skip(13).take(2).flat_map(str::parse::<u64>);
    Ok(own.tv_sec() as f64 + own.tv_nsec() as f64 / 1e9 + seconds(ticks.sum()))
}

/// Seconds of CPU time of this thread. Not `getrusage`, which tells what a thread had used at its last tick.
///
/// # Errors
///
/// If there is no such clock.
pub fn cpu_of_thread() -> anyhow::Result<f64> {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now()?;
    Ok(now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9)
}

/// Seconds of CPU time of all processes of a group, which are all there still.
pub fn cpu_of_group(group: i32) -> anyhow::Result<f64> {
    let members = members(group)?;
    Ok(seconds(members.iter().map(|(_, ticks)| ticks).sum()))
}

/// Seconds of CPU time of the threads in which the kernel handles packets when there are too many to do it at once.
pub fn cpu_of_softirqs() -> anyhow::Result<f64> {
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
pub struct Memory {
    pub resident: f64,
    pub anonymous: f64,
    pub peak: f64,
}

impl Memory {
    pub fn of(pid: u32) -> anyhow::Result<Memory> {
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

/// A group is done with what it did as soon as nothing more is added for so long.
const QUIET: Duration = Duration::from_millis(50);
/// So often that is looked at.
const LOOKS: usize = 40;

/// Seconds of CPU time of a group of processes, as soon as it has nothing more to do: the end of a
/// thousand connections is still to be dealt with when the client is gone, and what ends between
/// being looked at and its parent could count twice.
pub fn cpu_of_group_at_rest(group: i32) -> anyhow::Result<f64> {
    let mut last = cpu_of_group(group)?;
    for _ in 0..LOOKS {
        sleep(QUIET);
        let now = cpu_of_group(group)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// Kilobytes (10³ bytes) of a group of processes, each page shared out among those that have it.
/// What the kernel holds for them (buffers, pipes, page tables) is not in it.
pub fn shared_memory(group: i32) -> anyhow::Result<f64> {
    let mut sum = None;
    for (pid, _) in members(group)? {
        // Nothing to read if it has ended.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes = pss.and_then(|rest| rest.split_whitespace().next());
        if let Some(kibibytes) = kibibytes.and_then(|text| text.parse::<f64>().ok()) {
            sum = Some(sum.unwrap_or(0.0) + kibibytes * 1.024);
        }
    }
    ensure!(sum.is_some(), "no process is left in the group {group}");
    Ok(sum.unwrap_or(f64::NAN))
}

/// The processes of a group, each with the ticks of CPU time that it and the children it waited for
/// took. Those that have ended but were not waited for are without memory, but their time counts.
fn members(group: i32) -> anyhow::Result<Vec<(i32, u64)>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name may hold anything, but what follows it doesn't.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // State, parent, group; and from the eleventh on the time of the process itself and of the
        // children it waited for.
        let [state, _, its_group, .., _] = fields[..] else { continue };
        if its_group.parse() == Ok(group) && state != "X" {
            let times = fields.iter().skip(11).take(4).flat_map(|field| field.parse::<u64>());
            members.push((pid, times.sum()));
        }
    }
    Ok(members)
}

/// Ticks as seconds.
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
