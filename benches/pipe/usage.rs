//! What the processes of a forwarder took: CPU time and memory.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;

/// A forwarder is done with what it did as soon as nothing more is added for so long.
const QUIET: Duration = Duration::from_millis(50);
/// So often that is looked at.
const LOOKS: usize = 40;

/// One process of a group.
struct Member {
    pid: i32,
    ticks: u64,
}

/// The processes of a group. Those that have ended but were not waited for are without memory, but
/// their time counts.
fn members(group: i32) -> anyhow::Result<Vec<Member>> {
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
            members.push(Member { pid, ticks: times.sum() });
        }
    }
    Ok(members)
}

/// Seconds of CPU time of a group of processes, as soon as it has nothing more to do: the end of a
/// thousand connections is still to be dealt with when the client is gone, and what ends between
/// being looked at and its parent could count twice.
pub(crate) fn cpu(group: i32) -> anyhow::Result<f64> {
    let ticks = || members(group).map(|all| all.iter().map(|member| member.ticks).sum::<u64>());
    let mut last = ticks()?;
    for _ in 0..LOOKS {
        sleep(QUIET);
        let now = ticks()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Kilobytes (10³ bytes) of a group of processes, each page shared out among those that have it.
/// What the kernel holds for them (buffers, pipes, page tables) is not in it.
pub(crate) fn memory(group: i32) -> anyhow::Result<f64> {
    let mut sum = None;
    for Member { pid, .. } in members(group)? {
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
