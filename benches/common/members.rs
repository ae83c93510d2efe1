//! The processes of a group.

use std::fs;

/// The processes of a group, each with the ticks of CPU time that it and the children it waited for
/// took. Those that have ended but were not waited for are without memory, but their time counts.
pub(crate) fn members(group: i32) -> anyhow::Result<Vec<(i32, u64)>> {
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
pub(crate) fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
